//! Objects in, wishes out: everything the bridge decides, synchronous and without an API server.
//!
//! Feed it with [`Index::apply`] and [`Index::delete`]; after the first lists of *all* kinds have been fed call
//! [`Index::synced`]; then take what changed with [`Index::drain`]. Before `synced` nothing is allocated and `drain` is
//! empty, so that addresses in existing statuses are known before any is handed out and nothing is deleted on a
//! half-read cluster.

mod leases;
mod ranges;

pub use leases::{Leases, Ports, ProtocolKey, Taken};
pub use ranges::Range;

use crate::crd::AddressPool;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sluice_api::WantedService;
use std::net::IpAddr;

/// Settings that hold for the whole life of the process (flags).
#[derive(Clone, Debug)]
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
    /// Was ours and is to be cleaned up (deleted, another type or class): once the appliances no longer have it, the
    /// status is cleared, then the finalizer removed. The addresses are free after [`Index::released`].
    Release,
    /// Ours, and cannot be served at all; why, as an event and a condition. The finalizer stays as it is.
    Refuse(Trouble),
}

/// How a Service is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serve {
    /// Addresses for `status.loadBalancer.ingress`, in the order of `ipFamilies`.
    pub addresses: Vec<IpAddr>,
    /// Names of its wanted services, see [`Changes::upsert`].
    pub wanted: Vec<String>,
    /// What is not done as asked, though it is served: events.
    pub troubles: Vec<Trouble>,
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
}

/// Everything known of the cluster, and what follows from it.
pub struct Index {
    settings: Settings,
    synced: bool,
}

// === impl Index ===

impl Index {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Index { settings, synced: false }
    }

    /// Takes in an object that is new or changed.
    pub fn apply(&mut self, _object: Object) {}

    /// Forgets an object. The kind is that of the variant; only its name and namespace are looked at.
    pub fn delete(&mut self, _object: &Object) {}

    /// All first lists have been fed.
    pub fn synced(&mut self) {
        self.synced = true;
    }

    /// What changed.
    pub fn drain(&mut self) -> Changes {
        Changes::default()
    }

    /// A Service is cleaned up: its finalizer is gone, so its addresses may be handed out again.
    pub fn released(&mut self, _service: &ObjectName) {}

    /// Every wanted service, for a full push.
    pub fn wanted(&self) -> impl Iterator<Item = &WantedService> + '_ {
        std::iter::empty()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
