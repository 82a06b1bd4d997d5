//! Which addresses are in use here without being ours: when to read them, and who is told. `now` is a parameter.

use crate::types::{Gateways, OtherAddress, Surroundings};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Routes are read again at most this often, however many of them change.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// A full table takes seconds to read; the pause is this many times as long, so that reading takes at most a twentieth
/// of the time.
const PAUSE_FACTOR: u32 = 20;

/// Follows what a router or an operator changes.
pub(crate) struct Follower {
    known: watch::Sender<Arc<Surroundings>>,
    gateways: Gateways,
    addresses_changed: bool,
    gateways_changed: bool,
    routes_changed: bool,
    /// When the question that is under way was asked.
    asked: Option<Instant>,
    not_before: Option<Instant>,
}

// === impl Follower ===

impl Follower {
    pub(crate) fn new(addresses: BTreeSet<OtherAddress>, gateways: Gateways) -> Self {
        let known = Surroundings { addresses, gateways: gateways.clone() };
        Self {
            known: watch::Sender::new(Arc::new(known)),
            gateways,
            addresses_changed: false,
            gateways_changed: false,
            routes_changed: false,
            asked: None,
            not_before: None,
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Surroundings>> {
        self.known.subscribe()
    }

    /// An address that is not ours came, went or changed.
    pub(crate) fn addresses_changed(&mut self) {
        self.addresses_changed = true;
    }

    /// Some route may have another next hop.
    pub(crate) fn routes_changed(&mut self) {
        self.routes_changed = true;
    }

    /// True when the routes are to be read now; answer with [`Self::answered`].
    pub(crate) fn ask(&mut self, now: Instant) -> bool {
        let is_due = self.deadline().is_some_and(|_| self.not_before.is_none_or(|at| at <= now));
        if is_due {
            self.routes_changed = false;
            self.asked = Some(now);
        }
        is_due
    }

    /// When [`Self::ask`] has something to ask next; the past when at once.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let is_wanted = self.routes_changed && self.asked.is_none();
        is_wanted.then(|| self.not_before.unwrap_or_else(Instant::now))
    }

    /// Takes the answer; without one it is asked again.
    pub(crate) fn answered(&mut self, gateways: Option<Gateways>, now: Instant) {
        let took = self.asked.take().map_or(Duration::ZERO, |asked| now.duration_since(asked));
        self.not_before = Some(now + PAUSE_MIN.max(took.saturating_mul(PAUSE_FACTOR)));
        match gateways {
            Some(gateways) => {
                self.gateways_changed |= self.gateways != gateways;
                self.gateways = gateways;
            }
            None => self.routes_changed = true,
        }
    }

    /// Tells those who listen, when there is something to tell.
    pub(crate) fn flush(&mut self, addresses: impl FnOnce() -> BTreeSet<OtherAddress>) {
        if !std::mem::take(&mut self.addresses_changed)
            & !std::mem::take(&mut self.gateways_changed)
        {
            return;
        }
        let next = Surroundings { addresses: addresses(), gateways: self.gateways.clone() };
        self.known.send_if_modified(|known| {
            let is_news = **known != next;
            if is_news {
                *known = Arc::new(next);
            }
            is_news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn gateways(last: u8) -> Option<Gateways> {
        let default = BTreeSet::from([IpAddr::from([10, 0, 0, last])]);
        Some(Gateways { default, ..Gateways::default() })
    }

    #[test]
    fn routes_are_read_after_a_change_and_not_too_often() {
        let now = Instant::now();
        let mut follower = Follower::new(BTreeSet::new(), Gateways::default());
        let mut told = follower.subscribe();
        assert!(!follower.ask(now), "nothing has changed");
        follower.routes_changed();
        assert!(follower.ask(now));
        follower.routes_changed();
        assert!(!follower.ask(now), "one question at a time");
        follower.answered(gateways(1), now + Duration::from_millis(200));
        follower.flush(BTreeSet::new);
        assert!(told.has_changed().unwrap());
        assert_eq!(Some(told.borrow_and_update().gateways.clone()), gateways(1));
        // Reading took 200 ms, so it rests for 4 s.
        assert!(!follower.ask(now + Duration::from_secs(4)));
        assert!(follower.ask(now + Duration::from_millis(4200)));
        follower.answered(None, now + Duration::from_millis(4200));
        assert!(follower.ask(now + Duration::from_millis(5200)), "asked again without an answer");
        follower.answered(gateways(1), now + Duration::from_millis(5200));
        follower.flush(BTreeSet::new);
        assert!(!told.has_changed().unwrap(), "the same is no news");
    }
}
