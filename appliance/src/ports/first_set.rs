//! Sets that the data plane is given as a whole, and when the first one replaces what was taken over.

use std::time::{Duration, Instant};

/// A data plane that was taken over knows its neighbours; the first set that replaces them waits this long for netlink to
/// know as many. The kernel gives a neighbour up after three unanswered requests, a second apart.
pub(super) const FIRST_SET_WITHIN: Duration = Duration::from_secs(4);

/// The set that the data plane has.
pub(super) struct Given<T> {
    last: Option<T>,
    first_by: Instant,
}

// === impl Given ===

impl<T: PartialEq> Given<T> {
    /// None so far.
    pub(super) fn new(now: Instant) -> Self {
        Given { last: None, first_by: now + FIRST_SET_WITHIN }
    }

    /// What was given last.
    pub(super) fn last(&self) -> Option<&T> {
        self.last.as_ref()
    }

    /// Whether this set is to be given now: it is another one, and the first is complete or has been waited for.
    pub(super) fn wants(&self, set: &T, is_complete: impl FnOnce() -> bool, now: Instant) -> bool {
        match &self.last {
            Some(last) => last != set,
            None => now >= self.first_by || is_complete(),
        }
    }

    /// The data plane has this set.
    pub(super) fn put(&mut self, set: T) {
        self.last = Some(set);
    }
}
