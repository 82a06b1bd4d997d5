//! Who has which address.

use super::ObjectName;
use super::others::{Other, Others};
use super::ranges::{self, Range};
use crate::crd::Sharing;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a Service uses of an address.
pub(super) type Ports = BTreeSet<(u16, ProtocolKey)>;

/// A protocol that can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProtocolKey {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Why an address cannot be had: somebody else has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Who.
    pub(super) by: Holder,
}

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A Service of ours.
    Service(ObjectName),
    /// Somebody whom we give nothing.
    Other(Other),
}

/// Addresses in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    holders: BTreeMap<IpAddr, BTreeMap<ObjectName, Ports>>,
    held: BTreeMap<ObjectName, BTreeSet<IpAddr>>,
    others: Others,
    /// Where the next search begins, so that it need not pass over all that is taken.
    starts: BTreeMap<Search, Start>,
    /// Addresses whose last holder went or first one came, others among them, since it was asked for.
    turned: Vec<(IpAddr, bool)>,
    /// Somebody gave up an address or a port of one, since it was asked for.
    freed: bool,
}

/// Searches that go alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Search {
    pool: String,
    ipv4: bool,
    /// Of a shared address; none for one of its own.
    ports: Option<Ports>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Shared: everything below was in the way. Exclusive: the one after the last that was given, so that of the free
    /// ones the one is taken that was given up longest ago.
    At(IpAddr),
    /// Nothing was found, and nothing has been given up since.
    Nothing,
}

/// What a Service had before it was decided about.
pub(super) struct Before {
    held: BTreeMap<IpAddr, Ports>,
    freed: bool,
}

/// Where addresses are looked for.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    /// Name of the pool.
    pub(super) pool: &'a str,
    /// Its ranges, lowest first.
    pub(super) ranges: &'a [Range],
    pub(super) sharing: Sharing,
    pub(super) ipv4: bool,
}

// === impl Before ===

impl Before {
    /// Lowest first.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.held.keys().copied().collect()
    }
}

// === impl Leases ===

impl Leases {
    /// Gives an address to a Service, or to the one that has it already other ports.
    ///
    /// # Errors
    /// When somebody has it whom it cannot be shared with; nothing has changed then.
    pub(super) fn claim(
        &mut self,
        address: IpAddr,
        service: &ObjectName,
        ports: &Ports,
        sharing: Sharing,
    ) -> Result<(), Taken> {
        if let Some(by) = self.obstacle(address, service, ports, sharing) {
            return Err(Taken { by });
        }
        self.enter(address, service, ports);
        Ok(())
    }

    /// Leaves a Service what its status says that it has, though somebody else may have it too: that is decided later.
    /// False when a Service of ours has it.
    pub(super) fn take_in(&mut self, address: IpAddr, service: &ObjectName, ports: &Ports) -> bool {
        let is_free = self.ours(address, service, ports, Sharing::Shared).is_none();
        if is_free {
            self.enter(address, service, ports);
        }
        is_free
    }

    fn enter(&mut self, address: IpAddr, service: &ObjectName, ports: &Ports) {
        let holders = self.holders.entry(address).or_default();
        if holders.is_empty() && self.others.of(address).is_none() {
            self.turned.push((address, true));
        }
        let before = holders.insert(service.clone(), ports.clone());
        self.held.entry(service.clone()).or_default().insert(address);
        if before.is_some_and(|before| before != *ports) {
            self.frees(address);
        }
    }

