//! The ways to the clients, from netlink to the data plane.

use super::convert::next_hop_to_xdp;
use super::first_set::Given;
use sluice_netlink::{Way, Ways};
use std::sync::Arc;
use std::time::Instant;

// What netlink does not follow is what the data plane has no room for.
const _: () = assert!(
    sluice_netlink::MAX_PREFIXES == sluice_xdp::MAX_WAYS as usize
        && sluice_netlink::MAX_ROUTERS == sluice_xdp::MAX_ROUTERS as usize
);

/// Decides which set the data plane is given.
pub(crate) struct ClientWays {
    known: Arc<Ways>,
    given: Given<Arc<Ways>>,
}

// === impl ClientWays ===

impl ClientWays {
    pub(crate) fn new(known: Arc<Ways>, now: Instant) -> Self {
        ClientWays { known, given: Given::new(now) }
    }

    /// What netlink knows by now.
    pub(crate) fn known(&mut self, ways: Arc<Ways>) {
        self.known = ways;
    }

    /// What an operator should know on a host that does not forward, so that the kernel cannot be asked instead.
    pub(crate) fn problem(&self, forwards: impl FnOnce() -> bool) -> Option<String> {
        let why = self.known.unknown?;
        (!forwards()).then(|| {
            format!(
                "replies stay with the router that a client's last packet came from, since {why}: have the host forward \
                 (net.ipv4.ip_forward = 1, net.ipv6.conf.all.forwarding = 1), so that the kernel is asked"
            )
        })
    }

    /// The set to give now; `None` when the data plane has it already or should keep what it has for a moment.
    pub(crate) fn next(&self, now: Instant) -> Option<Arc<Ways>> {
        let is_due = self.given.wants(&self.known, || self.is_complete(), now);
        is_due.then(|| Arc::clone(&self.known))
    }

    /// The data plane has this set.
    pub(crate) fn given(&mut self, ways: Arc<Ways>) {
        self.given.put(ways);
    }

    /// Whether every router is known.
    fn is_complete(&self) -> bool {
        self.known.prefixes.values().all(|way| match way {
            Way::Routers(routers) => routers.iter().all(|r| self.known.routers.contains_key(r)),
            Way::Unknown | Way::Local | Way::Link(_) => true,
        })
    }

    /// The same in the data plane's words.
    pub(crate) fn of_xdp(ways: &Ways) -> sluice_xdp::Ways {
        let way = |way: &Way| match way {
            Way::Unknown => sluice_xdp::Way::Unknown,
            Way::Local => sluice_xdp::Way::Local,
            Way::Link(link_index) => sluice_xdp::Way::Link(*link_index),
            Way::Routers(routers) => sluice_xdp::Way::Routers(routers.clone()),
        };
        let routers = ways.routers.iter().map(|(router, hop)| (*router, next_hop_to_xdp(*hop)));
        sluice_xdp::Ways {
            prefixes: ways.prefixes.iter().map(|(net, w)| (*net, way(w))).collect(),
            routers: routers.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::first_set::FIRST_SET_WITHIN;
    use super::*;
    use sluice_netlink::WaysUnknown;
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    fn ways(is_known: bool) -> Arc<Ways> {
        let router = (2, IpAddr::from([10, 0, 0, 1]));
        let hop =
            sluice_netlink::NextHop { link_index: 2, source_mac: [2; 6], destination_mac: [4; 6] };
        let net = "0.0.0.0/0".parse().unwrap();
        Arc::new(Ways {
            prefixes: Arc::new(BTreeMap::from([(net, Way::Routers(vec![router]))])),
            routers: is_known.then_some((router, hop)).into_iter().collect(),
            unknown: None,
        })
    }

    #[test]
    fn what_is_not_followed_is_a_problem_where_the_kernel_cannot_be_asked() {
        let of = |unknown| {
            let ways = Ways { unknown, ..Ways::default() };
            ClientWays::new(Arc::new(ways), Instant::now())
        };
        assert_eq!(of(None).problem(|| false), None);
        let too_many = of(Some(WaysUnknown::TooMany));
        assert_eq!(too_many.problem(|| true), None, "the kernel is asked");
        assert!(too_many.problem(|| false).is_some_and(|words| words.contains("16384 routes")));
        let rules = of(Some(WaysUnknown::OtherRules)).problem(|| false);
        assert!(rules.is_some_and(|words| words.contains("ip rule")));
    }

    #[test]
    fn the_first_set_waits_for_its_routers_and_later_ones_do_not() {
        let now = Instant::now();
        let mut client_ways = ClientWays::new(ways(false), now);
        assert_eq!(client_ways.next(now), None, "what was adopted goes on");
        assert_eq!(client_ways.next(now + FIRST_SET_WITHIN), Some(ways(false)));
        client_ways.known(ways(true));
        assert_eq!(client_ways.next(now), Some(ways(true)));
        client_ways.given(ways(true));
        assert_eq!(client_ways.next(now), None, "nothing changed");
        client_ways.known(ways(false));
        assert_eq!(
            client_ways.next(now),
            Some(ways(false)),
            "a router that is gone is told at once"
        );
    }
}
