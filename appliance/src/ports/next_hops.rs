//! The ways to the backends, from netlink to the data plane.

use super::convert::next_hop_to_xdp;
use super::first_set::Given;
use sluice_netlink::Resolution;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// Decides which set the data plane is given.
pub(crate) struct NextHops {
    given: Given<BTreeMap<IpAddr, sluice_xdp::NextHop>>,
}

// === impl NextHops ===

impl NextHops {
    pub(crate) fn new(now: Instant) -> Self {
        NextHops { given: Given::new(now) }
    }

    /// The set to give now; `None` when the data plane has it already or should keep what it has for a moment.
    ///
    /// A neighbour that is being asked again keeps the way it had: its answer is likely the same one.
    pub(crate) fn next(
        &self,
        wanted: &BTreeSet<IpAddr>,
        known: &BTreeMap<IpAddr, Resolution>,
        now: Instant,
    ) -> Option<BTreeMap<IpAddr, sluice_xdp::NextHop>> {
        let mut set = BTreeMap::new();
        let mut undecided = false;
        for address in wanted {
            match known.get(address) {
                Some(Resolution::Resolved(next_hop)) => {
                    set.insert(*address, next_hop_to_xdp(*next_hop));
                }
                Some(Resolution::Resolving { link_index, .. }) => {
                    undecided = true;
                    let before = self.given.last().and_then(|given| given.get(address));
                    if let Some(before) = before.filter(|before| before.link_index == *link_index) {
                        set.insert(*address, *before);
                    }
                }
                Some(Resolution::Unreachable { .. } | Resolution::NoRoute | Resolution::Local) => {}
                None => undecided = true,
            }
        }
        self.given.wants(&set, || !undecided, now).then_some(set)
    }

    /// The data plane has this set.
    pub(crate) fn given(&mut self, set: BTreeMap<IpAddr, sluice_xdp::NextHop>) {
        self.given.put(set);
    }

    /// True when everything wanted is known to be reachable or not.
    pub(crate) fn decided(wanted: &BTreeSet<IpAddr>, known: &BTreeMap<IpAddr, Resolution>) -> bool {
        wanted
            .iter()
            .all(|address| !matches!(known.get(address), None | Some(Resolution::Resolving { .. })))
    }
}

#[cfg(test)]
mod tests {
    use super::super::first_set::FIRST_SET_WITHIN;
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn resolved(link_index: u32) -> Resolution {
        let next_hop =
            sluice_netlink::NextHop { link_index, source_mac: MAC, destination_mac: MAC };
        Resolution::Resolved(next_hop)
    }

    fn resolving(link_index: u32) -> Resolution {
        Resolution::Resolving { link_index, gateway: address(254) }
    }

    #[test]
    fn the_first_set_waits_for_answers_but_not_for_ever() {
        let now = Instant::now();
        let next_hops = NextHops::new(now);
        let wanted = BTreeSet::from([address(1), address(2)]);
        let half = BTreeMap::from([(address(1), resolved(3)), (address(2), resolving(3))]);
        assert_eq!(next_hops.next(&wanted, &half, now), None);
        assert_eq!(next_hops.next(&wanted, &BTreeMap::new(), now), None);
        let late = next_hops.next(&wanted, &half, now + FIRST_SET_WITHIN).unwrap();
        assert_eq!(late.keys().collect::<Vec<_>>(), [&address(1)]);
        let dead = BTreeMap::from([(address(1), resolved(3)), (address(2), Resolution::NoRoute)]);
        assert_eq!(next_hops.next(&wanted, &dead, now), Some(late));
    }

    #[test]
    fn a_way_survives_being_asked_again_on_the_same_link() {
        let now = Instant::now();
        let mut next_hops = NextHops::new(now);
        let wanted = BTreeSet::from([address(1)]);
        let known = |resolution| BTreeMap::from([(address(1), resolution)]);
        let set = next_hops.next(&wanted, &known(resolved(3)), now).unwrap();
        next_hops.given(set);
        assert_eq!(next_hops.next(&wanted, &known(resolved(3)), now), None, "nothing changed");
        assert_eq!(next_hops.next(&wanted, &known(resolving(3)), now), None);
        assert_eq!(next_hops.next(&wanted, &known(resolving(4)), now), Some(BTreeMap::new()));
        let gone = Resolution::Unreachable { link_index: 3, gateway: address(254) };
        assert_eq!(next_hops.next(&wanted, &known(gone), now), Some(BTreeMap::new()));
        assert_eq!(
            next_hops.next(&BTreeSet::new(), &known(resolved(3)), now),
            Some(BTreeMap::new())
        );
    }
}