    /// Gives an address that can be had; `None` when all are taken. Shared ones are packed: the lowest that bears these
    /// ports. Of exclusive ones the search goes round, so that an address rests before it is given to somebody else.
    pub(super) fn claim_any(
        &mut self,
        from: From<'_>,
        service: &ObjectName,
        ports: &Ports,
    ) -> Option<IpAddr> {
        let shared = from.sharing == Sharing::Shared;
        let search = Search {
            pool: from.pool.to_owned(),
            ipv4: from.ipv4,
            ports: shared.then(|| ports.clone()),
        };
        let start = match self.starts.get(&search) {
            Some(Start::Nothing) => return None,
            Some(Start::At(address)) => Some(*address),
            None => None,
        };
        let own = self.held.get(service);
        // One that it has already is no further one. Nobody else can have these ports of it either.
        let is_free = |a: &IpAddr| {
            !own.is_some_and(|own| own.contains(a))
                && self.obstacle(*a, service, ports, from.sharing).is_none()
        };
        let ranges = || from.ranges.iter().filter(|range| range.is_ipv4() == from.ipv4);
        let after = |start| ranges().flat_map(move |range| range.addresses_from(start));
        let mut free = after(start).find(is_free);
        if free.is_none() && !shared && start.is_some() {
            free = after(None).take_while(|a| Some(*a) < start).find(is_free);
        }
        let Some(free) = free else {
            self.starts.insert(search, Start::Nothing);
            return None;
        };
        let next = if shared { Some(free) } else { ranges::step(free, 1) };
        match next {
            Some(next) => self.starts.insert(search, Start::At(next)),
            None => self.starts.remove(&search),
        };
        self.claim(free, service, ports, from.sharing).ok()?;
        Some(free)
    }

    /// Takes one address back.
    pub(super) fn release_one(&mut self, service: &ObjectName, address: IpAddr) {
        if let Some(holders) = self.holders.get_mut(&address) {
            holders.remove(service);
            if holders.is_empty() {
                self.holders.remove(&address);
                if self.others.of(address).is_none() {
                    self.turned.push((address, false));
                }
            }
        }
        if let Some(held) = self.held.get_mut(service) {
            held.remove(&address);
            if held.is_empty() {
                self.held.remove(service);
            }
        }
        self.frees(address);
    }

    /// Somebody else has these addresses now, and no others. Returns those that came or went.
    pub(super) fn set_other(&mut self, owner: &Other, now: BTreeSet<IpAddr>) -> Vec<IpAddr> {
        let was: BTreeSet<IpAddr> =
            now.iter().copied().filter(|a| self.others.of(*a).is_some()).collect();
        let (came, went) = self.others.set(owner, now);
        for address in &came {
            if !was.contains(address) && !self.holders.contains_key(address) {
                self.turned.push((*address, true));
            }
        }
        for address in &went {
            if self.others.of(*address).is_none() && !self.holders.contains_key(address) {
                self.turned.push((*address, false));
            }
            self.frees(*address);
        }
        came.into_iter().chain(went).collect()
    }

    /// Who else has an address.
    pub(super) fn other(&self, address: IpAddr) -> Option<&Other> {
        self.others.of(address)
    }

    /// Services of ours that have an address.
    pub(super) fn holders(&self, address: IpAddr) -> impl Iterator<Item = &ObjectName> {
        self.holders.get(&address).into_iter().flat_map(BTreeMap::keys)
    }

    /// Those of the ports that no other Service of ours has at an address of this one.
    pub(super) fn open_ports(&self, service: &ObjectName, ports: &Ports) -> Ports {
        let held = self.held.get(service).into_iter().flatten();
        let all = held.filter_map(|address| self.holders.get(address)).flatten();
        let others = all.filter(|(name, _)| *name != service).flat_map(|(_, its)| its);
        let taken: Ports = others.copied().collect();
        ports.difference(&taken).copied().collect()
    }

    /// How many addresses of the ranges are a machine's.
    pub(super) fn of_machines(&self, ranges: &[Range]) -> u128 {
        let all = ranges.iter().flat_map(|r| self.others.between(r.first(), r.last()));
        let is_machine = |a: &IpAddr| self.others.of(*a).is_some_and(Other::is_machine);
        all.filter(is_machine).count() as u128
    }

