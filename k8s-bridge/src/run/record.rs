//! What the loop remembers of one Service.

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
    /// That it takes long was said.
    pub(super) is_said_slow: bool,
    /// After a failed write.
    pub(super) retry_at: Option<Instant>,
    failures: u32,
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
            is_said_slow: false,
            retry_at: None,
            failures: 0,
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
        (self.outcome, self.waits, self.is_said_slow) = (outcome, None, false);
        self.generation = None;
        new.into_iter().filter(|trouble| !old.contains(trouble)).collect()
    }

    /// It waits for this; true when it has for too long. Another reason counts anew: an appliance that came back a
    /// moment ago is not late.
    pub(super) fn waits_for(&mut self, reason: &'static str, now: Instant) -> bool {
        let (_, since) = self.waits.filter(|(r, _)| *r == reason).unwrap_or((reason, now));
        self.waits = Some((reason, since));
        now.saturating_duration_since(since) >= OVERDUE
    }

    /// It waits for nothing: what it waits for next counts anew.
    pub(super) fn waits_no_more(&mut self) {
        self.waits = None;
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
