//! Backends of one Service port: pods from its EndpointSlices (KEP-1669, KEP-1672), or nodes with its node port.
//!
//! What may not get new flows but has some is kept with weight 0, so that they stay.

use super::nodes::{Node, Nodes};
use super::slices::{Condition, Endpoint, Slice};
use sluice_api::WantedBackend;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Which port of which endpoints is meant.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    /// Name of the Service's port; empty for the only one.
    pub(super) port_name: &'a str,
    /// `TCP` or `UDP`.
    pub(super) protocol: &'a str,
    /// Prefer endpoints that are meant for this zone.
    pub(super) zone: Option<&'a str>,
    /// Only nodes with this label, or pods on them.
    pub(super) node_label: Option<&'a str>,
    /// Endpoints that are not ready keep the flows they have; else those are picked again.
    pub(super) drains_unready: bool,
}

/// How good a backend is for new flows; only the best rank of a family gets any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Not ready; gets no new flows whatever else there is.
    Draining,
    /// Terminates, or its node is about to go; serves when there is nothing else.
    Leaving,
    /// Ready.
    Ready,
    /// Ready, and meant for our zone.
    Near,
}

/// Backends and what each is good for; the number is its weight among the best.
type Ranked = BTreeMap<(IpAddr, u16), (Rank, u16)>;

/// Pods that answer, over all slices and both families, sorted; only those that are `permitted`.
pub(super) fn pods<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    nodes: &Nodes,
    wish: Wish<'_>,
    permitted: impl Fn(&Slice, IpAddr) -> bool,
) -> Vec<WantedBackend> {
    let mut ranked = Ranked::new();
    let is_meant = |endpoint: &&Endpoint| {
        let on = || nodes.get(endpoint.node.as_deref()?);
        wish.node_label.is_none_or(|label| on().is_some_and(|node| node.has_label(label)))
    };
    for slice in slices {
        for number in slice.numbers(wish.port_name, wish.protocol) {
            for endpoint in slice.endpoints.iter().filter(is_meant) {
                if !permitted(slice, endpoint.address) {
                    continue;
                }
                let near = wish.zone.is_some_and(|z| endpoint.for_zones.iter().any(|f| **f == *z));
                let rank = match (endpoint.condition, near) {
                    (Condition::NotReady, _) if !wish.drains_unready => continue,
                    (Condition::NotReady, _) => Rank::Draining,
                    (Condition::Leaving, _) => Rank::Leaving,
                    (Condition::Ready, false) => Rank::Ready,
                    (Condition::Ready, true) => Rank::Near,
                };
                // One address in two slices, while an endpoint moves between them or a pod between nodes.
                let entry = ranked.entry((endpoint.address, number)).or_insert((rank, 1));
                entry.0 = entry.0.max(rank);
            }
        }
    }
    weighted(ranked)
}

/// Nodes with the node port in each of these families (IPv6 is true), sorted. With `externalTrafficPolicy: Local` those
/// that have endpoints of their own, each with as many shares as it has ready ones.
pub(super) fn nodes<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    nodes: &Nodes,
    wish: Wish<'_>,
    (node_port, families): (u16, &[bool]),
    local: bool,
) -> Vec<WantedBackend> {
    let there = local.then(|| endpoints_of_nodes(slices, wish));
    let mut ranked = Ranked::new();
    for (name, node) in nodes.iter().filter(|(_, node)| may_serve(node, wish)) {
        for &v6 in families {
            let Some(address) = node.address(v6) else { continue };
            let has = match &there {
                Some(there) => there.get(&(name, v6)).copied().unwrap_or_default(),
                None => Count { best: Some(Condition::Ready), ready: 1 },
            };
            let rank = match has.best {
                None => continue,
                Some(Condition::NotReady) if !wish.drains_unready => continue,
                Some(Condition::NotReady) => Rank::Draining,
                Some(Condition::Leaving) => Rank::Leaving,
                Some(Condition::Ready) if node.is_leaving() => Rank::Leaving,
                Some(Condition::Ready) => Rank::Ready,
            };
            ranked.insert((address, node_port), (rank, has.ready.max(1)));
        }
    }
    weighted(ranked)
}

fn may_serve(node: &Node, wish: Wish<'_>) -> bool {
    !node.is_excluded() && wish.node_label.is_none_or(|label| node.has_label(label))
}

/// What endpoints a node has in one family.
#[derive(Clone, Copy, Default)]
struct Count {
    /// Of the best of them.
    best: Option<Condition>,
    ready: u16,
}

/// What endpoints each node has in each family (IPv6 is true).
fn endpoints_of_nodes<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    wish: Wish<'_>,
) -> BTreeMap<(&'a str, bool), Count> {
    let mut one_of_each = BTreeMap::<IpAddr, &Endpoint>::new();
    for slice in slices {
        if slice.numbers(wish.port_name, wish.protocol).next().is_some() {
            for endpoint in &slice.endpoints {
                let known = one_of_each.entry(endpoint.address).or_insert(endpoint);
                if endpoint.condition > known.condition {
                    *known = endpoint;
                }
            }
        }
    }
    let mut counts = BTreeMap::<_, Count>::new();
    for endpoint in one_of_each.values() {
        let Some(node) = endpoint.node.as_deref() else { continue };
        let count = counts.entry((node, endpoint.address.is_ipv6())).or_default();
        count.best = count.best.max(Some(endpoint.condition));
        if endpoint.condition == Condition::Ready {
            count.ready = count.ready.saturating_add(1);
        }
    }
    counts
}

fn weighted(ranked: Ranked) -> Vec<WantedBackend> {
    // Each family counts for itself: a VIP only reaches backends of its own.
    let best = |v6: bool| {
        let ranks = ranked.iter().filter(|((address, _), _)| address.is_ipv6() == v6);
        ranks.map(|(_, (rank, _))| *rank).max()
    };
    let (best4, best6) = (best(false), best(true));
    ranked
        .into_iter()
        .map(|((address, port), (rank, weight))| {
            let best = if address.is_ipv6() { best6 } else { best4 };
            let is_best = Some(rank) == best && rank > Rank::Draining;
            let weight = if is_best { weight.min(255) } else { 0 };
            WantedBackend { address: address.to_string(), port, weight }
        })
        .collect()
}