    /// What a Service has, to come back to.
    pub(super) fn before(&self, service: &ObjectName) -> Before {
        let ports = |address: &IpAddr| self.holders.get(address)?.get(service).cloned();
        let held = self.held.get(service).into_iter().flatten();
        let held = held.filter_map(|address| Some((*address, ports(address)?))).collect();
        Before { held, freed: self.freed }
    }

    /// Leaves a Service what it had, and nobody waits for what it gives back of that.
    pub(super) fn restore(&mut self, service: &ObjectName, before: Before) {
        for address in self.of(service) {
            if !before.held.contains_key(&address) {
                self.release_one(service, address);
            }
        }
        for (address, ports) in before.held {
            if let Some(its) = self.holders.get_mut(&address).and_then(|all| all.get_mut(service)) {
                *its = ports;
            }
        }
        self.freed = before.freed;
    }

    /// Searches may find this one now.
    fn frees(&mut self, address: IpAddr) {
        self.freed = true;
        for (search, start) in &mut self.starts {
            let is_sooner = match *start {
                Start::At(at) => search.ports.is_some() && address < at,
                Start::Nothing => true,
            };
            if search.ipv4 == address.is_ipv4() && is_sooner {
                *start = Start::At(address);
            }
        }
    }

    /// Pools have changed, so searches begin anew.
    pub(super) fn search_anew(&mut self) {
        self.starts.clear();
    }

    /// True once after somebody gave up something that others may wait for.
    pub(super) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// Addresses that came into use (true) or went out of it since the last call, in order.
    pub(super) fn take_turned(&mut self) -> Vec<(IpAddr, bool)> {
        std::mem::take(&mut self.turned)
    }

    /// Takes everything back that a Service has.
    pub(super) fn release(&mut self, service: &ObjectName) {
        for address in self.of(service) {
            self.release_one(service, address);
        }
    }

    /// What a Service has, lowest first.
    pub(super) fn of(&self, service: &ObjectName) -> Vec<IpAddr> {
        self.held.get(service).into_iter().flatten().copied().collect()
    }

    /// How many addresses of the ranges are in use.
    pub(super) fn used(&self, ranges: &[Range]) -> u128 {
        let within = |address: &&IpAddr| ranges.iter().any(|range| range.contains(**address));
        let others = ranges.iter().flat_map(|r| self.others.between(r.first(), r.last()));
        let only_others = others.filter(|address| !self.holders.contains_key(address));
        (self.holders.keys().filter(within).count() + only_others.count()) as u128
    }

    /// Who stands in the way. What a Service has already stays with it beside another controller's; a machine's address
    /// is nobody's.
    fn obstacle(
        &self,
        address: IpAddr,
        service: &ObjectName,
        ports: &Ports,
        sharing: Sharing,
    ) -> Option<Holder> {
        let has = || self.holders.get(&address).is_some_and(|all| all.contains_key(service));
        if let Some(other) = self.others.of(address).filter(|other| other.is_machine() || !has()) {
            return Some(Holder::Other(other.clone()));
        }
        let ours = self.ours(address, service, ports, sharing);
        ours.map(|name| Holder::Service(name.clone()))
    }

    /// Which Service of ours stands in the way. `sharing` is that of the address's pool as it is now: whoever has the address stays, as long
    /// as the ports are its own, so an edited pool puts nobody out.
    fn ours(
        &self,
        address: IpAddr,
        service: &ObjectName,
        ports: &Ports,
        sharing: Sharing,
    ) -> Option<&ObjectName> {
        let holders = self.holders.get(&address)?;
        let alone = sharing == Sharing::Exclusive && !holders.contains_key(service);
        let mut others = holders.iter().filter(|(name, _)| *name != service);
        others.find(|(_, its)| alone || !its.is_disjoint(ports)).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::btree_map::Entry;

    fn name(name: &str) -> ObjectName {
        ObjectName { namespace: "default".into(), name: name.into() }
    }

    fn by(who: &str) -> Taken {
        Taken { by: Holder::Service(name(who)) }
    }

    fn tcp(ports: &[u16]) -> Ports {
        ports.iter().map(|port| (*port, ProtocolKey::Tcp)).collect()
    }

    fn pool(text: &str) -> Vec<Range> {
        vec![Range::parse(text, false).unwrap()]
    }

    fn from(ranges: &[Range], sharing: Sharing) -> From<'_> {
        From { pool: "p", ranges, sharing, ipv4: true }
    }

