//! Pools: which addresses there are, and for whom.

use super::leases::{Before, From, Leases, Ports, Taken};
use super::others::Other;
use super::ranges::Range;
use super::selectors::{Chooses, Labels};
use super::vocabulary::shortened;
use super::{ObjectName, PoolUse, Trouble, trouble};
use crate::crd::{AddressPool, AddressPoolSpec};
use k8s_openapi::jiff::Timestamp;
use sluice_model::Class;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Pools by name, and who has which address of them.
#[derive(Default)]
pub(super) struct Pools {
    pools: BTreeMap<String, Pool>,
    leases: Leases,
    /// Ranges of all pools in order, by their first address; they never overlap.
    owners: BTreeMap<IpAddr, (Range, String)>,
    /// Pools whose use may have changed since it was asked for.
    changed: BTreeSet<String>,
}

/// One pool.
pub(super) struct Pool {
    name: String,
    /// Who has an address first keeps it.
    created: Option<Timestamp>,
    spec: AddressPoolSpec,
    /// Lowest first; empty while there is a trouble.
    ranges: Vec<Range>,
    namespaces: Chooses,
    services: Chooses,
    trouble: Option<Trouble>,
    used: u128,
}

/// Who asks for addresses.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) name: &'a ObjectName,
    /// None when its namespace is not known.
    pub(super) namespace_labels: Option<&'a Labels>,
    pub(super) labels: &'a Labels,
}

// === impl Pools ===

impl Pools {
    pub(super) fn apply(&mut self, object: AddressPool) {
        let name = object.metadata.name.unwrap_or_default();
        let created = object.metadata.creation_timestamp.map(|time| time.0);
        let pool = Pool {
            name: name.clone(),
            created,
            spec: object.spec,
            ranges: Vec::new(),
            namespaces: Chooses::default(),
            services: Chooses::default(),
            trouble: None,
            used: 0,
        };
        self.pools.insert(name, pool);
        self.judge();
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.pools.remove(name);
        self.changed.insert(name.to_owned());
        self.judge();
    }

    /// What each pool may give. Of two that overlap the older one does, then the first by name; the other gives nothing,
    /// so that no two rules apply to one address.
    fn judge(&mut self) {
        self.owners.clear();
        self.leases.search_anew();
        // Every pool is counted below.
        let _counted = self.leases.take_turned();
        let mut by_age: Vec<&mut Pool> = self.pools.values_mut().collect();
        by_age.sort_by_key(|pool| pool.created);
        for pool in by_age {
            let owners = &self.owners;
            let judged = pool.read().and_then(|ranges| match overlapped(owners, &ranges) {
                Some((other, range)) => {
                    let what = format!("{range} overlaps with pool {other}; change one of them");
                    Err(trouble("PoolOverlap", what))
                }
                None => Ok(ranges),
            });
            (pool.ranges, pool.trouble) = match judged {
                Ok(ranges) => (ranges, None),
                Err(why) => (Vec::new(), Some(why)),
            };
            pool.used = self.leases.used(&pool.ranges);
            let owned = pool.ranges.iter().map(|r| (r.first(), (*r, pool.name.clone())));
            self.owners.extend(owned);
        }
        self.changed.extend(self.pools.keys().cloned());
    }

    /// The pool that has the address.
    pub(super) fn of(&self, address: IpAddr) -> Option<&Pool> {
        self.pools.get(owner(&self.owners, address)?)
    }

    /// What a Service has, lowest first.
    pub(super) fn held_by(&self, who: &ObjectName) -> Vec<IpAddr> {
        self.leases.of(who)
    }

    /// Leaves a Service the address that its status has, whatever pools say by now. Of two with the same port the one
    /// that comes first has it.
    pub(super) fn import(&mut self, address: IpAddr, who: &ObjectName, ports: &Ports) {
        // Whoever comes second gets another address when it is decided about.
        let _second = self.leases.take_in(address, who, ports);
    }

