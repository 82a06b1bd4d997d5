//! Who has which address.

use super::ObjectName;
use super::ranges::Range;
use crate::crd::Sharing;
use sluice_api::Protocol;
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
}

/// Why an address cannot be had: somebody else has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Who.
    pub(super) by: ObjectName,
}

/// Addresses in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases {
    holders: BTreeMap<IpAddr, BTreeMap<ObjectName, Holder>>,
    held: BTreeMap<ObjectName, BTreeSet<IpAddr>>,
}

#[derive(Clone, Debug)]
struct Holder {
    ports: Ports,
    sharing: Sharing,
}

// === impl ProtocolKey ===

impl From<Protocol> for ProtocolKey {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => ProtocolKey::Tcp,
            Protocol::Udp => ProtocolKey::Udp,
        }
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
            return Err(Taken { by: by.clone() });
        }
        let holder = Holder { ports: ports.clone(), sharing };
        self.holders.entry(address).or_default().insert(service.clone(), holder);
        self.held.entry(service.clone()).or_default().insert(address);
        Ok(())
    }

    /// Gives the lowest address of the ranges that can be had; `None` when all are taken.
    pub(super) fn claim_any(
        &mut self,
        ranges: &[Range],
        ipv4: bool,
        service: &ObjectName,
        ports: &Ports,
        sharing: Sharing,
    ) -> Option<IpAddr> {
        // Only taken addresses are passed over, so the search is as long as the list of those, not as the pool.
        let free = ranges
            .iter()
            .filter(|range| range.is_ipv4() == ipv4)
            .flat_map(Range::addresses)
            .find(|address| self.obstacle(*address, service, ports, sharing).is_none())?;
        self.claim(free, service, ports, sharing).ok()?;
        Some(free)
    }

    /// Takes one address back.
    pub(super) fn release_one(&mut self, service: &ObjectName, address: IpAddr) {
        if let Some(holders) = self.holders.get_mut(&address) {
            holders.remove(service);
            if holders.is_empty() {
                self.holders.remove(&address);
            }
        }
        if let Some(held) = self.held.get_mut(service) {
            held.remove(&address);
            if held.is_empty() {
                self.held.remove(service);
            }
        }
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
        self.holders.keys().filter(within).count() as u128
    }

    /// Who stands in the way. An exclusive lease bears no other, whichever came first; but whoever has the address stays,
    /// as long as the ports are its own: an edited pool puts nobody out.
    fn obstacle(
        &self,
        address: IpAddr,
        service: &ObjectName,
        ports: &Ports,
        sharing: Sharing,
    ) -> Option<&ObjectName> {
        let holders = self.holders.get(&address)?;
        let is_new = !holders.contains_key(service);
        let mut others = holders.iter().filter(|(name, _)| *name != service);
        let clashes = |holder: &Holder| {
            let alone = sharing == Sharing::Exclusive || holder.sharing == Sharing::Exclusive;
            (is_new && alone) || !holder.ports.is_disjoint(ports)
        };
        others.find(|(_, holder)| clashes(holder)).map(|(name, _)| name)
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

    fn tcp(ports: &[u16]) -> Ports {
        ports.iter().map(|port| (*port, ProtocolKey::Tcp)).collect()
    }

    fn pool(text: &str) -> Vec<Range> {
        vec![Range::parse(text, false).unwrap()]
    }

    #[test]
    fn an_exclusive_address_serves_one() {
        let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/31"));
        let mut take =
            |who: &str| leases.claim_any(&pool, true, &name(who), &tcp(&[80]), Sharing::Exclusive);
        assert_eq!(take("a"), Some("203.0.113.0".parse().unwrap()));
        assert_eq!(take("b"), Some("203.0.113.1".parse().unwrap()));
        assert_eq!(take("c"), None);
        leases.release(&name("a"));
        assert_eq!(leases.used(&pool), 1);
        let again = leases.claim_any(&pool, true, &name("c"), &tcp(&[80]), Sharing::Exclusive);
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
        assert_eq!(taken, Err(Taken { by: name("b") }));
        let alone = leases.claim(address, &name("d"), &tcp(&[1]), Sharing::Exclusive);
        assert_eq!(alone, Err(Taken { by: name("a") }));
    }

    #[test]
    fn a_service_may_change_its_own_ports() {
        let (mut leases, address) = (Leases::default(), "203.0.113.0".parse().unwrap());
        leases.claim(address, &name("a"), &tcp(&[80]), Sharing::Shared).unwrap();
        leases.claim(address, &name("a"), &tcp(&[81]), Sharing::Shared).unwrap();
        leases.claim(address, &name("b"), &tcp(&[80]), Sharing::Shared).unwrap();
        let back = leases.claim(address, &name("a"), &tcp(&[80]), Sharing::Shared);
        assert_eq!(back, Err(Taken { by: name("b") }));
        assert_eq!(leases.of(&name("a")), [address]);
    }

    proptest! {
        #[test]
        fn nothing_is_handed_out_twice(
            acts in prop::collection::vec((0u8..12, 0u8..4, any::<bool>(), 1u16..4), 1..200)
        ) {
            let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/29"));
            let mut known: BTreeMap<ObjectName, (IpAddr, Ports, Sharing)> = BTreeMap::new();
            for (who, act, shared, port) in acts {
                let who = name(&who.to_string());
                let sharing = if shared { Sharing::Shared } else { Sharing::Exclusive };
                if act == 0 {
                    leases.release(&who);
                    known.remove(&who);
                } else if let Entry::Vacant(new) = known.entry(who) {
                    let ports = tcp(&[port]);
                    let got = leases.claim_any(&pool, true, new.key(), &ports, sharing);
                    if let Some(address) = got {
                        new.insert((address, ports, sharing));
                    }
                }
                for (one, (address, ports, sharing)) in &known {
                    prop_assert_eq!(leases.of(one), vec![*address]);
                    for (other, (its, used, kind)) in &known {
                        if one != other && address == its {
                            prop_assert!(*sharing == Sharing::Shared && *kind == Sharing::Shared);
                            prop_assert!(ports.is_disjoint(used));
                        }
                    }
                }
            }
            let distinct: BTreeSet<IpAddr> = known.values().map(|(address, ..)| *address).collect();
            prop_assert_eq!(leases.used(&pool), distinct.len() as u128);
        }
    }
}