    #[test]
    fn an_exclusive_address_serves_one() {
        let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/31"));
        let from = from(&pool, Sharing::Exclusive);
        let mut take = |who: &str| leases.claim_any(from, &name(who), &tcp(&[80]));
        assert_eq!(take("a"), Some("203.0.113.0".parse().unwrap()));
        assert_eq!(take("b"), Some("203.0.113.1".parse().unwrap()));
        assert_eq!(take("c"), None);
        leases.release(&name("a"));
        assert_eq!(leases.used(&pool), 1);
        let again = leases.claim_any(from, &name("c"), &tcp(&[80]));
        assert_eq!(again, Some("203.0.113.0".parse().unwrap()));
    }

    #[test]
    fn a_shared_address_serves_many_on_different_ports() {
        let (mut leases, address) = (Leases::default(), "203.0.113.0".parse().unwrap());
        let udp = Ports::from([(80, ProtocolKey::Udp)]);
        let shared = Sharing::Shared;
        leases.claim(address, &name("a"), &tcp(&[80]), shared).unwrap();
        leases.claim(address, &name("b"), &tcp(&[443]), shared).unwrap();
        leases.claim(address, &name("c"), &udp, shared).unwrap();
        let taken = leases.claim(address, &name("d"), &tcp(&[443, 8443]), shared);
        assert_eq!(taken, Err(by("b")));
        let alone = leases.claim(address, &name("d"), &tcp(&[1]), Sharing::Exclusive);
        assert_eq!(alone, Err(by("a")));
    }

    #[test]
    fn a_given_up_address_rests_while_others_are_free() {
        let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/30"));
        let from = from(&pool, Sharing::Exclusive);
        let mut give = |who: &str, gone: Option<&str>| {
            if let Some(gone) = gone {
                leases.release(&name(gone));
            }
            leases.claim_any(from, &name(who), &tcp(&[80])).unwrap().to_string()
        };
        assert_eq!(give("a", None), "203.0.113.0");
        assert_eq!(give("b", Some("a")), "203.0.113.1");
        assert_eq!(give("c", None), "203.0.113.2");
        assert_eq!(give("d", Some("b")), "203.0.113.3");
        assert_eq!(give("e", None), "203.0.113.0", "round, and the first that was given up");
        assert_eq!(give("f", None), "203.0.113.1");
    }

    #[test]
    fn shared_addresses_are_packed() {
        let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/30"));
        let from = from(&pool, Sharing::Shared);
        let mut give = |who: &str, port| leases.claim_any(from, &name(who), &tcp(&[port]));
        let last = |given: Option<IpAddr>| given.map(|a| a.to_string().pop().unwrap());
        let given = ["a", "b", "c", "d"].map(|who| last(give(who, 80)));
        assert_eq!(given, [Some('0'), Some('1'), Some('2'), Some('3')]);
        assert_eq!((give("e", 80), last(give("f", 81))), (None, Some('0')));
        leases.release(&name("b"));
        assert_eq!(last(leases.claim_any(from, &name("e"), &tcp(&[80]))), Some('1'));
    }

