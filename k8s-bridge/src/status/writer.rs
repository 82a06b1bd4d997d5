//! Carries writes to Services out: many at a time, none for ever.

use super::machine::Write;
use crate::index::ObjectName;
use crate::lease::Fence;
use crate::metrics::Metrics;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Requests at a time. The API server takes far more, but other clients want it too.
const CONCURRENCY: usize = 32;
/// Shorter than the time between a leader's last renewal and its Lease running out, so that nothing is written later.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Who owns the fields of pools and peers that we write.
pub use crate::index::FIELD_MANAGER;

/// A write was carried out, or not.
#[derive(Debug)]
pub struct Wrote {
    /// Of which Service.
    pub name: ObjectName,
    /// And which one of that name.
    pub uid: String,
    /// What was written.
    pub write: Write,
    /// The object as it is now.
    pub result: Result<Box<Service>, WriteError>,
}

/// Why it was not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// There is no such Service any longer.
    #[error("it is gone")]
    Gone,
    /// Another replica leads.
    #[error("this replica no longer leads")]
    Fenced,
    /// Anything else: to be tried again.
    #[error("{0}")]
    Failed(String),
}

/// Takes writes.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    /// Who owns the fields of Services that we write.
    manager: String,
    tell: mpsc::Sender<Wrote>,
    permits: Arc<Semaphore>,
    fence: Fence,
    metrics: Arc<Metrics>,
}

// === impl Writer ===

impl Writer {
    /// One of the bridge for this class that tells `tell` what became of each write.
    #[must_use]
    pub fn new(
        client: Client,
        class: &str,
        tell: mpsc::Sender<Wrote>,
        fence: Fence,
        metrics: Arc<Metrics>,
    ) -> Self {
        let manager = crate::index::field_manager(class);
        let permits = Arc::new(Semaphore::new(CONCURRENCY));
        Writer { client, manager, tell, permits, fence, metrics }
    }

    /// Begins a write.
    pub fn start(&self, name: ObjectName, object: &Service, write: Write) {
        let this = self.clone();
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let body = write.body(object, Timestamp::now());
        tokio::spawn(async move {
            let result = this.carry(&name, &write, body).await;
            // The loop has ended when nobody listens; then nothing is left to do either.
            let _ended = this.tell.send(Wrote { name, uid, write, result }).await;
        });
    }

    async fn carry(
        &self,
        name: &ObjectName,
        write: &Write,
        body: serde_json::Value,
    ) -> Result<Box<Service>, WriteError> {
        let failed = |why: String| WriteError::Failed(why);
        let _permit = self.permits.acquire().await.map_err(|e| failed(e.to_string()))?;
        if !self.fence.may_act() {
            return Err(WriteError::Fenced);
        }
        let api: Api<Service> = Api::namespaced(self.client.clone(), &name.namespace);
        let request = send(&api, &self.manager, &name.name, write, body);
        let answer = tokio::time::timeout(TIMEOUT, request).await;
        let answer = answer.map_err(|_| failed(format!("no answer in {} s", TIMEOUT.as_secs())))?;
        let kind = if write.is_status() { "Service/status" } else { "Service" };
        self.metrics.api("patch", kind, answer.as_ref().err());
        answer.map(Box::new).map_err(|error| {
            if is_gone(&error) {
                return WriteError::Gone;
            }
            failed(crate::push::client::chain(&error))
        })
    }
}

/// Sends a write to the API server in the name of this field manager; the object as it is then.
pub(crate) async fn send(
    api: &Api<Service>,
    manager: &str,
    name: &str,
    write: &Write,
    body: serde_json::Value,
) -> kube::Result<Service> {
    let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    let patch = Patch::Strategic(body);
    if write.is_status() {
        api.patch_status(name, &params, &patch).await
    } else {
        api.patch(name, &params, &patch).await
    }
}

/// There is no such Service any longer. 409 is another UID: it was made anew.
pub(crate) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}
