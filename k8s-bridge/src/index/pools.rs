//! Pools: which addresses there are, and for whom.

use super::leases::{Leases, Ports, Taken};
use super::ranges::Range;
use super::{ObjectName, PoolUse, Trouble, trouble};
use crate::crd::{AddressPool, Sharing};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Pools by name, and who has which address of them.
#[derive(Default)]
pub(super) struct Pools {
    pools: BTreeMap<String, Pool>,
    leases: Leases,
}

struct Pool {
    object: AddressPool,
    /// Empty while there is a trouble.
    ranges: Vec<Range>,
    trouble: Option<Trouble>,
}

// === impl Pools ===

impl Pools {
    pub(super) fn apply(&mut self, name: String, object: AddressPool) {
        self.pools.insert(name, Pool { object, ranges: Vec::new(), trouble: None });
        self.judge();
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.pools.remove(name);
        self.judge();
    }

    /// What each pool may give. Of two that overlap the first by name does; the other gives nothing, so that no two
    /// rules apply to one address.
    fn judge(&mut self) {
        let mut good: Vec<(String, Vec<Range>)> = Vec::new();
        for (name, pool) in &mut self.pools {
            let judged = parse(&pool.object).and_then(|ranges| match overlapped(&good, &ranges) {
                Some((other, range)) => {
                    let what = format!("{range} overlaps with pool {other}; change one of them");
                    Err(trouble("PoolOverlap", what))
                }
                None => Ok(ranges),
            });
            match judged {
                Ok(ranges) => {
                    good.push((name.clone(), ranges.clone()));
                    (pool.ranges, pool.trouble) = (ranges, None);
                }
                Err(why) => (pool.ranges, pool.trouble) = (Vec::new(), Some(why)),
            }
        }
    }

    /// The pool that has the address.
    pub(super) fn of(&self, address: IpAddr) -> Option<&AddressPool> {
        let has = |pool: &&Pool| pool.ranges.iter().any(|range| range.contains(address));
        self.pools.values().find(has).map(|pool| &pool.object)
    }

    /// What a Service has, lowest first.
    pub(super) fn held_by(&self, who: &ObjectName) -> Vec<IpAddr> {
        self.leases.of(who)
    }

    /// Leaves a Service the address that its status has, whatever pools say by now. Of two with the same port the one
    /// that comes first has it.
    pub(super) fn import(&mut self, address: IpAddr, who: &ObjectName, ports: &Ports) {
        // Whoever comes second gets another address when it is decided about.
        let _second = self.leases.claim(address, who, ports, Sharing::Shared);
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

    /// Gives the lowest free address: of the pool that was asked for, else of those that give without being asked, by
    /// priority, then by name.
    pub(super) fn claim_any(
        &mut self,
        who: &ObjectName,
        v6: bool,
        ports: &Ports,
        asked: Option<&str>,
    ) -> Result<IpAddr, Trouble> {
        let family = if v6 { "IPv6" } else { "IPv4" };
        let is_meant = |pool: &Pool| match asked {
            Some(name) => pool.object.metadata.name.as_deref() == Some(name),
            None => !pool.object.spec.manual,
        };
        let gives = |pool: &&Pool| {
            is_meant(pool)
                && permits(&pool.object, who)
                && pool.ranges.iter().any(|range| range.is_ipv4() != v6)
        };
        let mut pools: Vec<&Pool> = self.pools.values().filter(gives).collect();
        // Stable: by name among equals.
        pools.sort_by_key(|pool| Reverse(pool.object.spec.priority));
        if pools.is_empty() {
            let named = asked.map(|name| format!(" called {name}")).unwrap_or_default();
            let what = format!(
                "no AddressPool{named} gives {family} addresses to namespace {}; create one, or see the status of \
                 those there are",
                who.namespace
            );
            return Err(trouble("NoPool", what));
        }
        let leases = &mut self.leases;
        pools
            .into_iter()
            .find_map(|pool| {
                leases.claim_any(&pool.ranges, !v6, who, ports, pool.object.spec.sharing)
            })
            .ok_or_else(|| {
                let what = format!("every {family} address is in use; add addresses to a pool");
                trouble("PoolExhausted", what)
            })
    }

    pub(super) fn release_one(&mut self, who: &ObjectName, address: IpAddr) {
        self.leases.release_one(who, address);
    }

    pub(super) fn release(&mut self, who: &ObjectName) {
        self.leases.release(who);
    }

    /// Use of every pool.
    pub(super) fn uses(&self) -> Vec<(String, PoolUse)> {
        let of = |pool: &Pool| {
            let used = self.leases.used(&pool.ranges);
            let all = pool.ranges.iter().fold(0u128, |sum, range| sum.saturating_add(range.size()));
            PoolUse { used, free: all.saturating_sub(used), trouble: pool.trouble.clone() }
        };
        self.pools.iter().map(|(name, pool)| (name.clone(), of(pool))).collect()
    }
}

/// Pools with selectors are not served yet: nobody gets their addresses rather than everybody.
pub(super) fn permits(pool: &AddressPool, who: &ObjectName) -> bool {
    let spec = &pool.spec;
    spec.namespace_selector.is_none()
        && spec.service_selector.is_none()
        && (spec.namespaces.is_empty() || spec.namespaces.contains(&who.namespace))
}

fn parse(pool: &AddressPool) -> Result<Vec<Range>, Trouble> {
    let spec = &pool.spec;
    if spec.namespace_selector.is_some() || spec.service_selector.is_some() {
        let what = "selectors are not served yet, so nobody gets its addresses; name namespaces";
        return Err(trouble("UnsupportedSelector", what));
    }
    let read = |text: &String| Range::parse(text, spec.avoid_network_and_broadcast);
    let ranges: Result<Vec<Range>, String> = spec.addresses.iter().map(read).collect();
    let ranges = ranges.map_err(|what| trouble("InvalidPool", what))?;
    for (at, range) in ranges.iter().enumerate() {
        if let Some(other) = ranges.iter().take(at).find(|other| other.overlaps(range)) {
            return Err(trouble("InvalidPool", format!("{other} and {range} overlap")));
        }
    }
    Ok(ranges)
}

fn overlapped<'a>(good: &'a [(String, Vec<Range>)], ranges: &[Range]) -> Option<(&'a str, Range)> {
    ranges.iter().find_map(|range| {
        let other = good.iter().find(|(_, its)| its.iter().any(|one| one.overlaps(range)))?;
        Some((other.0.as_str(), *range))
    })
}