    #[test]
    fn what_somebody_else_has_is_passed_over() {
        let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/30"));
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let (node, rival) = (Other::Node("n".into()), Other::Service(name("rival")));
        for sharing in [Sharing::Exclusive, Sharing::Shared] {
            leases.set_other(&node, BTreeSet::from([ip("203.0.113.0")]));
            leases.set_other(&rival, BTreeSet::from([ip("203.0.113.1")]));
            let from = from(&pool, sharing);
            let given = leases.claim_any(from, &name("a"), &tcp(&[80])).unwrap();
            assert_eq!((given, leases.used(&pool)), (ip("203.0.113.2"), 3));
            let taken = leases.claim(ip("203.0.113.1"), &name("b"), &tcp(&[81]), sharing);
            assert_eq!(taken, Err(Taken { by: Holder::Other(rival.clone()) }));
            // The rival writes the same address: whoever has it already stays.
            leases.set_other(&rival, BTreeSet::from([given]));
            assert_eq!(leases.claim(given, &name("a"), &tcp(&[80]), sharing), Ok(()));
            leases.set_other(&node, BTreeSet::from([given]));
            let taken = leases.claim(given, &name("a"), &tcp(&[80]), sharing);
            assert_eq!(taken, Err(Taken { by: Holder::Other(node.clone()) }));
            assert_eq!((leases.of_machines(&pool), leases.used(&pool)), (1, 1));
            leases.set_other(&node, BTreeSet::new());
            leases.set_other(&rival, BTreeSet::new());
            leases.release(&name("a"));
            assert_eq!(leases.used(&pool), 0);
            let turns = leases.take_turned();
            let sum: i32 = turns.iter().map(|(_, comes)| if *comes { 1 } else { -1 }).sum();
            assert_eq!(sum, 0, "{turns:?}");
            leases.search_anew();
        }
    }

    #[test]
    fn a_service_may_change_its_own_ports() {
        let (mut leases, address) = (Leases::default(), "203.0.113.0".parse().unwrap());
        leases.claim(address, &name("a"), &tcp(&[80]), Sharing::Shared).unwrap();
        leases.claim(address, &name("a"), &tcp(&[81]), Sharing::Shared).unwrap();
        leases.claim(address, &name("b"), &tcp(&[80]), Sharing::Shared).unwrap();
        let back = leases.claim(address, &name("a"), &tcp(&[80]), Sharing::Shared);
        assert_eq!(back, Err(by("b")));
        assert_eq!(leases.of(&name("a")), [address]);
    }

    proptest! {
        #[test]
        fn nothing_is_handed_out_twice(
            acts in prop::collection::vec((0u8..12, 0u8..4, 1u16..4), 1..200),
            shared in any::<bool>(),
        ) {
            let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/29"));
            let sharing = if shared { Sharing::Shared } else { Sharing::Exclusive };
            let mut known: BTreeMap<ObjectName, (IpAddr, Ports)> = BTreeMap::new();
            for (who, act, port) in acts {
                let who = name(&who.to_string());
                if act == 0 {
                    leases.release(&who);
                    known.remove(&who);
                } else if let Entry::Vacant(new) = known.entry(who) {
                    let ports = tcp(&[port]);
                    let got = leases.claim_any(from(&pool, sharing), new.key(), &ports);
                    if let Some(address) = got {
                        new.insert((address, ports));
                    } else {
                        let all = Range::parse("203.0.113.0/29", false).unwrap();
                        let ours = new.key().clone();
                        let bears = |a| leases.obstacle(a, &ours, &ports, sharing).is_none();
                        prop_assert!(!all.addresses_from(None).any(bears), "one could be had");
                    }
                }
                for (one, (address, ports)) in &known {
                    prop_assert_eq!(leases.of(one), vec![*address]);
                    for (other, (its, used)) in &known {
                        if one != other && address == its {
                            prop_assert!(shared && ports.is_disjoint(used));
                        }
                    }
                }
            }
            let distinct: BTreeSet<IpAddr> = known.values().map(|(address, ..)| *address).collect();
            prop_assert_eq!(leases.used(&pool), distinct.len() as u128);
        }
    }
}
