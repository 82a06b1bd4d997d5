//! The words the index is spoken to with, and answers in.

use crate::crd::{AddressPool, Peer};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_api::{WantedPeer, WantedService};
use std::net::IpAddr;

/// Settings that hold for the whole life of the process (flags).
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The class we serve (`sluice.dev/edge`; a kube-loxilb user may set `loxilb.io/loxilb`).
    pub class: String,
    /// Serve Services without a class as well.
    pub default_class: bool,
    /// First part of the names of wanted services; unique over the clusters of an appliance.
    pub source: String,
    /// Where endpoints are by default.
    pub endpoints: EndpointMode,
    /// The zone of the appliances, for `trafficDistribution`; none ignores zone hints.
    pub zone: Option<String>,
    /// Prefixes inside the cluster that neither Nodes nor EndpointSlices tell of.
    pub inside: Vec<IpNet>,
    /// How nodes are probed.
    pub node_health: NodeHealth,
    /// Endpoints in these are served whoever wrote them, though they are of a node or of the API server.
    pub allowed_endpoints: Vec<IpNet>,
    /// Endpoints in these are never served.
    pub denied_endpoints: Vec<IpNet>,
    /// The appliances' own addresses, as far as they are known: they are no endpoints.
    pub appliances: Vec<IpAddr>,
}

/// How it is found out whether a node takes packets for a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeHealth {
    /// Whether its node port accepts a connection. Right whatever forwards there.
    #[default]
    NodePort,
    /// Where kube-proxy answers. One probe a node and not one a port, but nobody answers where something else forwards.
    KubeProxy,
}

/// Where packets are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointMode {
    /// To pods: their addresses and target ports. Needs routes to pod networks on the appliances.
    #[default]
    Pods,
    /// To nodes: their InternalIP and the Service's node port.
    Nodes,
}

/// An object the index knows.
#[derive(Clone, Debug)]
pub enum Object {
    /// Any Service; whether it is ours is decided here.
    Service(Box<Service>),
    /// Endpoints of a Service.
    EndpointSlice(Box<EndpointSlice>),
    /// A node.
    Node(Box<Node>),
    /// A namespace; only its labels matter.
    Namespace(Box<Namespace>),
    /// A pool.
    AddressPool(Box<AddressPool>),
    /// A BGP peer.
    Peer(Box<Peer>),
}

/// A namespaced name; the namespace is empty for cluster-scoped objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What the index says of one Service since the last drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Ours. The finalizer is to be put on before the wanted services are pushed; the addresses go into the status once
    /// the appliances report every one of `wanted` programmed and announced.
    Serve(Serve),
    /// Was ours and is to be cleaned up (deleted, another type or class), whether its finalizer is on yet or not: once the appliances no longer have it, the
    /// status is cleared, then the finalizer removed. The addresses are free after [`Index::released`].
    Release,
    /// Ours, and cannot be served at all; why, as an event and a condition. The finalizer stays as it is.
    Refuse(Trouble),
}

/// How a Service is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serve {
    /// Addresses for `status.loadBalancer.ingress`, in the order of `ipFamilies`. The Service's ports are to be written
    /// with each (`ingress[].ports`): after a restart they say who had which port of a shared address.
    pub addresses: Vec<IpAddr>,
    /// Further addresses, at which its ports of SCTP are served as well; behind the others in the status, with those
    /// ports alone.
    pub secondary: Vec<IpAddr>,
    /// Names of its wanted services, see [`Changes::upsert`].
    pub wanted: Vec<String>,
    /// Ports that are not served although the Service is. Their entries in `ingress[].ports` carry the error.
    pub unserved: Vec<Unserved>,
    /// What is not done as asked, though it is served: events.
    pub troubles: Vec<Trouble>,
}

/// A port that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// As in the spec.
    pub port: i32,
    /// As in the spec, `TCP` when it is not there.
    pub protocol: String,
    /// Why, as `ingress[].ports[].error` spells it.
    pub error: &'static str,
}

/// What there is no place for on an appliance, see the reasons `TooManyEndpoints` and `TooManyPorts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Endpoints of a port that get no new flows.
    pub endpoints: usize,
    /// Ports that are not served.
    pub ports: usize,
}

/// Something an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// CamelCase, for the event's reason and the condition's.
    pub reason: &'static str,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Use of a pool, for its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Addresses in use.
    pub used: u128,
    /// Addresses left.
    pub free: u128,
    /// Why it cannot be used (a typing error, an overlap); none when it is in order.
    pub trouble: Option<Trouble>,
}

/// What changed since the last drain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// New and changed wanted services.
    pub upsert: Vec<WantedService>,
    /// Names of wanted services that are gone.
    pub remove: Vec<String>,
    /// What is to be done about Services' objects.
    pub outcomes: Vec<(ObjectName, Outcome)>,
    /// Pools whose use changed.
    pub pools: Vec<(String, PoolUse)>,
    /// Addresses inside the cluster, when they changed, see [`Index::inside`].
    pub inside: Option<Vec<String>>,
    /// All peers, when one changed, see [`Index::peers`].
    pub peers: Option<Vec<WantedPeer>>,
    /// Peers that cannot be used, with the reason, and those that can again.
    pub peer_troubles: Vec<(String, Option<Trouble>)>,
}

// === impl ObjectName ===

impl ObjectName {
    /// The name of an object.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        ObjectName {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl Trouble ===

/// Characters of a message. What people wrote is repeated in it, and an annotation may have 256 KiB: the condition would be
/// as large again, and an event has room for 1024.
const MAX_MESSAGE: usize = 900;

pub(super) fn trouble(reason: &'static str, message: impl Into<String>) -> Trouble {
    // Cut first: escapes make a hidden character longer, and a message of nothing else is none that anybody reads.
    let message = shortened(&message.into(), MAX_MESSAGE);
    Trouble { reason, message: shortened(&visible(&message), MAX_MESSAGE) }
}

/// A terminal obeys some characters, and others are not seen: those are written as Rust writes them.
fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '"' | '\'' | '\\' => seen.push(one),
            _ => seen.extend(one.escape_debug()),
        }
    }
    seen
}

/// Its first characters, when there are more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
