//! The API server's objects, one task a kind, into one channel.
//!
//! Every kind is listed, then watched; a watch that breaks or expires (410) is followed by another list. [`Seen`] tells
//! what such a list no longer has.

pub mod history;
mod seen;

use crate::crd::{AddressPool, Peer};
use crate::index::{Object, ObjectName};
use crate::metrics::Metrics;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::{self, Config, watcher};
use kube::{Client, Resource};
pub use seen::{From, Seen};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// First wait after a watch broke; doubles with each further failure.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait: an API server that is back is found within this.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Services of all namespaces.
    Service,
    /// Their endpoints.
    EndpointSlice,
    /// Nodes.
    Node,
    /// Labels of namespaces.
    Namespace,
    /// Address pools.
    AddressPool,
    /// BGP peers.
    Peer,
}

/// What was seen.
#[derive(Debug)]
pub enum Item {
    /// A list begins.
    Begin,
    /// It is there, new or changed.
    Apply(Object),
    /// It is gone.
    Delete(Object),
    /// It is there and cannot be read; whatever was known of it holds.
    Unreadable(ObjectName, String),
    /// The list is complete.
    Done,
}

/// An item of a kind. Those of an epoch that is over are to be ignored.
#[derive(Debug)]
pub struct Watched {
    /// Which watch.
    pub kind: Kind,
    /// Which life of it.
    pub epoch: u64,
    /// What was seen.
    pub item: Item,
}

// === impl Kind ===

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] = [
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Node,
        Kind::Namespace,
        Kind::AddressPool,
        Kind::Peer,
    ];

    /// As the API server calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Node => "Node",
            Kind::Namespace => "Namespace",
            Kind::AddressPool => "AddressPool",
            Kind::Peer => "Peer",
        }
    }

    /// An object of the kind with nothing but a name.
    #[must_use]
    pub fn named(self, name: ObjectName) -> Object {
        let namespace = Some(name.namespace).filter(|n| !n.is_empty());
        let metadata = ObjectMeta { name: Some(name.name), namespace, ..ObjectMeta::default() };
        match self {
            Kind::Service => Object::Service(Box::new(Service { metadata, ..Service::default() })),
            Kind::EndpointSlice => Object::EndpointSlice(Box::new(EndpointSlice {
                metadata,
                ..EndpointSlice::default()
            })),
            Kind::Node => Object::Node(Box::new(Node { metadata, ..Node::default() })),
            Kind::Namespace => {
                Object::Namespace(Box::new(Namespace { metadata, ..Namespace::default() }))
            }
            Kind::AddressPool => {
                Object::AddressPool(Box::new(AddressPool { metadata, ..AddressPool::default() }))
            }
            Kind::Peer => Object::Peer(Box::new(Peer { metadata, ..Peer::default() })),
        }
    }
}

/// Metadata of any object.
#[must_use]
pub fn metadata(object: &Object) -> &ObjectMeta {
    match object {
        Object::Service(o) => &o.metadata,
        Object::EndpointSlice(o) => &o.metadata,
        Object::Node(o) => &o.metadata,
        Object::Namespace(o) => &o.metadata,
        Object::AddressPool(o) => &o.metadata,
        Object::Peer(o) => &o.metadata,
    }
}

/// Where items go.
#[derive(Clone)]
pub struct Watcher {
    /// For the API server.
    pub client: Client,
    /// Takes the items.
    pub tell: mpsc::Sender<Watched>,
    /// Counts lists and failures.
    pub metrics: Arc<Metrics>,
    /// Takes the versions of Services. Those of other kinds may be another store's.
    pub history: Arc<history::History>,
}

// === impl Watcher ===

