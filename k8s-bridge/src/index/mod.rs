//! Objects in, wishes out: everything the bridge decides, synchronous and without an API server.
//!
//! Feed it with [`Index::apply`] and [`Index::delete`]; after the first lists of *all* kinds have been fed call
//! [`Index::synced`]; then take what changed with [`Index::drain`]. Before `synced` nothing is allocated and `drain` is
//! empty, so that addresses in existing statuses are known before any is handed out and nothing is deleted on a
//! half-read cluster.

mod addresses;
mod annotations;
mod endpoints;
mod guard;
mod import;
mod inside;
mod leases;
mod limits;
mod live;
mod nodes;
mod origin;
mod others;
mod peers;
mod pools;
mod ports;
mod probes;
mod ranges;
mod secondary;
mod selectors;
mod service;
mod slices;
mod source_ranges;
mod status;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use origin::{DEFAULT_CLASS, FIELD_MANAGER, Origin, field_manager};
pub use status::{FINALIZER, has_finalizer};
pub use vocabulary::{
    Changes, EndpointMode, LeftOut, NodeHealth, Object, ObjectName, Outcome, PoolUse, Serve,
    Settings, Trouble, Unserved,
};

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use others::Other;
use selectors::Labels;
use service::Decision;
use sluice_api::{WantedPeer, WantedService};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use vocabulary::trouble;

/// Everything known of the cluster, and what follows from it.
pub struct Index {
    settings: Settings,
    /// Whom our writes are ascribed to.
    manager: String,
    synced: bool,
    services: BTreeMap<ObjectName, Known>,
    slices: slices::Slices,
    nodes: nodes::Nodes,
    /// Labels by name.
    namespaces: BTreeMap<String, Labels>,
    pools: pools::Pools,
    peers: peers::Peers,
    wanted: BTreeMap<ObjectName, Vec<WantedService>>,
    said: BTreeMap<ObjectName, Outcome>,
    /// Services that lack something which another one may give up.
    waiting: BTreeSet<ObjectName>,
    /// Services whose backends depend on nodes.
    on_nodes: BTreeSet<ObjectName>,
    /// Services that are too large.
    left_out: BTreeMap<ObjectName, LeftOut>,
    dirty: BTreeSet<ObjectName>,
    nodes_dirty: bool,
    peers_dirty: bool,
    inside: Vec<String>,
    good_peers: Vec<WantedPeer>,
    bad_peers: BTreeMap<String, Trouble>,
    pool_uses: BTreeMap<String, PoolUse>,
}

/// A Service as it was last seen.
struct Known {
    /// Without its managed fields.
    object: Arc<Service>,
    origin: Origin,
}

// === impl Index ===

