//! What the loop remembers of one Service.

use super::fight::Fight;
use super::release::Release;
use super::remind::Reminder;
use crate::index::{Outcome, Trouble};
use sluice_api::WantedService;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// First wait after a write failed; doubles with each further failure.
const MIN_RETRY: Duration = Duration::from_millis(500);
/// Longest wait.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How long a Service may wait for an appliance before its object says so. Most take milliseconds.
const OVERDUE: Duration = Duration::from_secs(2);

/// One Service of ours.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) outcome: Outcome,
    /// Generation of the wanted state that carries the outcome; none while it has not been told.
    pub(super) generation: Option<u64>,
    /// What it waits for, and since when.
    waits: Option<(&'static str, Instant)>,
    /// Wanted services that wait for the finalizer.
    pub(super) held: BTreeMap<String, WantedService>,
    /// A write is under way.
    pub(super) is_writing: bool,
    /// The object said that it is served when that write began.
    pub(super) was_served: bool,
    /// That its going takes long was said, with this reason.
    pub(super) said_slow: Option<&'static str>,
    /// While it is to go.
    pub(super) release: Option<Release>,
    /// After a failed write.
    pub(super) retry_at: Option<Instant>,
    failures: u32,
    pub(super) fight: Fight,
    pub(super) reminder: Reminder,
    /// An appliance may know it.
    was_told: bool,
    /// This process puts the finalizer on, before any appliance has heard of it.
    is_new: bool,
    /// The generation that it came with, if it is new.
    first: Option<u64>,
}

// === impl Record ===

impl Record {
    pub(super) fn new(outcome: Outcome) -> Self {
        Record {
            outcome,
            generation: None,
            waits: None,
            held: BTreeMap::new(),
            is_writing: false,
            was_served: false,
            said_slow: None,
            release: None,
            retry_at: None,
            failures: 0,
            fight: Fight::default(),
            reminder: Reminder::default(),
            was_told: false,
            is_new: false,
            first: None,
        }
    }

    /// Another outcome; returns troubles that are new.
    pub(super) fn turn(&mut self, outcome: Outcome) -> Vec<Trouble> {
        let old = match &self.outcome {
            Outcome::Serve(serve) => serve.troubles.clone(),
            Outcome::Release | Outcome::Refuse(_) => Vec::new(),
        };
        let new = match &outcome {
            Outcome::Serve(serve) => serve.troubles.clone(),
            Outcome::Release | Outcome::Refuse(_) => Vec::new(),
        };
        if outcome != Outcome::Release {
            self.release = None;
        }
        (self.outcome, self.waits, self.said_slow) = (outcome, None, None);
        self.generation = None;
        self.fight.turn();
        new.into_iter().filter(|trouble| !old.contains(trouble)).collect()
    }

    /// It is wanted with this generation, or to go.
    pub(super) fn told(&mut self, generation: Option<u64>) {
        self.generation = generation;
        if matches!(self.outcome, Outcome::Serve(_)) {
            if self.is_new && self.first.is_none() {
                self.first = generation;
            }
            self.was_told = true;
        }
    }

    /// The finalizer is being put on. `is_bare` when the object has no addresses: none was served before then.
    pub(super) fn finalize(&mut self, is_bare: bool) {
        self.is_new |= is_bare && !self.was_told;
    }

    /// The generation before which no appliance had heard of it; none when that is not known.
    pub(super) fn first(&self) -> Option<u64> {
        self.is_new.then(|| self.first.unwrap_or(u64::MAX))
    }

    /// What it waits for, if anything; true when it has for too long. Another reason counts anew: an appliance that came
    /// back a moment ago is not late.
    pub(super) fn is_overdue(&mut self, reason: Option<&'static str>, now: Instant) -> bool {
        let Some(reason) = reason else {
            self.waits = None;
            return false;
        };
        let (_, since) = self.waits.filter(|(r, _)| *r == reason).unwrap_or((reason, now));
        self.waits = Some((reason, since));
        now.saturating_duration_since(since) >= OVERDUE
    }

    pub(super) fn succeeded(&mut self) {
        (self.is_writing, self.failures, self.retry_at) = (false, 0, None);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        let wait = MIN_RETRY.saturating_mul(1 << self.failures.min(6)).min(MAX_RETRY);
        self.failures = self.failures.saturating_add(1);
        (self.is_writing, self.retry_at) = (false, Some(now + wait));
    }

    /// Its state in one word, for metrics.
    pub(super) fn word(&self, is_waiting: bool) -> &'static str {
        match (&self.outcome, is_waiting || self.is_writing) {
            (Outcome::Serve(_), false) => "served",
            (Outcome::Serve(_), true) => "pending",
            (Outcome::Release, _) => "releasing",
            (Outcome::Refuse(_), _) => "refused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Serve;

    #[test]
    fn only_who_was_never_served_is_certain_to_be_new() {
        let record = || Record::new(Outcome::Serve(Serve::default()));
        let mut new = record();
        new.finalize(true);
        assert_eq!(new.first(), Some(u64::MAX), "no appliance was told");
        new.told(Some(7));
        new.told(Some(9));
        assert_eq!(new.first(), Some(7));
        new.turn(Outcome::Release);
        new.told(Some(11));
        assert_eq!(new.first(), Some(7));
        let mut old = record();
        old.told(Some(7));
        // Somebody took the finalizer off.
        old.finalize(true);
        assert_eq!(old.first(), None, "an earlier bridge may have told anybody");
        let mut taken_over = record();
        taken_over.finalize(false);
        taken_over.told(Some(7));
        assert_eq!(taken_over.first(), None, "it has addresses");
    }

    #[test]
    fn what_is_waited_for_is_overdue_after_a_while_for_each_reason() {
        let (mut record, start) = (Record::new(Outcome::Release), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for (seconds, reason, is_overdue) in [
            (0, Some("a"), false),
            (1, Some("a"), false),
            (2, Some("a"), true),
            (3, Some("b"), false),
            (5, Some("b"), true),
            (6, None, false),
            (9, Some("b"), false),
        ] {
            assert_eq!(record.is_overdue(reason, after(seconds)), is_overdue, "{seconds}");
        }
    }
}