impl Watcher {
    /// Watches a kind until the handle is used.
    #[must_use]
    pub fn start(&self, kind: Kind, epoch: u64) -> AbortHandle {
        let (this, client) = (self.clone(), self.client.clone());
        let all = Config::default();
        let task = async move {
            match kind {
                Kind::Service => {
                    let stream = watcher(Api::<Service>::all(client), all);
                    this.follow(kind, epoch, stream, |o| Ok(Object::Service(Box::new(o)))).await;
                }
                Kind::EndpointSlice => {
                    let owned = all.labels("kubernetes.io/service-name");
                    let stream = watcher(Api::<EndpointSlice>::all(client), owned);
                    let wrap = |o| Ok(Object::EndpointSlice(Box::new(o)));
                    this.follow(kind, epoch, stream, wrap).await;
                }
                Kind::Node => {
                    let stream = watcher(Api::<Node>::all(client), all);
                    this.follow(kind, epoch, stream, |o| Ok(Object::Node(Box::new(o)))).await;
                }
                Kind::Namespace => {
                    let stream = watcher(Api::<PartialObjectMeta<Namespace>>::all(client), all);
                    let wrap = |o: PartialObjectMeta<Namespace>| {
                        let namespace = Namespace { metadata: o.metadata, ..Namespace::default() };
                        Ok(Object::Namespace(Box::new(namespace)))
                    };
                    this.follow(kind, epoch, stream, wrap).await;
                }
                // The API server checks its own kinds; ours may be older or newer than their definition.
                Kind::AddressPool => {
                    let stream = watcher(Api::<DeserializeGuard<AddressPool>>::all(client), all);
                    let wrap = |o: DeserializeGuard<AddressPool>| {
                        o.0.map(|o| Object::AddressPool(Box::new(o))).map_err(|e| e.error)
                    };
                    this.follow(kind, epoch, stream, wrap).await;
                }
                Kind::Peer => {
                    let stream = watcher(Api::<DeserializeGuard<Peer>>::all(client), all);
                    let wrap = |o: DeserializeGuard<Peer>| {
                        o.0.map(|o| Object::Peer(Box::new(o))).map_err(|e| e.error)
                    };
                    this.follow(kind, epoch, stream, wrap).await;
                }
            }
        };
        tokio::spawn(task).abort_handle()
    }

    async fn follow<K: Resource>(
        &self,
        kind: Kind,
        epoch: u64,
        stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
        wrap: impl Fn(K) -> Result<Object, String>,
    ) {
        let mut stream = pin!(stream);
        let mut wait = MIN_BACKOFF;
        let read = |object: K| {
            let name = ObjectName::of(object.meta());
            wrap(object).map(slim).map_err(|why| (name, why))
        };
        while let Some(event) = stream.next().await {
            let item = match event {
                Ok(watcher::Event::Init) => {
                    self.metrics.watch_list(kind.as_str());
                    Item::Begin
                }
                Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                    wait = MIN_BACKOFF;
                    if kind == Kind::Service {
                        self.history.saw(object.meta().resource_version.as_deref());
                    }
                    match read(object) {
                        Ok(object) => Item::Apply(object),
                        Err((name, why)) => Item::Unreadable(name, why),
                    }
                }
                Ok(watcher::Event::Delete(object)) => {
                    Item::Delete(kind.named(ObjectName::of(object.meta())))
                }
                Ok(watcher::Event::InitDone) => {
                    wait = MIN_BACKOFF;
                    Item::Done
                }
                Err(error) => {
                    self.metrics.watch_error(kind.as_str());
                    let why = crate::push::client::chain(&error);
                    tracing::warn!(kind = kind.as_str(), "watch: {why}");
                    // The stream goes on by itself; asked at once it would ask the API server at once.
                    tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    wait = wait.saturating_mul(2).min(MAX_BACKOFF);
                    continue;
                }
            };
            if self.tell.send(Watched { kind, epoch, item }).await.is_err() {
                return;
            }
        }
    }
}

/// Without what nobody here reads; a node's list of images alone is larger than a Service.
fn slim(mut object: Object) -> Object {
    match &mut object {
        // The index does, since answers to writes come to it as well.
        Object::Service(_) => {}
        Object::EndpointSlice(o) => {
            o.metadata.managed_fields = None;
            o.metadata.annotations = None;
            o.metadata.owner_references = None;
            for endpoint in &mut o.endpoints.iter_mut().flatten() {
                endpoint.target_ref = None;
                endpoint.deprecated_topology = None;
                endpoint.hostname = None;
            }
        }
        Object::Node(o) => {
            o.metadata.managed_fields = None;
            if let Some(status) = &mut o.status {
                status.images = None;
                status.conditions = None;
                status.volumes_attached = None;
                status.volumes_in_use = None;
                status.allocatable = None;
                status.capacity = None;
            }
        }
        Object::Namespace(o) => {
            o.metadata.managed_fields = None;
            o.metadata.annotations = None;
        }
        Object::AddressPool(o) => o.metadata.managed_fields = None,
        Object::Peer(o) => o.metadata.managed_fields = None,
    }
    object
}