impl Index {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Index {
            manager: field_manager(&settings.class),
            settings,
            synced: false,
            services: BTreeMap::new(),
            slices: slices::Slices::default(),
            nodes: nodes::Nodes::default(),
            namespaces: BTreeMap::new(),
            pools: pools::Pools::default(),
            peers: peers::Peers::default(),
            wanted: BTreeMap::new(),
            said: BTreeMap::new(),
            waiting: BTreeSet::new(),
            on_nodes: BTreeSet::new(),
            left_out: BTreeMap::new(),
            dirty: BTreeSet::new(),
            // What the settings say is inside is there before any node.
            nodes_dirty: true,
            peers_dirty: false,
            inside: Vec::new(),
            good_peers: Vec::new(),
            bad_peers: BTreeMap::new(),
            pool_uses: BTreeMap::new(),
        }
    }

    /// Takes in an object that is new or changed.
    pub fn apply(&mut self, object: Object) {
        match object {
            Object::Service(s) => self.apply_service(*s),
            Object::EndpointSlice(s) => {
                let owners = self.slices.apply(&s);
                self.touch(owners);
                self.others_have(&of_slice(&s.metadata), others::of_api_servers(&s));
            }
            Object::AddressPool(p) => {
                self.pools.apply(*p);
                self.dirty.extend(self.services.keys().cloned());
            }
            Object::Node(n) => {
                let changed = self.nodes.apply(&n);
                self.nodes_changed(changed);
                self.others_have(&of_node(&n.metadata), others::of_node(&n));
            }
            Object::Namespace(n) => self.apply_namespace(*n),
            Object::Peer(p) => {
                self.peers.apply(&p);
                self.peers_dirty = true;
            }
        }
    }

    /// Forgets an object. The kind is that of the variant; only its name and namespace are looked at.
    pub fn delete(&mut self, object: &Object) {
        match object {
            Object::Service(s) => {
                let name = ObjectName::of(&s.metadata);
                self.services.remove(&name);
                self.slices.select(&name, false);
                self.dirty.insert(name.clone());
                self.released(&name);
                self.others_have(&Other::Service(name.clone()), BTreeSet::new());
                self.others_have(&Other::ApiServer(name.to_string()), BTreeSet::new());
            }
            Object::EndpointSlice(s) => {
                let owner = self.slices.delete(&ObjectName::of(&s.metadata));
                self.touch(owner);
                self.others_have(&of_slice(&s.metadata), BTreeSet::new());
            }
            Object::AddressPool(p) => {
                self.pools.delete(p.metadata.name.as_deref().unwrap_or_default());
                self.dirty.extend(self.services.keys().cloned());
            }
            Object::Node(n) => {
                let changed = self.nodes.delete(n.metadata.name.as_deref().unwrap_or_default());
                self.nodes_changed(changed);
                self.others_have(&of_node(&n.metadata), BTreeSet::new());
            }
            Object::Namespace(n) => {
                let name = n.metadata.name.clone().unwrap_or_default();
                self.namespaces.remove(&name);
                self.touch_namespace(&name);
            }
            Object::Peer(p) => {
                self.peers.delete(p.metadata.name.as_deref().unwrap_or_default());
                self.peers_dirty = true;
            }
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
        while let Some(name) = self.dirty.pop_first() {
            let decision = self.decide(&name);
            self.note(name, decision, &mut changes);
            if self.pools.take_freed() {
                self.dirty.extend(self.waiting.iter().cloned());
            }
        }
        self.drain_cluster(&mut changes);
        changes
    }

    /// A Service is cleaned up: its finalizer is gone, so its addresses may be handed out again.
    pub fn released(&mut self, service: &ObjectName) {
        self.pools.release(service);
        self.dirty.extend(self.waiting.iter().cloned());
        self.touch([service.clone()]);
        self.see_rival(service);
    }

    /// Every wanted service, for a full push.
    pub fn wanted(&self) -> impl Iterator<Item = &WantedService> + '_ {
        self.wanted.values().flatten()
    }

    /// Prefixes of nodes and pods as of the last drain, for a full push.
    #[must_use]
    pub fn inside(&self) -> Vec<String> {
        self.inside.clone()
    }

    /// Every peer that can be used as of the last drain, for a full push.
    #[must_use]
    pub fn peers(&self) -> Vec<WantedPeer> {
        self.good_peers.clone()
    }

    /// A Service as it was last seen, without its managed fields.
    #[must_use]
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name).map(|known| &*known.object)
    }

    /// Who wrote what of a Service.
    #[must_use]
    pub fn origin(&self, name: &ObjectName) -> Option<&Origin> {
        self.services.get(name).map(|known| &known.origin)
    }

    /// What of all Services there is no place for on an appliance.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        let add = |sum: LeftOut, one: &LeftOut| LeftOut {
            endpoints: sum.endpoints + one.endpoints,
            ports: sum.ports + one.ports,
        };
        self.left_out.values().fold(LeftOut::default(), add)
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn apply_service(&mut self, mut service: Service) {
        let origin = Origin::of(&service, &self.manager);
        // The larger part of most objects, and of no further use here.
        service.metadata.managed_fields = None;
        if let Some(annotations) = &mut service.metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        let name = ObjectName::of(&service.metadata);
        let before = self.services.get(&name);
        if before.is_some_and(|before| before.object.metadata.uid != service.metadata.uid) {
            // Another Service of the same name: what was said was about the one before.
            self.said.remove(&name);
        }
        let api_server = others::of_api_server(&service);
        self.slices.select(&name, service.spec.as_ref().is_some_and(guard::has_selector));
        self.services.insert(name.clone(), Known { object: Arc::new(service), origin });
        self.others_have(&Other::ApiServer(name.to_string()), api_server);
        self.see_rival(&name);
        self.dirty.insert(name);
    }

    /// Somebody whom we give nothing has these addresses now, and no others.
    fn others_have(&mut self, owner: &Other, addresses: BTreeSet<IpAddr>) {
        let (concerned, is_new) = self.pools.set_other(owner, addresses);
        if is_new {
            self.touch(concerned);
            self.dirty.extend(self.waiting.iter().cloned());
            if owner.is_machine() {
                // Whose endpoints must not be machines.
                self.dirty.extend(self.on_nodes.iter().cloned());
            }
        }
    }

    fn apply_namespace(&mut self, namespace: Namespace) {
        let name = namespace.metadata.name.unwrap_or_default();
        let labels = namespace.metadata.labels.unwrap_or_default();
        if self.namespaces.get(&name) != Some(&labels) {
            self.namespaces.insert(name.clone(), labels);
            self.touch_namespace(&name);
        }
    }

    fn touch(&mut self, services: impl IntoIterator<Item = ObjectName>) {
        let known = services.into_iter().filter(|name| self.services.contains_key(name));
        self.dirty.extend(known);
    }

    fn touch_namespace(&mut self, namespace: &str) {
        let first = ObjectName { namespace: namespace.to_owned(), name: String::new() };
        let after = self.services.range(first..).map(|(name, _)| name);
        self.dirty.extend(after.take_while(|name| name.namespace == namespace).cloned());
    }

    fn nodes_changed(&mut self, changed: bool) {
        if changed {
            self.nodes_dirty = true;
            self.dirty.extend(self.on_nodes.iter().cloned());
        }
    }

    /// Remembers what was decided of one Service, and tells what is new about it.
    fn note(&mut self, name: ObjectName, decision: Decision, changes: &mut Changes) {
        let Decision { outcome, wanted, waits, on_nodes, left_out } = decision;
        if left_out == LeftOut::default() {
            self.left_out.remove(&name);
        } else {
            self.left_out.insert(name.clone(), left_out);
        }
        let before = self.wanted.remove(&name).unwrap_or_default();
        let gone = before.iter().filter(|b| !wanted.iter().any(|w| w.name == b.name));
        changes.remove.extend(gone.map(|b| b.name.clone()));
        changes.upsert.extend(wanted.iter().filter(|w| !before.contains(w)).cloned());
        if !wanted.is_empty() {
            self.wanted.insert(name.clone(), wanted);
        }
        member(&mut self.waiting, &name, waits);
        member(&mut self.on_nodes, &name, on_nodes);
        if self.said.get(&name) != outcome.as_ref() {
            self.said.remove(&name);
            if let Some(outcome) = outcome {
                self.said.insert(name.clone(), outcome.clone());
                changes.outcomes.push((name, outcome));
            }
        }
    }

    /// What is new about pools, nodes and peers.
    fn drain_cluster(&mut self, changes: &mut Changes) {
        for (name, now) in self.pools.take_uses() {
            match now {
                Some(now) if self.pool_uses.get(&name) != Some(&now) => {
                    self.pool_uses.insert(name.clone(), now.clone());
                    changes.pools.push((name, now));
                }
                Some(_) => {}
                None => drop(self.pool_uses.remove(&name)),
            }
        }
        let pods_dirty = self.slices.pods.take_change();
        if std::mem::take(&mut self.nodes_dirty) || pods_dirty {
            let inside = inside::inside(&self.nodes, &self.slices.pods, &self.settings.inside);
            let inside: Vec<String> = inside.iter().map(ToString::to_string).collect();
            if inside != self.inside {
                self.inside.clone_from(&inside);
                changes.inside = Some(inside);
            }
        }
        if std::mem::take(&mut self.peers_dirty) {
            let (good, bad) = self.peers.judge();
            let before = std::mem::replace(&mut self.bad_peers, bad);
            let now = &self.bad_peers;
            let mended = before.keys().filter(|name| !now.contains_key(*name));
            let mended = mended.map(|name| (name.clone(), None));
            let new = now.iter().filter(|(name, why)| before.get(*name) != Some(why));
            let new = new.map(|(name, why)| (name.clone(), Some(why.clone())));
            changes.peer_troubles = mended.chain(new).collect();
            if good != self.good_peers {
                self.good_peers.clone_from(&good);
                changes.peers = Some(good);
            }
        }
    }
}

fn of_node(meta: &ObjectMeta) -> Other {
    Other::Node(meta.name.clone().unwrap_or_default())
}

/// Most slices are not of the API server, and have nothing.
fn of_slice(meta: &ObjectMeta) -> Other {
    Other::ApiServer(format!("slice {}", ObjectName::of(meta)))
}

fn member(set: &mut BTreeSet<ObjectName>, name: &ObjectName, is: bool) {
    if is {
        set.insert(name.clone());
    } else {
        set.remove(name);
    }
}