    /// Somebody whom we give nothing has these addresses now, and no others. Returns the Services whose business that is,
    /// and whether something has changed.
    pub(super) fn set_other(
        &mut self,
        owner: &Other,
        addresses: BTreeSet<IpAddr>,
    ) -> (BTreeSet<ObjectName>, bool) {
        let turned = self.leases.set_other(owner, addresses);
        let pools = turned.iter().filter_map(|address| self::owner(&self.owners, *address));
        self.changed.extend(pools.map(str::to_owned));
        let holders = turned.iter().flat_map(|address| self.leases.holders(*address));
        (holders.cloned().collect(), !turned.is_empty())
    }

    /// Somebody whom we give nothing has the address.
    pub(super) fn other(&self, address: IpAddr) -> Option<&Other> {
        self.leases.other(address)
    }

    /// Why the address can be nobody's VIP, in words that follow it.
    pub(super) fn unfit(&self, address: IpAddr) -> Option<String> {
        if let Some(class) = Class::of(address) {
            return Some(class.to_string());
        }
        let machine = self.leases.other(address).filter(|other| other.is_machine())?;
        Some(format!("belongs to {machine}"))
    }

    /// Gives this address; one that no pool has is nobody else's.
    pub(super) fn claim(
        &mut self,
        address: IpAddr,
        who: &ObjectName,
        ports: &Ports,
    ) -> Result<(), Taken> {
        let sharing = self.of(address).map(|pool| pool.spec.sharing).unwrap_or_default();
        self.leases.claim(address, who, ports, sharing)
    }

    /// Gives a free address: of the pool that was asked for, else of those that give without being asked, by priority,
    /// then by name.
    pub(super) fn claim_any(
        &mut self,
        who: Asker<'_>,
        v6: bool,
        ports: &Ports,
        asked: Option<&str>,
    ) -> Result<IpAddr, Trouble> {
        let family = if v6 { "IPv6" } else { "IPv4" };
        let gives = |pool: &&Pool| {
            asked.map_or(!pool.spec.manual, |name| pool.name == name)
                && pool.permits(who)
                && pool.ranges.iter().any(|range| range.is_ipv4() != v6)
        };
        let mut pools: Vec<&Pool> = self.pools.values().filter(gives).collect();
        // Stable: by name among equals.
        pools.sort_by_key(|pool| Reverse(pool.spec.priority));
        if pools.is_empty() {
            let named =
                asked.map(|name| format!(" called {}", shortened(name, 100))).unwrap_or_default();
            let what = format!(
                "no AddressPool{named} gives {family} addresses to Service {} of namespace {}; create one, or see the \
                 status of those there are",
                who.name.name, who.name.namespace
            );
            return Err(trouble("NoPool", what));
        }
        let leases = &mut self.leases;
        let from = |pool: &Pool| {
            let sharing = pool.spec.sharing;
            let from = From { pool: &pool.name, ranges: &pool.ranges, sharing, ipv4: !v6 };
            leases.claim_any(from, who.name, ports)
        };
        pools.into_iter().find_map(from).ok_or_else(|| {
            let what = format!("every {family} address is in use; add addresses to a pool");
            trouble("PoolExhausted", what)
        })
    }

    /// Those of the ports that no other Service has at an address of this one.
    pub(super) fn open_ports(&self, who: &ObjectName, ports: &Ports) -> Ports {
        self.leases.open_ports(who, ports)
    }

    pub(super) fn release_one(&mut self, who: &ObjectName, address: IpAddr) {
        self.leases.release_one(who, address);
    }

    /// What a Service has, to come back to.
    pub(super) fn before(&self, who: &ObjectName) -> Before {
        self.leases.before(who)
    }

    /// Leaves a Service what it had.
    pub(super) fn restore(&mut self, who: &ObjectName, before: Before) {
        self.leases.restore(who, before);
    }

    pub(super) fn release(&mut self, who: &ObjectName) {
        self.leases.release(who);
    }

    /// True once after somebody gave up something that others may wait for.
    pub(super) fn take_freed(&mut self) -> bool {
        self.leases.take_freed()
    }

