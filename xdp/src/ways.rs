//! Ways to clients: the routes they are found by and the routers these lead through.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use sluice_xdp_abi::flow::NextHop as Hop;
use sluice_xdp_abi::limits::{MAX_HOPS_PER_WAY, MAX_ROUTERS, MAX_WAYS};
use sluice_xdp_abi::way::{WAYS_LIST, Way as Entry, WayKind};

use crate::DataPlane;
use crate::convert::{next_hop, prefix, prefix_key};
use crate::error::{MapFailure, NextHopError};
use crate::ids::Ids;
use crate::types::{Router, Way, Ways};

/// The ways as the maps hold them, and which number each router has.
#[derive(Debug)]
pub(crate) struct Held {
    entries: BTreeMap<IpNet, Entry>,
    numbers: BTreeMap<Router, u32>,
    hops: BTreeMap<u32, Hop>,
    free: Ids,
}

/// What to write, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    hops: Vec<(u32, Hop)>,
    entries: Vec<(IpNet, Entry)>,
    gone: Vec<IpNet>,
    gone_hops: Vec<u32>,
}

// === impl DataPlane ===

impl DataPlane {
    /// The whole set of ways to clients, and the routers that are resolved. A way whose routers are all unknown, or
    /// behind a link without the program, is not taken: packets go to where the client's last one came from.
    ///
    /// # Errors
    /// When the kernel refuses a map update.
    pub fn set_ways(&mut self, ways: &Ways) -> Result<(), NextHopError> {
        let change = self.ways.become_these(ways);
        if change == Change::default() {
            return Ok(());
        }
        // Routers before what leads to them, and the other way round when they go.
        for (number, hop) in &change.hops {
            self.maps.routers.set(*number, hop)?;
        }
        for (net, entry) in &change.entries {
            self.maps.ways.put(&prefix_key(WAYS_LIST, net), *entry)?;
        }
        for net in &change.gone {
            self.maps.ways.remove(&prefix_key(WAYS_LIST, net))?;
        }
        for number in &change.gone_hops {
            self.maps.routers.set(*number, &Hop::default())?;
        }
        Ok(self.flush_cache()?)
    }

    /// Goes on with the ways of adopted maps until others are given.
    pub(crate) fn read_ways(&mut self) -> Result<(), MapFailure> {
        let mut entries = BTreeMap::new();
        for (key, entry) in self.maps.ways.entries()? {
            if let Some(net) = prefix(&key) {
                entries.insert(net, entry);
            }
        }
        let hops = (0..).zip(self.maps.routers.all()?);
        self.ways = Held::adopt(entries, hops.filter(|(_, hop)| hop.link_index != 0).collect());
        Ok(())
    }

    /// Sets right what somebody else has changed.
    pub(crate) fn see_to_ways(&mut self) -> Result<bool, MapFailure> {
        let is: BTreeMap<IpNet, Entry> = self
            .maps
            .ways
            .entries()?
            .iter()
            .filter_map(|(key, entry)| Some((prefix(key)?, *entry)))
            .collect();
        for net in is.keys().filter(|net| !self.ways.entries.contains_key(net)) {
            self.maps.ways.remove(&prefix_key(WAYS_LIST, net))?;
        }
        for (net, entry) in &self.ways.entries {
            if is.get(net) != Some(entry) {
                self.maps.ways.put(&prefix_key(WAYS_LIST, net), *entry)?;
            }
        }
        Ok(is != self.ways.entries)
    }

    pub(crate) fn see_to_routers(&mut self) -> Result<bool, MapFailure> {
        let mut is_changed = false;
        for (number, is) in (0..).zip(self.maps.routers.all()?) {
            let should = self.ways.hops.get(&number).copied().unwrap_or_default();
            if is != should {
                is_changed = true;
                self.maps.routers.set(number, &should)?;
            }
        }
        Ok(is_changed)
    }
}

// === impl Held ===

impl Default for Held {
    fn default() -> Self {
        Self::adopt(BTreeMap::new(), BTreeMap::new())
    }
}

impl Held {
    /// Which router has which number is not in the maps: those in use stay taken until other ways are given.
    fn adopt(entries: BTreeMap<IpNet, Entry>, hops: BTreeMap<u32, Hop>) -> Self {
        let used: BTreeSet<u32> = hops.keys().copied().collect();
        Self { entries, numbers: BTreeMap::new(), hops, free: Ids::new(0, MAX_ROUTERS, &used) }
    }

    /// Takes other ways in; returns how the maps get there. Beyond a limit no way leads over a router.
    fn become_these(&mut self, ways: &Ways) -> Change {
        let wanted: BTreeSet<Router> = ways
            .prefixes
            .values()
            .filter_map(|way| match way {
                Way::Routers(routers) => Some(routers.iter().copied().take(MAX_HOPS_PER_WAY)),
                Way::Unknown | Way::Local | Way::Link(_) => None,
            })
            .flatten()
            .collect();
        let mut change = Change::default();
        let is_too_much = ways.prefixes.len() > MAX_WAYS as usize || !self.number_them(&wanted);
        let entries: BTreeMap<IpNet, Entry> = if is_too_much {
            BTreeMap::new()
        } else {
            ways.prefixes.iter().map(|(net, way)| (*net, self.entry(way))).collect()
        };
        let hops: BTreeMap<u32, Hop> = wanted
            .iter()
            .filter(|_| !is_too_much)
            .filter_map(|router| {
                let hop = ways.routers.get(router)?;
                Some((*self.numbers.get(router)?, next_hop(Some(hop))))
            })
            .collect();
        change.hops = differing(&hops, &self.hops);
        change.entries = differing(&entries, &self.entries);
        change.gone =
            self.entries.keys().filter(|net| !entries.contains_key(net)).copied().collect();
        change.gone_hops = self.hops.keys().filter(|id| !hops.contains_key(id)).copied().collect();
        // Numbers of an adopted map are nobody's from here on.
        let numbered: BTreeSet<u32> = self.numbers.values().copied().collect();
        for id in change.gone_hops.iter().filter(|id| !numbered.contains(id)) {
            self.free.put_back(*id);
        }
        let unused: Vec<Router> =
            self.numbers.keys().filter(|router| !wanted.contains(router)).copied().collect();
        for router in unused {
            if let Some(id) = self.numbers.remove(&router) {
                self.free.put_back(id);
            }
        }
        (self.entries, self.hops) = (entries, hops);
        change
    }

