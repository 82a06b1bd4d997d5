//! EndpointSlices, as little of each as is needed, and whose they are.

use super::ObjectName;
use super::inside::Pods;
use super::nodes::intern;
use k8s_openapi::api::discovery::v1::{Endpoint as EndpointObject, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Label and value of slices that the controller of EndpointSlices makes from a Service's selector. It puts right what others
/// write into those.
const MANAGED_BY: (&str, &str) =
    ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");

/// What is kept of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// By its label it is the controller's. Of a Service without a selector that says nothing, see [`Slice::is_vouched`].
    is_managed: bool,
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
    pub(super) condition: Condition,
    /// Selectorless Services may not say.
    pub(super) node: Option<Arc<str>>,
    /// Zones whose clients are to use it.
    pub(super) for_zones: Vec<Arc<str>>,
}

/// What an endpoint is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// For the flows it has: it does not pass its readiness probe. It may again in a moment, and what its connections lack
    /// for is not known.
    NotReady,
    /// It terminates and still serves; for new flows when there is nothing else.
    Leaving,
    /// For new flows.
    Ready,
}

/// All slices by Service.
#[derive(Default)]
pub(super) struct Slices {
    by_owner: BTreeMap<ObjectName, BTreeMap<String, Slice>>,
    /// The Service of each slice.
    owners: BTreeMap<ObjectName, ObjectName>,
    /// Services with a selector.
    selecting: BTreeSet<ObjectName>,
    /// Addresses of pods that a Service selects.
    pub(super) pods: Pods,
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
            let has_selector = self.selecting.contains(&owner);
            slice.pods(has_selector).for_each(|pod| self.pods.add(pod));
            let before = of_owner.insert(name.name.clone(), slice);
            let before = before.iter().flat_map(|slice| slice.pods(has_selector));
            before.for_each(|pod| self.pods.remove(pod));
            changed.push(owner.clone());
        }
        self.owners.insert(name, owner);
        changed
    }

    /// The Service that had it.
    pub(super) fn delete(&mut self, name: &ObjectName) -> Option<ObjectName> {
        let owner = self.owners.remove(name)?;
        let of_owner = self.by_owner.get_mut(&owner)?;
        let has_selector = self.selecting.contains(&owner);
        let before = of_owner.remove(&name.name);
        let before = before.iter().flat_map(|slice| slice.pods(has_selector));
        before.for_each(|pod| self.pods.remove(pod));
        if of_owner.is_empty() {
            self.by_owner.remove(&owner);
        }
        Some(owner)
    }

    /// A Service has a selector or not, which its endpoints are pods by.
    pub(super) fn select(&mut self, owner: &ObjectName, has_selector: bool) {
        if self.selecting.contains(owner) == has_selector {
            return;
        }
        let slices = self.by_owner.get(owner).into_iter().flat_map(BTreeMap::values);
        let pods = slices.flat_map(|slice| slice.pods(true));
        if has_selector {
            pods.for_each(|pod| self.pods.add(pod));
            self.selecting.insert(owner.clone());
        } else {
            pods.for_each(|pod| self.pods.remove(pod));
            self.selecting.remove(owner);
        }
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
                // The API server lets any number pass.
                number: u16::try_from(p.port?).ok().filter(|number| *number > 0)?,
            })
        });
        let ports = ports.collect();
        // FQDN slices have no addresses that packets could be sent to.
        let endpoints = object.endpoints.iter().flatten().filter(|_| object.address_type != "FQDN");
        let endpoints = endpoints.filter_map(|e| endpoint(names, e)).collect();
        let (key, value) = MANAGED_BY;
        let labels = object.metadata.labels.as_ref();
        let is_managed = labels.and_then(|all| all.get(key)).is_some_and(|by| by == value);
        Slice { is_managed, ports, endpoints }
    }
}

// === impl Slice ===

impl Slice {
    /// True when its addresses are those of pods that the Service selects, and not what somebody wrote there. The
    /// controller minds no slice of a Service without a selector, whatever the slice's labels say.
    pub(super) fn is_vouched(&self, has_selector: bool) -> bool {
        has_selector && self.is_managed
    }

    fn pods(&self, has_selector: bool) -> impl Iterator<Item = IpAddr> + '_ {
        let is_meant = self.is_vouched(has_selector);
        self.endpoints.iter().filter(move |_| is_meant).map(|endpoint| endpoint.address)
    }

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
    // The API's own default: what knows no `serving` means `ready`.
    let serving = of.and_then(|c| c.serving).unwrap_or(ready);
    let terminating = of.and_then(|c| c.terminating).unwrap_or(false);
    let zones = object.hints.iter().flat_map(|h| h.for_zones.iter().flatten());
    Some(Endpoint {
        address: object.addresses.first()?.parse().ok()?,
        condition: match (ready, serving && terminating) {
            (true, _) => Condition::Ready,
            (false, true) => Condition::Leaving,
            // Also of one that terminates: many servers fail their probe first, and then end their connections.
            (false, false) => Condition::NotReady,
        },
        node: object.node_name.as_deref().map(|node| intern(names, node)),
        for_zones: zones.map(|zone| intern(names, &zone.name)).collect(),
    })
}

fn owner_of(slice: &EndpointSlice) -> Option<ObjectName> {
    let name = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?.clone();
    Some(ObjectName { namespace: slice.metadata.namespace.clone().unwrap_or_default(), name })
}
