//! How much of one service the data plane holds, and what is chosen when more is wanted. The bridge asks here to say what
//! is left out where the Service is; the planner asks again, whatever comes from wherever.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Backends of one frontend that can have weight: above this Maglev's shares are off by more than ten per cent.
pub const MAX_BACKENDS_PER_FRONTEND: usize = 409;

/// Frontends that may share one backend address, port and protocol: a reply tries them in turn.
pub const MAX_FRONTENDS_PER_BACKEND: usize = 30;

/// Backends next in line keep the flows they have: when a chosen one comes, the last one is passed over and must not lose
/// its flows for it. A tenth, as few are replaced within the life of a flow, and each takes its place in the data plane.
const NEXT_IN_LINE: usize = MAX_BACKENDS_PER_FRONTEND / 10;

/// Backends without weight that keep their flows: as many as could have had them. More never had weight together, and each
/// takes its place in the data plane, which holds 32,767 for all services.
const MAX_DRAINING: usize = MAX_BACKENDS_PER_FRONTEND;

/// The backends of a frontend that it has no place for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surplus {
    drained: BTreeSet<SocketAddr>,
    left_out: BTreeSet<SocketAddr>,
    /// Without weight anyway.
    forgotten: BTreeSet<SocketAddr>,
}

// === impl Surplus ===

impl Surplus {
    /// Chooses among the backends that have weight, and apart from them among those that drain: the first by a hash of
    /// their addresses. So every appliance and every restart chooses the same, and where one comes or goes one other is
    /// moved.
    pub fn of(backends: impl IntoIterator<Item = (SocketAddr, u16)>) -> Self {
        let (mut weighted, mut draining) = (Vec::new(), Vec::new());
        for (address, weight) in backends {
            if weight > 0 { &mut weighted } else { &mut draining }.push(address);
        }
        let mut rest = beyond(weighted, MAX_BACKENDS_PER_FRONTEND);
        let drained = rest.by_ref().take(NEXT_IN_LINE).collect();
        let forgotten = beyond(draining, MAX_DRAINING).collect();
        Surplus { drained, left_out: rest.collect(), forgotten }
    }

    /// How many get no new flows.
    pub fn len(&self) -> usize {
        self.drained.len() + self.left_out.len()
    }

    /// True when there is a place for all that are to get new flows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The weight that a backend keeps; none when it is left out.
    pub fn weight(&self, address: SocketAddr, weight: u16) -> Option<u16> {
        if self.left_out.contains(&address) || self.forgotten.contains(&address) {
            return None;
        }
        Some(if self.drained.contains(&address) { 0 } else { weight })
    }
}

/// All but the first of them.
fn beyond(mut all: Vec<SocketAddr>, first: usize) -> impl Iterator<Item = SocketAddr> {
    if all.len() > first {
        all.sort_by_cached_key(|address| (hash(*address), *address));
        all.dedup();
    }
    all.into_iter().skip(first)
}

/// FNV-1a, whose bits are mixed once more as the addresses of a cluster differ in few of them (MurmurHash3's `fmix64`).
/// The same in every version: another order would move flows when the two sides are upgraded.
fn hash(address: SocketAddr) -> u64 {
    let port = address.port().to_be_bytes();
    let step = |sum: u64, octet: &u8| (sum ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3);
    let fold = |octets: &[u8]| octets.iter().chain(&port).fold(0xcbf2_9ce4_8422_2325, step);
    let mut sum: u64 = match address.ip() {
        IpAddr::V4(ip) => fold(&ip.octets()),
        IpAddr::V6(ip) => fold(&ip.octets()),
    };
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        sum = (sum ^ (sum >> 33)).wrapping_mul(factor);
    }
    sum ^ (sum >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(n: usize) -> SocketAddr {
        let [.., high, low] = n.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 8080))
    }

    fn chosen(all: &[SocketAddr]) -> BTreeSet<SocketAddr> {
        let surplus = Surplus::of(all.iter().map(|address| (*address, 1)));
        all.iter().copied().filter(|a| surplus.weight(*a, 1) == Some(1)).collect()
    }

    #[test]
    fn as_many_as_there_is_room_for_are_chosen() {
        for (all, drained, left_out) in
            [(0, 0, 0), (409, 0, 0), (410, 1, 0), (450, 40, 1), (2000, 40, 1551)]
        {
            let backends: Vec<_> = (0..all).map(backend).collect();
            let surplus = Surplus::of(backends.iter().map(|address| (*address, 1)));
            assert_eq!(
                (surplus.drained.len(), surplus.left_out.len()),
                (drained, left_out),
                "{all}"
            );
            assert_eq!(chosen(&backends).len(), all.min(409));
        }
    }

    #[test]
    fn those_that_drain_take_no_place_of_others_and_are_limited_too() {
        let weight = |n: usize| u16::from(n.is_multiple_of(5));
        let backends: Vec<_> = (0..2045).map(|n| (backend(n), weight(n))).collect();
        let surplus = Surplus::of(backends.iter().copied());
        let left = |wanted| {
            let left = backends.iter().filter_map(|(a, weight)| surplus.weight(*a, *weight));
            left.filter(|weight| *weight == wanted).count()
        };
        assert_eq!((surplus.is_empty(), left(1), left(0)), (true, 409, 409));
    }

    #[test]
    fn one_that_comes_or_goes_moves_one() {
        let all: Vec<_> = (0..1000).map(backend).collect();
        let before = chosen(&all);
        for gone in 0..1000 {
            let others: Vec<_> = all.iter().copied().filter(|a| *a != backend(gone)).collect();
            let moved = before.symmetric_difference(&chosen(&others)).count();
            assert_eq!(moved, if before.contains(&backend(gone)) { 2 } else { 0 });
        }
    }

    #[test]
    fn the_order_never_changes() {
        let sums = ["10.0.0.1:80", "[2001:db8::1]:443"].map(|text| hash(text.parse().unwrap()));
        assert_eq!(sums, [0x11bc_26ce_e5dc_8bf6, 0x3d43_0040_712a_a80d]);
    }
}
