//! Who may stay connected when there is no room for all. No socket, no clock.
//!
//! Connections live in two rooms. One that has not yet shown who it is always gets in: when its room, or its source's part
//! of it, is full, the oldest of the source that has most of them leaves. So a flood displaces itself, and a handshake
//! from elsewhere has its place. What has shown who it is lives in a room of its own, which the others never enter;
//! when that is full, an idle one leaves, and none that is at work.

use super::limits::Limits;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Where connections come from, as far as they can be told apart: an IPv6 network is one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

/// Every place of the room is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The connections of one listener, each with a handle that ends it.
#[derive(Debug)]
pub(super) struct Pool<H> {
    limits: Limits,
    next: u64,
    /// By number, and so by age.
    entries: BTreeMap<u64, Entry<H>>,
}

#[derive(Debug)]
struct Entry<H> {
    source: Source,
    is_proved: bool,
    /// Requests under way, until their answers are sent.
    requests: u32,
    handle: H,
}

// === impl Source ===

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Source(IpAddr::V4(address)),
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Source(IpAddr::V6(Ipv6Addr::from(network)))
            }
        }
    }
}

// === impl Pool ===

impl<H> Pool<H> {
    pub(super) fn new(limits: Limits) -> Self {
        Pool { limits, next: 0, entries: BTreeMap::new() }
    }

    /// A new connection, which has shown nothing yet: its number, and who must leave for it.
    pub(super) fn admit(&mut self, source: Source, handle: H) -> (u64, Option<H>) {
        let sources = self.count(|entry| !entry.is_proved);
        let own = sources.get(&source).copied().unwrap_or_default();
        let leaves = if own >= self.limits.unproved_per_source {
            self.oldest(|entry| !entry.is_proved && entry.source == source)
        } else if sources.values().sum::<usize>() >= self.limits.unproved {
            self.oldest_of_most(|entry| !entry.is_proved)
        } else {
            None
        };
        let leaves = leaves.and_then(|id| self.remove(id));
        let id = self.next;
        self.next += 1;
        self.entries.insert(id, Entry { source, is_proved: false, requests: 0, handle });
        (id, leaves)
    }

    /// The connection has shown who it is and makes a request; says who must leave for it.
    pub(super) fn begin(&mut self, id: u64) -> Result<Option<H>, Full> {
        let is_new = self.entries.get(&id).is_some_and(|entry| !entry.is_proved);
        let mut leaves = None;
        if is_new && self.len().0 >= self.limits.proved {
            let idle = self.oldest_of_most(|entry| entry.is_proved && entry.requests == 0);
            leaves = self.remove(idle.ok_or(Full)?);
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.is_proved = true;
            entry.requests = entry.requests.saturating_add(1);
        }
        Ok(leaves)
    }

    /// An answer is sent.
    pub(super) fn end(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.requests = entry.requests.saturating_sub(1);
        }
    }

    pub(super) fn is_proved(&self, id: u64) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.is_proved)
    }

    /// The connection is gone.
    pub(super) fn remove(&mut self, id: u64) -> Option<H> {
        self.entries.remove(&id).map(|entry| entry.handle)
    }

    /// Proved ones and others.
    pub(super) fn len(&self) -> (usize, usize) {
        let proved = self.entries.values().filter(|entry| entry.is_proved).count();
        (proved, self.entries.len() - proved)
    }

    fn count(&self, which: impl Fn(&Entry<H>) -> bool) -> BTreeMap<Source, usize> {
        let mut sources = BTreeMap::new();
        for entry in self.entries.values().filter(|entry| which(entry)) {
            *sources.entry(entry.source).or_default() += 1;
        }
        sources
    }

    fn oldest(&self, which: impl Fn(&Entry<H>) -> bool) -> Option<u64> {
        self.entries.iter().find(|(_, entry)| which(entry)).map(|(id, _)| *id)
    }

    fn oldest_of_most(&self, which: impl Fn(&Entry<H>) -> bool) -> Option<u64> {
        let (source, _) = self.count(&which).into_iter().max_by_key(|(_, count)| *count)?;
        self.oldest(|entry| entry.source == source && which(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { proved: 4, unproved: 8, unproved_per_source: 5 };

    fn source(number: u8) -> Source {
        IpAddr::from([192, 0, 2, number]).into()
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_is_ipv4() {
        let of = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2:3:4"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.7"), source(7));
        assert_ne!(source(7), source(8));
    }

    #[test]
    fn a_flood_displaces_itself_and_not_the_one_who_comes_once() {
        let mut pool = Pool::new(LIMITS);
        let (guest, left) = pool.admit(source(1), "guest");
        assert_eq!(left, None);
        for _ in 0..1000 {
            let (_, left) = pool.admit(source(2), "flood");
            assert_ne!(left, Some("guest"));
            let (_, left) = pool.admit(source(3), "flood");
            assert_ne!(left, Some("guest"));
        }
        assert_eq!(pool.begin(guest), Ok(None));
        assert!(pool.is_proved(guest));
        assert_eq!(pool.len(), (1, 7));
    }

    #[test]
    fn one_source_alone_gets_its_part() {
        let mut pool = Pool::new(LIMITS);
        let left: Vec<_> = (0..7).map(|number| pool.admit(source(1), number).1).collect();
        assert_eq!(left, [None, None, None, None, None, Some(0), Some(1)]);
        assert_eq!(pool.len(), (0, 5));
    }

    #[test]
    fn proved_ones_at_work_stay_and_idle_ones_leave() {
        let mut pool = Pool::new(LIMITS);
        let ids: Vec<u64> = (0..4).map(|number| pool.admit(source(1), number).0).collect();
        assert!(ids.iter().all(|id| pool.begin(*id) == Ok(None)));
        let (late, _) = pool.admit(source(2), 9);
        assert_eq!(pool.begin(late), Err(Full));
        assert!(!pool.is_proved(late));
        pool.end(ids[2]);
        assert_eq!(pool.begin(late), Ok(Some(2)));
        assert_eq!(pool.begin(late), Ok(None), "a second request needs no second place");
    }

    proptest! {
        /// Whatever happens: nobody is refused at the door, no room overflows, and the newest is still there.
        #[test]
        fn rooms_never_overflow(steps in proptest::collection::vec((0u8..4, 0u8..6, 0u64..40), 1..300)) {
            let mut pool = Pool::new(LIMITS);
            for (what, number, id) in steps {
                match what {
                    0 | 1 => {
                        let (id, _) = pool.admit(source(number), ());
                        prop_assert!(pool.entries.contains_key(&id));
                    }
                    2 => drop(pool.begin(id)),
                    _ => pool.end(id),
                }
                let (proved, unproved) = pool.len();
                prop_assert!(proved <= LIMITS.proved && unproved <= LIMITS.unproved);
                let most = pool.count(|entry| !entry.is_proved).into_values().max();
                prop_assert!(most.unwrap_or(0) <= LIMITS.unproved_per_source);
            }
        }
    }
}
