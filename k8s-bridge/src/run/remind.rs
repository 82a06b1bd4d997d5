//! Events about what stays wrong, again: they expire after an hour, and `kubectl describe` shows no conditions of Services.

use std::time::{Duration, Instant};

/// Between two events about the same. Less than the hour after which the API server forgets them.
const EVERY: Duration = Duration::from_secs(1_800);
/// As much more at random, so that thousands that went wrong together are not told together.
const SPREAD: Duration = Duration::from_secs(900);
/// Events in one look at the time (two a second): ten a second at most for 20,000 Services that are all wrong.
pub(super) const BUDGET: usize = 5;

/// When the next event is due.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    at: Option<Instant>,
}

// === impl Reminder ===

impl Reminder {
    /// It was said just now. `chance` is between 0 and 1.
    pub(super) fn said(&mut self, now: Instant, chance: f64) {
        self.at = Some(now + EVERY + SPREAD.mul_f64(chance.clamp(0.0, 1.0)));
    }

    /// Whether it is to be said again; `is_wrong` while there is something to say.
    pub(super) fn is_due(&mut self, is_wrong: bool, now: Instant, chance: f64) -> bool {
        if !is_wrong {
            self.at = None;
            return false;
        }
        match self.at {
            Some(at) if now >= at => {
                self.said(now, chance);
                true
            }
            Some(_) => false,
            None => {
                // Said by an earlier leader, nobody knows when.
                self.at = Some(now + (EVERY + SPREAD).mul_f64(chance.clamp(0.0, 1.0)));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_wrong_is_said_before_its_event_expires() {
        let (mut reminder, start) = (Reminder::default(), Instant::now());
        let minute = |n: u64| start + Duration::from_secs(n * 60);
        reminder.said(start, 0.5);
        let due: Vec<u64> = (1..180).filter(|n| reminder.is_due(true, minute(*n), 0.5)).collect();
        assert_eq!(due, [38, 76, 114, 152]);
        assert!(!reminder.is_due(false, minute(200), 0.5), "mended");
        assert!(!reminder.is_due(true, minute(200), 0.1), "a new leader does not say all at once");
        assert!(reminder.is_due(true, minute(205), 0.1));
    }
}
