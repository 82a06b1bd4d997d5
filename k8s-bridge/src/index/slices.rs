//! EndpointSlices, as little of each as is needed, and whose they are.

use super::ObjectName;
use super::nodes::intern;
use k8s_openapi::api::discovery::v1::{Endpoint as EndpointObject, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What is kept of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) ports: Vec<SlicePort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// A port that has a number; one without stands for all ports, which a load balancer cannot serve (KEP-1669).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlicePort {
    /// Name of the Service's port; empty for the only one.
    pub(super) name: Arc<str>,
    pub(super) protocol: Arc<str>,
    pub(super) number: u16,
}

/// An endpoint that may get packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The first of the object's, which are interchangeable: all of them would count as many times.
    pub(super) address: IpAddr,
    /// For new flows; else it terminates, and still serves those it has.
    pub(super) ready: bool,
    /// Selectorless Services may not say.
    pub(super) node: Option<Arc<str>>,
    /// Zones whose clients are to use it.
    pub(super) for_zones: Vec<Arc<str>>,
}

/// All slices by Service.
#[derive(Default)]
pub(super) struct Slices {
    by_owner: BTreeMap<ObjectName, BTreeMap<String, Slice>>,
    /// The Service of each slice.
    owners: BTreeMap<ObjectName, ObjectName>,
    /// One copy of each name of nodes, ports and zones.
    names: BTreeSet<Arc<str>>,
}

// === impl Slices ===

impl Slices {
    /// Services whose endpoints may have changed: none, one, or two when the slice went from one to another.
    pub(super) fn apply(&mut self, object: &EndpointSlice) -> Vec<ObjectName> {
        let name = ObjectName::of(&object.metadata);
        let owner = owner_of(object);
        let mut changed = Vec::new();
        if self.owners.get(&name) != owner.as_ref() {
            changed.extend(self.delete(&name));
        }
        let Some(owner) = owner else { return changed };
        let slice = self.digest(object);
        let of_owner = self.by_owner.entry(owner.clone()).or_default();
        if of_owner.get(&name.name) != Some(&slice) {
            of_owner.insert(name.name.clone(), slice);
            changed.push(owner.clone());
        }
        self.owners.insert(name, owner);
        changed
    }

    /// The Service that had it.
    pub(super) fn delete(&mut self, name: &ObjectName) -> Option<ObjectName> {
        let owner = self.owners.remove(name)?;
        let of_owner = self.by_owner.get_mut(&owner)?;
        of_owner.remove(&name.name);
        if of_owner.is_empty() {
            self.by_owner.remove(&owner);
        }
        Some(owner)
    }

    pub(super) fn of(&self, owner: &ObjectName) -> impl Iterator<Item = &Slice> {
        self.by_owner.get(owner).into_iter().flat_map(BTreeMap::values)
    }

    fn digest(&mut self, object: &EndpointSlice) -> Slice {
        let names = &mut self.names;
        let ports = object.ports.iter().flatten().filter_map(|p| {
            Some(SlicePort {
                name: intern(names, p.name.as_deref().unwrap_or_default()),
                protocol: intern(names, p.protocol.as_deref().unwrap_or("TCP")),
                number: u16::try_from(p.port?).ok()?,
            })
        });
        let ports = ports.collect();
        // FQDN slices have no addresses that packets could be sent to.
        let endpoints = object.endpoints.iter().flatten().filter(|_| object.address_type != "FQDN");
        let endpoints = endpoints.filter_map(|e| endpoint(names, e)).collect();
        Slice { ports, endpoints }
    }
}

// === impl Slice ===

impl Slice {
    /// Numbers of the ports of this name and protocol (`TCP`, `UDP`).
    pub(super) fn numbers<'a>(
        &'a self,
        name: &'a str,
        protocol: &'a str,
    ) -> impl Iterator<Item = u16> + Clone + 'a {
        let meant = move |p: &&SlicePort| *p.name == *name && *p.protocol == *protocol;
        self.ports.iter().filter(meant).map(|p| p.number)
    }
}

fn endpoint(names: &mut BTreeSet<Arc<str>>, object: &EndpointObject) -> Option<Endpoint> {
    let of = object.conditions.as_ref();
    let ready = of.and_then(|c| c.ready).unwrap_or(true);
    let serving = of.and_then(|c| c.serving).unwrap_or(true);
    let terminating = of.and_then(|c| c.terminating).unwrap_or(false);
    if !(ready || serving && terminating) {
        return None;
    }
    let zones = object.hints.iter().flat_map(|h| h.for_zones.iter().flatten());
    Some(Endpoint {
        address: object.addresses.first()?.parse().ok()?,
        ready,
        node: object.node_name.as_deref().map(|node| intern(names, node)),
        for_zones: zones.map(|zone| intern(names, &zone.name)).collect(),
    })
}

fn owner_of(slice: &EndpointSlice) -> Option<ObjectName> {
    let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?.clone();
    Some(ObjectName { namespace: slice.metadata.namespace.clone().unwrap_or_default(), name })
}
