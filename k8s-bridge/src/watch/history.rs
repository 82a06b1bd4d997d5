//! Whether the cluster's history goes on, or is another one: after a restore of etcd resource versions are lower than they
//! were. A watch that goes on from a version of before is silent until the new history has come as far.

use crate::metrics::Metrics;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::{Api, ListParams};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two looks. A restore takes longer, since all API servers are stopped for it.
const INTERVAL: Duration = Duration::from_secs(10);

/// The newest version that was seen.
#[derive(Debug, Default)]
pub struct History {
    newest: u64,
}

// === impl History ===

impl History {
    /// True when the version is one from before what was seen.
    pub fn went_back(&mut self, version: u64) -> bool {
        let before = std::mem::replace(&mut self.newest, version);
        version < before
    }
}

/// Says each time that versions went back. An answer of the API server names the newest version there is, of whatever kind.
///
/// Cancel-safe: a look that is given up says nothing.
pub async fn follow(client: Client, tell: mpsc::Sender<()>, metrics: Arc<Metrics>) {
    let services: Api<Service> = Api::all(client);
    let mut history = History::default();
    // Not served from a cache: no version is named.
    let params = ListParams::default().limit(1);
    loop {
        let answer = services.list_metadata(&params).await;
        metrics.api("list", "Service", answer.as_ref().err());
        let version = answer.ok().and_then(|list| list.metadata.resource_version);
        if let Some(version) = version.and_then(|text| text.parse().ok())
            && history.went_back(version)
            && tell.send(()).await.is_err()
        {
            return;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_is_seen_once() {
        let mut history = History::default();
        let seen = [5, 5, 9, 4, 4, 6].map(|version| history.went_back(version));
        assert_eq!(seen, [false, false, false, true, false, false]);
    }
}
