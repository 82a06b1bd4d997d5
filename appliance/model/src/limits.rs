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

/// The backends of a frontend that it has no place for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surplus {
    drained: BTreeSet<SocketAddr>,
    left_out: BTreeSet<SocketAddr>,
}

// === impl Surplus ===

impl Surplus {
    /// Chooses among the backends that have weight: the first by a hash of their addresses. So every appliance and every
    /// restart chooses the same, and where one comes or goes one other is moved.
    pub fn of(weighted: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut all: Vec<SocketAddr> = weighted.into_iter().collect();
        if all.len() <= MAX_BACKENDS_PER_FRONTEND {
            return Surplus::default();
        }
        all.sort_by_cached_key(|address| (hash(*address), *address));
        all.dedup();
        let mut rest = all.into_iter().skip(MAX_BACKENDS_PER_FRONTEND);
        let drained = rest.by_ref().take(NEXT_IN_LINE).collect();
        Surplus { drained, left_out: rest.collect() }
    }

    /// How many get no new flows.
    pub fn len(&self) -> usize {
        self.drained.len() + self.left_out.len()
    }

    /// True when there is a place for all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The weight that a backend keeps; none when it is left out.
    pub fn weight(&self, address: SocketAddr, weight: u16) -> Option<u16> {
        if self.left_out.contains(&address) {
            return None;
        }
        Some(if self.drained.contains(&address) { 0 } else { weight })
    }
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
        let surplus = Surplus::of(all.iter().copied());
        all.iter().copied().filter(|a| surplus.weight(*a, 1) == Some(1)).collect()
    }

    #[test]
    fn as_many_as_there_is_room_for_are_chosen() {
        for (all, drained, left_out) in
            [(0, 0, 0), (409, 0, 0), (410, 1, 0), (450, 40, 1), (2000, 40, 1551)]
        {
            let backends: Vec<_> = (0..all).map(backend).collect();
            let surplus = Surplus::of(backends.iter().copied());
            assert_eq!(
                (surplus.drained.len(), surplus.left_out.len()),
                (drained, left_out),
                "{all}"
            );
            assert_eq!(chosen(&backends).len(), all.min(409));
        }
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
