//! The routing epoch: tells that something changed, not faster than anyone can act on it.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The epoch moves at most this often: each move makes the data plane look up again.
const PAUSE: Duration = Duration::from_millis(10);

/// Counts changes of routes, links and neighbours. Pure but for its channel: `now` is a parameter.
#[derive(Default)]
pub(crate) struct Epoch {
    sender: watch::Sender<u64>,
    last: Option<Instant>,
    wanted: bool,
}

// === impl Epoch ===

impl Epoch {
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }

    /// Something changed; the next [`Self::flush`] that may moves the epoch.
    pub(crate) fn want(&mut self) {
        self.wanted = true;
    }

    /// When [`Self::flush`] has something to do that it could not do before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.last.filter(|_| self.wanted).map(|last| last + PAUSE)
    }

    /// The first change moves the epoch at once, further ones after the pause.
    pub(crate) fn flush(&mut self, now: Instant) {
        if self.wanted && self.deadline().is_none_or(|deadline| deadline <= now) {
            self.wanted = false;
            self.last = Some(now);
            self.sender.send_modify(|epoch| *epoch = epoch.wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_counts_at_once_and_a_burst_once_more() {
        let mut epoch = Epoch::default();
        let seen = epoch.subscribe();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);

        epoch.flush(start);
        assert_eq!((*seen.borrow(), epoch.deadline()), (0, None), "nothing changed");
        epoch.want();
        epoch.flush(start);
        assert_eq!((*seen.borrow(), epoch.deadline()), (1, None));
        for ms in 1..10 {
            epoch.want();
            epoch.flush(at(ms));
            assert_eq!((*seen.borrow(), epoch.deadline()), (1, Some(at(10))));
        }
        epoch.flush(at(10));
        assert_eq!((*seen.borrow(), epoch.deadline()), (2, None));
        epoch.want();
        epoch.flush(at(50));
        assert_eq!(*seen.borrow(), 3);
    }
}