    /// A number for each router; false when there are too many.
    fn number_them(&mut self, wanted: &BTreeSet<Router>) -> bool {
        wanted.iter().all(|router| {
            if self.numbers.contains_key(router) {
                return true;
            }
            let id = self.free.take();
            id.is_some_and(|id| {
                self.numbers.insert(*router, id);
                true
            })
        })
    }

    fn entry(&self, way: &Way) -> Entry {
        let of = |kind: WayKind| Entry { kind: kind as u16, ..Entry::default() };
        match way {
            Way::Unknown => of(WayKind::Unknown),
            Way::Local => of(WayKind::Local),
            Way::Link(link_index) => Entry { link_index: *link_index, ..of(WayKind::Link) },
            Way::Routers(routers) => {
                let mut entry = of(WayKind::Routers);
                let ids = routers.iter().filter_map(|router| self.numbers.get(router));
                for (slot, id) in entry.hops.iter_mut().zip(ids) {
                    *slot = u16::try_from(*id).unwrap_or_default();
                    entry.count += 1;
                }
                entry
            }
        }
    }
}

/// What is new or another than before.
fn differing<K: Ord + Copy, V: PartialEq + Copy>(
    now: &BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
) -> Vec<(K, V)> {
    now.iter().filter(|(k, v)| before.get(k) != Some(v)).map(|(k, v)| (*k, *v)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::types::NextHop;

    fn router(last: u8) -> Router {
        (2, IpAddr::from([10, 0, 0, last]))
    }

    fn hop(mac: u8) -> NextHop {
        NextHop { link_index: 2, source_mac: [2; 6], destination_mac: [mac; 6] }
    }

    fn ways(prefixes: &[(&str, Way)], routers: &[(u8, u8)]) -> Ways {
        Ways {
            prefixes: prefixes
                .iter()
                .map(|(net, way)| (net.parse().unwrap(), way.clone()))
                .collect(),
            routers: routers.iter().map(|(last, mac)| (router(*last), hop(*mac))).collect(),
        }
    }

    #[test]
    fn a_router_that_moves_touches_no_prefix_and_a_route_that_moves_no_router() {
        let mut held = Held::default();
        let through = |last| Way::Routers(vec![router(last)]);
        let first = ways(&[("0.0.0.0/0", through(1)), ("10.0.0.0/24", Way::Link(2))], &[(1, 1)]);
        let change = held.become_these(&first);
        assert_eq!((change.hops.len(), change.entries.len()), (1, 2));
        let moved = ways(&[("0.0.0.0/0", through(1)), ("10.0.0.0/24", Way::Link(2))], &[(1, 9)]);
        let change = held.become_these(&moved);
        assert_eq!((change.hops.len(), change.entries.len(), change.gone.len()), (1, 0, 0));
        let other = ways(&[("0.0.0.0/0", through(2)), ("10.0.0.0/24", Way::Link(2))], &[(2, 5)]);
        let change = held.become_these(&other);
        let [(id, _)] = change.hops[..] else { panic!("{change:?}") };
        assert_eq!(change.entries.len(), 1);
        assert_eq!(held.entries[&"0.0.0.0/0".parse().unwrap()].hops[0], u16::try_from(id).unwrap());
        assert_eq!(change.gone_hops, [0], "the first router's number");
        assert_eq!(held.become_these(&other), Change::default(), "the same is no change");
    }

    #[test]
    fn what_is_adopted_stays_until_other_ways_are_given_and_shares_no_number_with_them() {
        let mut before = Held::default();
        let given = ways(&[("0.0.0.0/0", Way::Routers(vec![router(1)]))], &[(1, 1)]);
        before.become_these(&given);
        let mut held = Held::adopt(before.entries.clone(), before.hops.clone());
        let change = held.become_these(&given);
        assert_eq!(change.gone_hops, [0]);
        let [(id, _)] = change.hops[..] else { panic!("{change:?}") };
        assert_ne!(id, 0, "the old way leads over the old number until it is rewritten");
    }

    #[test]
    fn too_many_routers_are_none() {
        let mut held = Held::default();
        let many = |n: u32| {
            let way = |i: u32| {
                (IpNet::new((0x0b00_0000 + i).to_be_bytes().into(), 32).unwrap(), {
                    Way::Routers(vec![(2, IpAddr::from((0x0a00_0000 + i).to_be_bytes()))])
                })
            };
            Ways { prefixes: (0..n).map(way).collect(), routers: BTreeMap::new() }
        };
        held.become_these(&many(MAX_ROUTERS));
        assert_eq!(held.entries.len(), MAX_ROUTERS as usize);
        held.become_these(&many(MAX_ROUTERS + 1));
        assert!(held.entries.is_empty());
        held.become_these(&many(2));
        assert_eq!(held.entries.len(), 2);
        held.become_these(&many(MAX_WAYS + 1));
        assert!(held.entries.is_empty());
    }
}
