//! Writes that another controller undoes: repeated more and more slowly, and named.
//!
//! Two controllers that both think a Service is theirs would write as fast as the API server lets them.

use crate::status::machine::{Ready, Write};
use std::time::{Duration, Instant};

/// First wait; doubles with each further time. The first undoing is answered at once: it may have been an accident.
const MIN_WAIT: Duration = Duration::from_secs(1);
/// Longest wait: so long a status may be wrong once the other one has stopped.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// After so long without one it is no fight. Longer than the longest wait, so that a slow rival is one too.
const QUIET: Duration = Duration::from_secs(600);
/// Times after which it is said. A user who edits a status by hand does so once or twice.
const SAY_AFTER: u32 = 3;
/// Between two events about it; they expire after an hour.
const SAY_EVERY: Duration = Duration::from_secs(1_800);

/// What was written of one Service, and how often it was undone.
#[derive(Debug, Default)]
pub(super) struct Fight {
    has_finalized: bool,
    /// The last status, and the object's generation that it was written for.
    status: Option<(Option<i64>, Ready)>,
    undone: u32,
    /// It was seen that the last write was undone.
    is_seen: bool,
    last: Option<Instant>,
    said: Option<Instant>,
}

// === impl Fight ===

impl Fight {
    /// A write was carried out.
    pub(super) fn wrote(&mut self, write: &Write, generation: Option<i64>) {
        self.is_seen = false;
        match write {
            Write::AddFinalizer => self.has_finalized = true,
            Write::Status { ready, .. } => self.status = Some((generation, ready.clone())),
            Write::ClearStatus { .. } | Write::RemoveFinalizer => *self = Fight::default(),
        }
    }

    /// Something else is to be written from now on.
    pub(super) fn turn(&mut self) {
        self.status = None;
    }

    /// When a write may begin: later than now when it says what was said before, and somebody has undone that too often.
    pub(super) fn not_before(
        &mut self,
        write: &Write,
        generation: Option<i64>,
        now: Instant,
    ) -> Instant {
        let is_again = match write {
            Write::AddFinalizer => self.has_finalized,
            Write::Status { ready, .. } => {
                self.status.as_ref().is_some_and(|(at, said)| *at == generation && said == ready)
            }
            Write::ClearStatus { .. } | Write::RemoveFinalizer => false,
        };
        if !is_again {
            return now;
        }
        if !std::mem::replace(&mut self.is_seen, true) {
            if self.last.is_some_and(|last| now.saturating_duration_since(last) > QUIET) {
                self.undone = 0;
            }
            self.undone = self.undone.saturating_add(1);
            self.last = Some(now);
        }
        let wait = match self.undone {
            0 | 1 => Duration::ZERO,
            times => MIN_WAIT.saturating_mul(1 << (times - 2).min(6)).min(MAX_WAIT),
        };
        self.last.map_or(now, |last| last + wait)
    }

    /// How often it was undone, when that is to be said now.
    pub(super) fn due(&mut self, now: Instant) -> Option<u32> {
        let is_due = self.said.is_none_or(|at| now.saturating_duration_since(at) >= SAY_EVERY);
        let is_said = self.undone >= SAY_AFTER && is_due;
        is_said.then(|| {
            self.said = Some(now);
            self.undone
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(reason: &str) -> Write {
        let ready = Ready { is_served: true, reason: reason.into(), message: String::new() };
        Write::Status { ingress: None, ready }
    }

    /// Seconds between the writes of somebody whom another one undoes at once.
    fn waits(fight: &mut Fight, write: &Write, start: Instant, times: usize) -> Vec<u64> {
        let mut now = start;
        (0..times)
            .map(|_| {
                let at = fight.not_before(write, Some(1), now);
                let wait = at.saturating_duration_since(now);
                now = at.max(now);
                assert_eq!(fight.not_before(write, Some(1), now), at, "looking again counts not");
                fight.wrote(write, Some(1));
                wait.as_secs()
            })
            .collect()
    }

    #[test]
    fn what_is_undone_is_repeated_more_and_more_slowly() {
        for write in [status("Served"), Write::AddFinalizer] {
            let (mut fight, start) = (Fight::default(), Instant::now());
            let got = waits(&mut fight, &write, start, 11);
            assert_eq!(got, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
            assert_eq!(fight.due(start), Some(10));
            assert_eq!(fight.due(start + Duration::from_secs(60)), None, "said");
            let later = start + Duration::from_secs(1_900);
            assert_eq!(fight.due(later), Some(10), "events expire");
            let much_later = later + QUIET;
            assert_eq!(waits(&mut fight, &write, much_later, 2), [0, 1], "it begins anew");
        }
    }

    #[test]
    fn news_are_no_fight() {
        let (mut fight, now) = (Fight::default(), Instant::now());
        for reason in ["Served", "EndpointsUnreachable"].repeat(9) {
            assert_eq!(fight.not_before(&status(reason), Some(1), now), now);
            fight.wrote(&status(reason), Some(1));
        }
        for generation in 2..9 {
            assert_eq!(fight.not_before(&status("Served"), Some(generation), now), now, "an edit");
            fight.wrote(&status("Served"), Some(generation));
        }
        for _ in 0..9 {
            fight.turn();
            assert_eq!(fight.not_before(&status("Served"), Some(8), now), now, "other addresses");
            fight.wrote(&status("Served"), Some(8));
        }
        assert_eq!(fight.due(now), None);
    }
}
