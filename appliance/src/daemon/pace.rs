//! When the snapshot is made: at once after a quiet time; in a storm of events no more often than it is worth, so that
//! what the daemon is there for goes first. Pure: the clock is a parameter.

use std::time::{Duration, Instant};

/// Snapshots take at most one part in so many of the time, unless one takes so long that [`LONGEST`] ends the pause.
const SHARE: u32 = 5;
/// The longest pause after a snapshot, however long that took.
const LONGEST: Duration = Duration::from_millis(500);

/// How often something may be shown.
#[derive(Debug)]
pub(super) struct Pace {
    free_at: Instant,
    /// Something has changed that was not shown.
    is_owed: bool,
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Pace { free_at: now, is_owed: false }
    }

    /// Something has changed. True when it is to be shown now; else [`Pace::due_at`] says when.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        self.is_owed = now < self.free_at;
        !self.is_owed
    }

    /// It was shown, which took from `began` until `now`.
    pub(super) fn done(&mut self, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        self.free_at = now + took.saturating_mul(SHARE - 1).min(LONGEST);
    }

    /// When what was not shown is to be shown; none when nothing is owed.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.is_owed.then_some(self.free_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_is_shown_at_once_and_the_last_is_not_forgotten() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(pace.ask(start) && pace.due_at().is_none());
        pace.done(start, start + 10 * MS);
        for after in [10, 30, 49] {
            assert!(!pace.ask(start + after * MS), "{after}");
            assert_eq!(pace.due_at(), Some(start + 50 * MS), "{after}");
        }
        assert!(pace.ask(start + 50 * MS) && pace.due_at().is_none());
        pace.done(start + 50 * MS, start + 51 * MS);
        assert!(pace.ask(start + 60 * MS), "after a quiet time at once");
    }

    #[test]
    fn nothing_is_shown_late_however_long_it_takes() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.done(start, start + 3000 * MS);
        assert!(!pace.ask(start + 3001 * MS));
        assert_eq!(pace.due_at(), Some(start + 3000 * MS + LONGEST));
    }
}
