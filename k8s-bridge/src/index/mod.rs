//! Objects in, wishes out: everything the bridge decides, synchronous and without an API server.
//!
//! Feed it with [`Index::apply`] and [`Index::delete`]; after the first lists of *all* kinds have been fed call
//! [`Index::synced`]; then take what changed with [`Index::drain`]. Before `synced` nothing is allocated and `drain` is
//! empty, so that addresses in existing statuses are known before any is handed out and nothing is deleted on a
//! half-read cluster.

mod annotations;
mod endpoints;
mod leases;
mod pools;
mod ranges;
mod service;
#[cfg(test)]
mod tests;

use crate::crd::{AddressPool, Peer};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_api::{WantedPeer, WantedService};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Was ours and is to be cleaned up (deleted, another type or class): once the appliances no longer have it, the
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
    /// Addresses inside the cluster, when they changed, see [`Index::inside`].
    pub inside: Option<Vec<String>>,
    /// All peers, when one changed, see [`Index::peers`].
    pub peers: Option<Vec<WantedPeer>>,
}

/// Everything known of the cluster, and what follows from it.
pub struct Index {
    settings: Settings,
    synced: bool,
    services: BTreeMap<ObjectName, Service>,
    /// By Service, then by the slice's name.
    slices: BTreeMap<ObjectName, BTreeMap<String, EndpointSlice>>,
    pools: pools::Pools,
    wanted: BTreeMap<ObjectName, Vec<WantedService>>,
    refused: BTreeSet<ObjectName>,
    said: BTreeMap<ObjectName, Outcome>,
    pool_uses: BTreeMap<String, PoolUse>,
    dirty: BTreeSet<ObjectName>,
}

// === impl Index ===

impl Index {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Index {
            settings,
            synced: false,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            pools: pools::Pools::default(),
            wanted: BTreeMap::new(),
            refused: BTreeSet::new(),
            said: BTreeMap::new(),
            pool_uses: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Takes in an object that is new or changed.
    pub fn apply(&mut self, object: Object) {
        match object {
            Object::Service(s) => {
                let name = name_of(&s.metadata);
                self.services.insert(name.clone(), *s);
                self.dirty.insert(name);
            }
            Object::EndpointSlice(s) => {
                let (Some(owner), Some(slice)) = (owner_of(&s), s.metadata.name.clone()) else {
                    return;
                };
                self.slices.entry(owner.clone()).or_default().insert(slice, *s);
                self.dirty.insert(owner);
            }
            Object::AddressPool(p) => {
                self.pools.apply(p.metadata.name.clone().unwrap_or_default(), *p);
                self.dirty.extend(self.services.keys().cloned());
            }
            Object::Node(_) | Object::Namespace(_) | Object::Peer(_) => {}
        }
    }

    /// Forgets an object. The kind is that of the variant; only its name and namespace are looked at.
    pub fn delete(&mut self, object: &Object) {
        match object {
            Object::Service(s) => {
                let name = name_of(&s.metadata);
                self.services.remove(&name);
                self.dirty.insert(name.clone());
                self.released(&name);
            }
            Object::EndpointSlice(s) => {
                let slice = name_of(&s.metadata);
                for (owner, slices) in &mut self.slices {
                    if owner.namespace == slice.namespace && slices.remove(&slice.name).is_some() {
                        self.dirty.insert(owner.clone());
                    }
                }
            }
            Object::AddressPool(p) => {
                self.pools.delete(p.metadata.name.as_deref().unwrap_or_default());
                self.dirty.extend(self.services.keys().cloned());
            }
            Object::Node(_) | Object::Namespace(_) | Object::Peer(_) => {}
        }
    }

    /// All first lists have been fed.
    pub fn synced(&mut self) {
        if !std::mem::replace(&mut self.synced, true) {
            self.import();
        }
    }

    /// What changed.
    pub fn drain(&mut self) -> Changes {
        let mut changes = Changes::default();
        if !self.synced {
            return changes;
        }
        for name in std::mem::take(&mut self.dirty) {
            let (outcome, wanted) = self.decide(&name);
            let before = self.wanted.remove(&name).unwrap_or_default();
            let gone = before.iter().filter(|b| !wanted.iter().any(|w| w.name == b.name));
            changes.remove.extend(gone.map(|b| b.name.clone()));
            changes.upsert.extend(wanted.iter().filter(|w| !before.contains(w)).cloned());
            if !wanted.is_empty() {
                self.wanted.insert(name.clone(), wanted);
            }
            if matches!(outcome, Some(Outcome::Refuse(_))) {
                self.refused.insert(name.clone());
            } else {
                self.refused.remove(&name);
            }
            if self.said.get(&name) != outcome.as_ref() {
                self.said.remove(&name);
                if let Some(outcome) = outcome {
                    self.said.insert(name.clone(), outcome.clone());
                    changes.outcomes.push((name, outcome));
                }
            }
        }
        let uses = self.pools.uses();
        let new = uses.iter().filter(|(name, u)| self.pool_uses.get(name) != Some(u));
        changes.pools = new.cloned().collect();
        self.pool_uses = uses.into_iter().collect();
        changes
    }

    /// A Service is cleaned up: its finalizer is gone, so its addresses may be handed out again.
    pub fn released(&mut self, service: &ObjectName) {
        self.pools.release(service);
        self.dirty.extend(self.refused.iter().cloned());
    }

    /// Every wanted service, for a full push.
    pub fn wanted(&self) -> impl Iterator<Item = &WantedService> + '_ {
        self.wanted.values().flatten()
    }

    /// Prefixes of nodes and pods, for a full push.
    #[must_use]
    pub fn inside(&self) -> Vec<String> {
        Vec::new()
    }

    /// Every peer, for a full push.
    #[must_use]
    pub fn peers(&self) -> Vec<WantedPeer> {
        Vec::new()
    }

    /// A Service as it was last seen.
    #[must_use]
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

fn name_of(meta: &ObjectMeta) -> ObjectName {
    ObjectName {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

fn owner_of(slice: &EndpointSlice) -> Option<ObjectName> {
    let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?.clone();
    Some(ObjectName { namespace: slice.metadata.namespace.clone().unwrap_or_default(), name })
}

fn trouble(reason: &'static str, message: impl Into<String>) -> Trouble {
    Trouble { reason, message: message.into() }
}
