//! Events: what people see with `kubectl describe`.

use crate::index::ObjectName;
use crate::metrics::Metrics;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events that wait to be written; more are left out and counted. A burst of some thousand Services fits.
const QUEUE: usize = 8_192;
/// Length that the API server allows for a note.
const MAX_NOTE: usize = 1_000;

/// One thing to say.
#[derive(Clone, Debug)]
pub struct Saying {
    /// About what.
    pub about: ObjectReference,
    /// As users grep for it.
    pub reason: &'static str,
    /// Distinguishes what is said with the same reason about the same object; not shown.
    pub action: String,
    /// In words.
    pub note: String,
}

/// Takes things to say; never blocks.
#[derive(Clone, Debug)]
pub struct Sayer {
    queue: mpsc::Sender<Saying>,
    metrics: Arc<Metrics>,
}

// === impl Sayer ===

impl Sayer {
    /// Starts the task that writes events, one at a time: they must not delay statuses. The same said again within six
    /// minutes becomes a count of the first.
    #[must_use]
    pub fn start(client: Client, instance: String, metrics: Arc<Metrics>) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Saying>(QUEUE);
        let reporter =
            Reporter { controller: "sluice-bridge".to_owned(), instance: Some(instance) };
        let recorder = Recorder::new(client, reporter);
        let counted = Arc::clone(&metrics);
        tokio::spawn(async move {
            while let Some(saying) = waiting.recv().await {
                let note: String = saying.note.chars().take(MAX_NOTE).collect();
                let event = Event {
                    type_: if is_warning(saying.reason) {
                        EventType::Warning
                    } else {
                        EventType::Normal
                    },
                    reason: saying.reason.to_owned(),
                    note: Some(note),
                    action: saying.action,
                    secondary: None,
                };
                let result = recorder.publish(&event, &saying.about).await;
                counted.api("create", "Event", result.as_ref().err());
                match result {
                    Ok(()) => counted.event("written"),
                    Err(error) => {
                        counted.event("failed");
                        tracing::debug!(reason = saying.reason, "event: {error}");
                    }
                }
            }
        });
        Sayer { queue, metrics }
    }

    /// Says it.
    pub fn say(&self, about: ObjectReference, reason: &'static str, action: &str, note: String) {
        let saying = Saying { about, reason, action: action.to_owned(), note };
        if self.queue.try_send(saying).is_err() {
            self.metrics.event("left-out");
        }
    }
}

fn is_warning(reason: &str) -> bool {
    !matches!(
        reason,
        "EnsuredLoadBalancer"
            | "UpdatedLoadBalancer"
            | "DeletingLoadBalancer"
            | "DeletedLoadBalancer"
    )
}

/// A reference to a Service.
#[must_use]
pub fn service(name: &ObjectName, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        namespace: Some(name.namespace.clone()),
        name: Some(name.name.clone()),
        uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    }
}

/// A reference to the bridge's Lease.
#[must_use]
pub fn lease(namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("coordination.k8s.io/v1".to_owned()),
        kind: Some("Lease".to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