    /// Use of the pools for which it may have changed; `None` for one that is gone.
    pub(super) fn take_uses(&mut self) -> Vec<(String, Option<PoolUse>)> {
        for (address, comes) in self.leases.take_turned() {
            let Some(name) = owner(&self.owners, address) else { continue };
            let Some(pool) = self.pools.get_mut(name) else { continue };
            pool.used = if comes { pool.used + 1 } else { pool.used.saturating_sub(1) };
            self.changed.insert(name.to_owned());
        }
        let changed = std::mem::take(&mut self.changed);
        changed
            .into_iter()
            .map(|name| {
                let usage = self.pools.get(&name).map(|pool| pool.usage(&self.leases));
                (name, usage)
            })
            .collect()
    }
}

// === impl Pool ===

impl Pool {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn spec(&self) -> &AddressPoolSpec {
        &self.spec
    }

    /// True when its addresses are for this Service.
    pub(super) fn permits(&self, who: Asker<'_>) -> bool {
        (self.spec.namespaces.is_empty() || self.spec.namespaces.contains(&who.name.namespace))
            && self.namespaces.takes(who.namespace_labels)
            && self.services.takes(Some(who.labels))
    }

    /// Its ranges, when all that was written makes sense: half a pool might be for the wrong ones.
    fn read(&mut self) -> Result<Vec<Range>, Trouble> {
        let spec = &self.spec;
        self.namespaces = Chooses::read("namespaceSelector", spec.namespace_selector.as_ref())?;
        self.services = Chooses::read("serviceSelector", spec.service_selector.as_ref())?;
        if let Some(bad) = spec.route.communities.iter().find(|text| !is_community(text)) {
            let what = format!(
                "community {bad:?} is neither ASN:VALUE with numbers up to 65535 nor ASN:A:B with numbers up to 4294967295"
            );
            return Err(trouble("InvalidPool", what));
        }
        let read = |text: &String| Range::parse(text, spec.avoid_network_and_broadcast);
        let ranges: Result<Vec<Range>, String> = spec.addresses.iter().map(read).collect();
        let mut ranges = ranges.map_err(|what| trouble("InvalidPool", what))?;
        let of_class = |range: &Range| Some((*range, Class::within(range.first(), range.last())?));
        if let Some((range, (class, block))) = ranges.iter().find_map(of_class) {
            let what = format!("{range} has addresses of {block}, each of which {class}");
            return Err(trouble("ReservedAddresses", what));
        }
        ranges.sort_by_key(Range::first);
        for (one, next) in ranges.iter().zip(ranges.iter().skip(1)) {
            if one.overlaps(next) {
                return Err(trouble("InvalidPool", format!("{one} and {next} overlap")));
            }
        }
        Ok(ranges)
    }

    fn usage(&self, leases: &Leases) -> PoolUse {
        let all = self.ranges.iter().fold(0u128, |sum, range| sum.saturating_add(range.size()));
        let free = all.saturating_sub(self.used);
        let is_of_machines = all > 0 && leases.of_machines(&self.ranges) == all;
        let of_machines = is_of_machines.then(|| {
            let what = "every address of it is a node's or the API server's; add others";
            trouble("ReservedAddresses", what)
        });
        PoolUse { used: self.used, free, trouble: self.trouble.clone().or(of_machines) }
    }
}

fn owner(owners: &BTreeMap<IpAddr, (Range, String)>, address: IpAddr) -> Option<&str> {
    let (_, (range, name)) = owners.range(..=address).next_back()?;
    range.contains(address).then_some(name)
}

fn overlapped<'a>(
    owners: &'a BTreeMap<IpAddr, (Range, String)>,
    ranges: &[Range],
) -> Option<(&'a str, Range)> {
    let clash = |range: &Range| owners.values().find(|(one, _)| one.overlaps(range));
    ranges.iter().find_map(|range| clash(range).map(|(_, name)| (name.as_str(), *range)))
}

/// `ASN:VALUE` (RFC 1997) or `ASN:A:B` (RFC 8092).
fn is_community(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.len() {
        2 => parts.iter().all(|part| part.parse::<u16>().is_ok()),
        3 => parts.iter().all(|part| part.parse::<u32>().is_ok()),
        _ => false,
    }
}
