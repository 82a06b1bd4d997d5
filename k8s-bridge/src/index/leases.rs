//! Who has which address.

#[cfg(test)]
mod tests;

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

    /// Which Service of ours stands in the way. `sharing` is that of the address's pool as it is now: whoever has the
    /// address stays, as long as the ports are its own, so an edited pool puts nobody out.
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
