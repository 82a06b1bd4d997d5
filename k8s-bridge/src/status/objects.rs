//! Statuses of pools and peers: the newest of each, written at most once a second, and only when it differs.

use super::reports::Reports;
use super::writer::FIELD_MANAGER;
use crate::crd::{AddressPool, AddressPoolStatus, Peer, PeerStatus};
use crate::index::{PoolUse, Trouble};
use crate::metrics::Metrics;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use sluice_api::BgpState;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// As for Services: a leader writes nothing after its term.
const TIMEOUT: Duration = Duration::from_secs(4);

/// What the objects should say, and what they do.
#[derive(Debug, Default)]
pub struct Objects {
    pools: BTreeMap<String, PoolUse>,
    pool_statuses: BTreeMap<String, (AddressPoolStatus, Option<i64>)>,
    peers: BTreeMap<String, (PeerStatus, Option<i64>)>,
    troubles: BTreeMap<String, Trouble>,
}

/// Statuses to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Due {
    /// Pools by name.
    pub pools: Vec<(String, AddressPoolStatus)>,
    /// Peers by name.
    pub peers: Vec<(String, PeerStatus)>,
}

// === impl Objects ===

impl Objects {
    /// A pool is there.
    pub fn see_pool(&mut self, pool: &AddressPool) {
        let name = pool.metadata.name.clone().unwrap_or_default();
        let status = pool.status.clone().unwrap_or_default();
        self.pool_statuses.insert(name, (status, pool.metadata.generation));
    }

    /// A peer is there.
    pub fn see_peer(&mut self, peer: &Peer) {
        let name = peer.metadata.name.clone().unwrap_or_default();
        let status = peer.status.clone().unwrap_or_default();
        self.peers.insert(name, (status, peer.metadata.generation));
    }

    /// A pool is gone.
    pub fn forget_pool(&mut self, name: &str) {
        self.pools.remove(name);
        self.pool_statuses.remove(name);
    }

    /// A peer is gone.
    pub fn forget_peer(&mut self, name: &str) {
        self.peers.remove(name);
        self.troubles.remove(name);
    }

    /// A pool is used otherwise.
    pub fn set_use(&mut self, name: String, uses: PoolUse) {
        self.pools.insert(name, uses);
    }

    /// A peer cannot be made of its object, or can.
    pub fn set_trouble(&mut self, name: String, trouble: Option<Trouble>) {
        match trouble {
            Some(trouble) => self.troubles.insert(name, trouble),
            None => self.troubles.remove(&name),
        };
    }

    /// Use of every pool: in use, left.
    #[must_use]
    pub fn uses(&self) -> BTreeMap<String, (u128, u128)> {
        self.pools.iter().map(|(name, u)| (name.clone(), (u.used, u.free))).collect()
    }

    /// Statuses that differ from what the objects say. They are taken for written; a write that fails shows at the next
    /// list, or with the next change.
    pub fn due(&mut self, reports: &Reports, now: Timestamp) -> Due {
        let mut due = Due::default();
        for (name, uses) in &self.pools {
            let Some((there, generation)) = self.pool_statuses.get_mut(name) else { continue };
            let status = pool_status(uses, there, *generation, now);
            if status != *there {
                *there = status.clone();
                due.pools.push((name.clone(), status));
            }
        }
        let mut sessions = BTreeMap::<&str, (usize, Vec<String>)>::new();
        for (appliance, peer) in reports.peers() {
            let (count, down) = sessions.entry(&peer.name).or_default();
            *count += 1;
            if peer.state != BgpState::Established {
                let why = peer.problem.as_deref().unwrap_or("no session");
                down.push(format!("{appliance}: {why}"));
            }
        }
        for (name, (there, generation)) in &mut self.peers {
            let (status, reason, message) =
                match (self.troubles.get(name), sessions.get(name.as_str())) {
                    (Some(trouble), _) => ("False", trouble.reason, trouble.message.clone()),
                    (None, None) => {
                        ("Unknown", "NoReport", "no appliance reports on it".to_owned())
                    }
                    (None, Some((count, down))) if down.is_empty() => {
                        ("True", "Established", format!("on {count} appliances"))
                    }
                    (None, Some((_, down))) => ("False", "NotEstablished", down.join("; ")),
                };
            let one = condition("Established", status, reason, message, *generation, now);
            let status = PeerStatus { conditions: vec![since(&there.conditions, one)] };
            if status != *there {
                *there = status.clone();
                due.peers.push((name.clone(), status));
            }
        }
        due
    }
}

