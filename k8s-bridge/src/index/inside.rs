//! Who is inside the cluster: clients whose answers would not come back through an appliance, because they live beside the
//! endpoints. Nodes tell of themselves and of pod networks in `spec.podCIDRs`. Where another IPAM gives the addresses
//! (Calico, Cilium, cloud networks) those are empty or wrong, so endpoints tell where pods are.
//!
//! They tell it in blocks, not one by one: a rolling update then changes nothing, and pods that are no endpoints are in the
//! blocks of those that are. A block may hold a host that is no pod; it is a neighbour of pods, so answers would pass the
//! appliance by for it as well.

use super::nodes::Nodes;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The length of Calico's blocks, of IPv4 and IPv6; those of Cilium and of clouds are larger.
const BLOCK: (u8, u8) = (26, 122);

/// How many prefixes endpoints may add. The data plane has room for 65,536 in all lists, and holds the old list and the new
/// one while they change.
const BUDGET: usize = 512;

/// Beyond the budget blocks are widened by steps, and no further than this: a network of pods is hardly larger.
const WIDEST: (u8, u8) = (8, 32);

/// Addresses of pods, counted, by their block.
#[derive(Default)]
pub(super) struct Pods {
    blocks: BTreeMap<IpNet, BTreeMap<IpAddr, u32>>,
    has_changed: bool,
}

// === impl Pods ===

impl Pods {
    pub(super) fn add(&mut self, address: IpAddr) {
        let Some(block) = block(address, 0) else { return };
        let count = self.blocks.entry(block).or_default().entry(address).or_default();
        self.has_changed |= *count == 0;
        *count = count.saturating_add(1);
    }

    pub(super) fn remove(&mut self, address: IpAddr) {
        let Some(block) = block(address, 0) else { return };
        let Some(addresses) = self.blocks.get_mut(&block) else { return };
        match addresses.get_mut(&address) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) => {
                addresses.remove(&address);
                self.has_changed = true;
            }
            None => {}
        }
        if addresses.is_empty() {
            self.blocks.remove(&block);
        }
    }

    /// True when it holds other addresses than it did when this was asked last.
    pub(super) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Blocks with an address that is none of a node: pods in the network of their node have its address.
    fn blocks(&self, of_nodes: &BTreeSet<IpAddr>) -> impl Iterator<Item = IpNet> {
        let has_pods = |addresses: &BTreeMap<IpAddr, u32>| {
            addresses.keys().any(|address| !of_nodes.contains(address))
        };
        self.blocks.iter().filter(move |(_, has)| has_pods(has)).map(|(block, _)| *block)
    }
}

/// Prefixes of nodes, their pods and all pods there are, and these; as few as possible, sorted.
pub(super) fn inside(nodes: &Nodes, pods: &Pods, also: &[IpNet]) -> Vec<IpNet> {
    let known = nodes.inside(also);
    let of_nodes: BTreeSet<IpAddr> = nodes.addresses().map(|(address, _)| address).collect();
    let is_new = |block: &IpNet| {
        // Sorted and disjoint: only the last that does not begin behind the block can contain it.
        let at = known.partition_point(|net| net.network() <= block.network());
        let before = at.checked_sub(1).and_then(|at| known.get(at));
        !before.is_some_and(|net| net.contains(block))
    };
    let mut blocks: Vec<IpNet> = pods.blocks(&of_nodes).filter(is_new).collect();
    let mut steps = 0;
    while IpNet::aggregate(&blocks).len() > BUDGET {
        steps += 1;
        let wider = blocks.iter().filter_map(|net| block(net.network(), steps));
        let wider: BTreeSet<IpNet> = wider.collect();
        if wider.iter().eq(&blocks) {
            break;
        }
        blocks = wider.into_iter().collect();
    }
    let mut all = IpNet::aggregate(&known.into_iter().chain(blocks).collect());
    all.sort_unstable();
    all
}

/// The block of an address, widened by this many steps: each joins four blocks of IPv4, or 256 of IPv6.
fn block(address: IpAddr, steps: u8) -> Option<IpNet> {
    let (length, widest, step) = match address {
        IpAddr::V4(_) => (BLOCK.0, WIDEST.0, 2),
        IpAddr::V6(_) => (BLOCK.1, WIDEST.1, 8),
    };
    let length = length.saturating_sub(steps.saturating_mul(step)).max(widest);
    IpNet::new(address, length).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn texts(pods: &Pods, also: &[&str]) -> Vec<String> {
        let also: Vec<IpNet> = also.iter().map(|net| net.parse().unwrap()).collect();
        inside(&Nodes::default(), pods, &also).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_known_already_is_not_said_again() {
        let mut pods = Pods::default();
        for address in ["10.1.2.70", "10.1.2.71", "10.9.0.1", "10.9.200.1", "2001:db8::1"] {
            pods.add(address.parse().unwrap());
        }
        let all = ["10.1.2.64/26", "10.9.0.0/16", "2001:db8::/122"];
        assert_eq!(texts(&pods, &["10.9.0.0/16"]), all);
    }

    #[test]
    fn an_address_is_there_as_long_as_somebody_has_it() {
        let (mut pods, one, other) =
            (Pods::default(), "10.1.2.1".parse().unwrap(), "10.1.2.2".parse().unwrap());
        let mut step = |act: fn(&mut Pods, IpAddr), address| {
            act(&mut pods, address);
            (pods.take_change(), texts(&pods, &[]).len())
        };
        assert_eq!(step(Pods::add, one), (true, 1));
        assert_eq!(step(Pods::add, one), (false, 1));
        assert_eq!(step(Pods::add, other), (true, 1));
        assert_eq!(step(Pods::remove, one), (false, 1));
        assert_eq!(step(Pods::remove, one), (true, 1));
        assert_eq!(step(Pods::remove, other), (true, 0));
        assert_eq!(step(Pods::remove, other), (false, 0));
    }

    #[test]
    fn however_many_pods_there_are_the_prefixes_are_few() {
        let mut pods = Pods::default();
        for n in 0..20_000u32 {
            // A pod in every second block, so that no two are neighbours.
            pods.add(Ipv4Addr::from(0x0a00_0000 + n * 128).into());
            pods.add(Ipv6Addr::from((0x2001_0db8_u128 << 96) + u128::from(n) * 128).into());
        }
        let all = inside(&Nodes::default(), &pods, &[]);
        assert!(all.len() <= BUDGET, "{}", all.len());
        for n in 0..20_000u32 {
            let address = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n * 128));
            assert!(all.iter().any(|net| net.contains(&address)), "{address}");
        }
        assert!(!all.iter().any(|net| net.contains(&IpAddr::from([11, 0, 0, 1]))));
    }
}
