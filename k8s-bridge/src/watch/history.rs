//! Whether the cluster's history goes on, or is another one: after a restore of etcd resource versions are lower than they
//! were. A watch that goes on from a version of before is silent until the new history has come as far.

use crate::metrics::Metrics;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::{Api, ListParams};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two looks. A restore takes longer, since all API servers are stopped for it.
const INTERVAL: Duration = Duration::from_secs(5);

/// The newest version that was seen.
#[derive(Debug, Default)]
pub struct History {
    newest: AtomicU64,
}

// === impl History ===

impl History {
    /// An object of this version was seen.
    pub fn saw(&self, version: Option<&str>) {
        if let Some(version) = version.and_then(|text| text.parse().ok()) {
            self.newest.fetch_max(version, Ordering::Relaxed);
        }
    }

    /// What was seen so far.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// The newest version there is turned out to be `version`, after `seen` was the newest that was seen. True when that
    /// is one from before.
    pub fn went_back(&self, seen: u64, version: u64) -> bool {
        let is_back = version < seen;
        if is_back {
            self.newest.store(version, Ordering::Relaxed);
        } else {
            self.newest.fetch_max(version, Ordering::Relaxed);
        }
        is_back
    }
}

/// Says each time that versions went back. An answer of the API server names the newest version there is, of whatever kind.
///
/// Cancel-safe: a look that is given up says nothing.
pub async fn follow(
    client: Client,
    history: Arc<History>,
    tell: mpsc::Sender<()>,
    metrics: Arc<Metrics>,
) {
    let services: Api<Service> = Api::all(client);
    // No version is named, so the answer is as new as the store.
    let params = ListParams::default().limit(1);
    loop {
        // Before the request: what is seen meanwhile may be newer than the answer.
        let seen = history.newest();
        let answer = services.list_metadata(&params).await;
        metrics.api("list", "Service", answer.as_ref().err());
        let version = answer.ok().and_then(|list| list.metadata.resource_version);
        if let Some(version) = version.and_then(|text| text.parse().ok())
            && history.went_back(seen, version)
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
        let history = History::default();
        let seen = [5, 5, 9, 4, 4, 6].map(|version| history.went_back(history.newest(), version));
        assert_eq!(seen, [false, false, false, true, false, false]);
        history.saw(Some("60"));
        history.saw(Some("no number"));
        assert!(history.went_back(history.newest(), 7), "what watches showed counts");
        let before = history.newest();
        history.saw(Some("8"));
        assert!(!history.went_back(before, 7), "seen while the answer was under way");
    }
}