fn pool_status(
    uses: &PoolUse,
    there: &AddressPoolStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> AddressPoolStatus {
    let clamp = |n: u128| i64::try_from(n).unwrap_or(i64::MAX);
    let (status, reason, message) = match &uses.trouble {
        None => ("True", "Ready", "addresses can be given".to_owned()),
        Some(trouble) => ("False", trouble.reason, trouble.message.clone()),
    };
    let one = condition("Ready", status, reason, message, generation, now);
    AddressPoolStatus {
        used: clamp(uses.used),
        free: clamp(uses.free),
        conditions: vec![since(&there.conditions, one)],
    }
}

fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    // Conditions count seconds; a time that is cut when it is read would differ for ever.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation,
        last_transition_time: Time(now),
    }
}

/// The time stays while the status does.
fn since(there: &[Condition], mut one: Condition) -> Condition {
    if let Some(old) = there.iter().find(|c| c.type_ == one.type_ && c.status == one.status) {
        one.last_transition_time = old.last_transition_time.clone();
    }
    one
}

/// Writes them, one after another, beside everything else.
pub async fn write(client: Client, due: Due, metrics: Arc<Metrics>) {
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let pools: Api<AddressPool> = Api::all(client.clone());
    for (name, status) in due.pools {
        let patch = Patch::Merge(json!({ "status": status }));
        let write = pools.patch_status(&name, &params, &patch);
        note("AddressPool/status", &name, tokio::time::timeout(TIMEOUT, write).await, &metrics);
    }
    let peers: Api<Peer> = Api::all(client);
    for (name, status) in due.peers {
        let patch = Patch::Merge(json!({ "status": status }));
        let write = peers.patch_status(&name, &params, &patch);
        note("Peer/status", &name, tokio::time::timeout(TIMEOUT, write).await, &metrics);
    }
}

fn note<K>(
    kind: &'static str,
    name: &str,
    result: Result<kube::Result<K>, tokio::time::error::Elapsed>,
    metrics: &Metrics,
) {
    let Ok(result) = result else {
        tracing::warn!(kind, name, "status: no answer");
        return;
    };
    metrics.api("patch", kind, result.as_ref().err());
    if let Err(error) = result {
        tracing::warn!(kind, name, "status: {}", crate::push::client::chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_api::{PeerReport, SourceReport};

    fn pool(name: &str) -> AddressPool {
        let mut pool = AddressPool::new(name, crate::crd::AddressPoolSpec::default());
        pool.metadata.generation = Some(1);
        pool
    }

    #[test]
    fn a_pool_is_written_when_its_use_differs() {
        let mut objects = Objects::default();
        let (reports, now) = (Reports::default(), Timestamp::from_second(1_000).unwrap());
        objects.see_pool(&pool("p"));
        assert_eq!(objects.due(&reports, now), Due::default(), "nothing is known of its use");
        objects.set_use("p".into(), PoolUse { used: 1, free: u128::MAX, trouble: None });
        let due = objects.due(&reports, now);
        let (_, status) = &due.pools[0];
        assert_eq!((status.used, status.free), (1, i64::MAX));
        let later = Timestamp::from_second(2_000).unwrap();
        assert_eq!(objects.due(&reports, later), Due::default(), "no news, no write");
        let trouble = Trouble { reason: "PoolOverlap", message: "with q".into() };
        objects.set_use("p".into(), PoolUse { used: 1, free: 0, trouble: Some(trouble) });
        let due = objects.due(&reports, later);
        let condition = &due.pools[0].1.conditions[0];
        assert_eq!((&*condition.status, &*condition.reason), ("False", "PoolOverlap"));
        assert_eq!(condition.last_transition_time, Time(later));
    }

    #[test]
    fn a_peer_is_established_when_it_is_everywhere() {
        use crate::push::machine::Link;
        let mut objects = Objects::default();
        objects.see_peer(&Peer::new("tor", crate::crd::PeerSpec::default()));
        let now = Timestamp::from_second(1_000).unwrap();
        let mut reports = Reports::of(&["https://a".into(), "https://b".into()]);
        let session = |state| SourceReport {
            peers: vec![PeerReport { name: "tor".into(), state, problem: None }],
            ..SourceReport::default()
        };
        let mut status =
            |reports: &Reports| objects.due(reports, now).peers[0].1.conditions[0].status.clone();
        assert_eq!(status(&reports), "Unknown");
        for number in [0, 1] {
            reports.set_link(number, Link::Up, 1);
            reports.take(number, session(BgpState::Established));
        }
        assert_eq!(status(&reports), "True");
        reports.take(1, session(BgpState::Idle));
        assert_eq!(status(&reports), "False");
    }
}
