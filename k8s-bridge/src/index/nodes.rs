//! Nodes: as endpoints, and as what lies inside the cluster.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as NodeObject;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// What the cluster autoscaler puts on a node that it is about to remove; kube-proxy's `/healthz` fails from then on.
const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// What is kept of a node. Its readiness and cordon are not: neither says anything about traffic (KEP-3458, KEP-3836).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// InternalIPs, in the order of the object.
    addresses: Vec<IpAddr>,
    /// ExternalIPs: neither probed nor sent to, but the node's all the same.
    others: Vec<IpAddr>,
    pod_cidrs: Vec<IpNet>,
    label_keys: Vec<Arc<str>>,
    excluded: bool,
    leaving: bool,
}

/// All nodes by name.
#[derive(Default)]
pub(super) struct Nodes {
    nodes: BTreeMap<Arc<str>, Node>,
    /// One copy of each label's key, which all nodes have in common.
    keys: BTreeSet<Arc<str>>,
}

// === impl Node ===

impl Node {
    /// The address of the family; a node has one of each at most.
    pub(super) fn address(&self, v6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == v6)
    }

    /// True when it takes no traffic from outside by its label.
    pub(super) fn is_excluded(&self) -> bool {
        self.excluded
    }

    /// True when it is about to go: its flows may end, new ones stay away.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    pub(super) fn has_label(&self, key: &str) -> bool {
        self.label_keys.iter().any(|one| **one == *key)
    }
}

// === impl Nodes ===

impl Nodes {
    /// True when something of it has changed that matters here.
    pub(super) fn apply(&mut self, object: &NodeObject) -> bool {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let node = self.digest(object);
        if self.nodes.get(name) == Some(&node) {
            return false;
        }
        self.nodes.insert(name.into(), node);
        true
    }

    /// True when it was there.
    pub(super) fn delete(&mut self, name: &str) -> bool {
        self.nodes.remove(name).is_some()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(name, node)| (&**name, node))
    }

    /// Every address with the node that has it.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.iter().flat_map(|(name, node)| {
            node.addresses.iter().chain(&node.others).map(move |address| (*address, name))
        })
    }

    /// Prefixes of nodes and their pods, and these; as few as possible, sorted.
    pub(super) fn inside(&self, also: &[IpNet]) -> Vec<IpNet> {
        let of_node = |node: &Node| {
            let hosts: Vec<IpNet> = node.addresses.iter().copied().map(IpNet::from).collect();
            hosts.into_iter().chain(node.pod_cidrs.clone())
        };
        let nets = self.nodes.values().flat_map(of_node).chain(also.iter().copied());
        let mut nets = IpNet::aggregate(&nets.collect());
        nets.sort_unstable();
        nets
    }

    fn digest(&mut self, object: &NodeObject) -> Node {
        let (meta, spec) = (&object.metadata, object.spec.as_ref());
        let addresses = object.status.iter().flat_map(|s| s.addresses.iter().flatten());
        let of_type = |wanted: &'static str| {
            let meant = addresses.clone().filter(move |a| a.type_ == wanted);
            meant.filter_map(|a| a.address.parse().ok()).collect()
        };
        let cidrs = spec.and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
        let taints = spec.into_iter().flat_map(|s| s.taints.iter().flatten());
        let labels = meta.labels.iter().flatten();
        Node {
            addresses: of_type("InternalIP"),
            others: of_type("ExternalIP"),
            pod_cidrs: cidrs.iter().filter_map(|c| c.parse().ok()).filter(is_of_pods).collect(),
            excluded: labels.clone().any(|(key, value)| key == EXCLUDE && !is_false(value)),
            leaving: meta.deletion_timestamp.is_some()
                || taints.into_iter().any(|t| t.key == LEAVING_TAINT),
            label_keys: labels.map(|(key, _)| intern(&mut self.keys, key)).collect(),
        }
    }
}

/// A wider one is a mistake, and would hide all clients' addresses.
fn is_of_pods(net: &IpNet) -> bool {
    net.prefix_len() >= if net.addr().is_ipv4() { 8 } else { 32 }
}

/// As Go's `strconv.ParseBool` reads it, which is what Kubernetes does with this label; what it cannot read excludes.
fn is_false(value: &str) -> bool {
    ["0", "f", "F", "false", "FALSE", "False"].contains(&value)
}

/// One copy for all who say the same.
pub(super) fn intern(known: &mut BTreeSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(one) = known.get(text) {
        return one.clone();
    }
    let one: Arc<str> = text.into();
    known.insert(one.clone());
    one
}
