//! What happens to Services while parts of the whole go and return.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sluice_tests::kube::Cluster;
use sluice_tests::kube::bridge::{Install, NAMESPACE};
use sluice_tests::kube::services::{SOON, ingress, path, plain};
use sluice_tests::lab::backend::HTTP_PORT;
use sluice_tests::lab::client::Transport;
use sluice_tests::lab::until;

use crate::APP;

/// More than the restarts of API server and bridge write by themselves.
const EDITS: u32 = 100;

pub(crate) fn appliance_restarts(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("kept", APP, 80))?;
    let ip = cluster.wait_address("kept")?;
    cluster.appliance.stop()?;
    // Made while nobody can serve it.
    cluster.create_service(&plain("meanwhile", APP, 80))?;
    cluster.appliance.start_ready()?;
    cluster.wait_routed(&[ip])?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    let second = cluster.wait_address("meanwhile")?;
    cluster.wait_answer(Transport::Http, second, 80)?;
    cluster.delete_service("meanwhile")?;
    cluster.delete_service("kept").map(drop)
}

pub(crate) fn leader_is_killed(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("outlives", APP, 80))?;
    let ip = cluster.wait_address("outlives")?;
    let leader = cluster.leader()?;
    let pod = leader.split('_').next().context("a pod's name")?;
    cluster.kill_bridge(pod)?;
    cluster.create_service(&plain("afterwards", APP, 80))?;
    let second = cluster.wait_address("afterwards")?;
    cluster.wait_answer(Transport::Http, second, 80)?;
    assert_eq!(cluster.wait_address("outlives")?, ip, "addresses do not change");
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.wait_bridge()?;
    cluster.delete_service("afterwards")?;
    cluster.delete_service("outlives").map(drop)
}

/// A new API server knows no event from before its start, so every watch of before has expired (410).
pub(crate) fn apiserver_restarts(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("through", APP, 80))?;
    let ip = cluster.wait_address("through")?;
    cluster.control.kill_apiserver()?;
    // Without an API server everything that is there goes on.
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.control.start_apiserver()?;
    cluster.create_service(&plain("later", APP, 80))?;
    let second = cluster.wait_address("later")?;
    cluster.wait_answer(Transport::Http, second, 80)?;
    assert_eq!(cluster.wait_address("through")?, ip, "addresses do not change");
    cluster.delete_service("later")?;
    cluster.delete_service("through").map(drop)
}

/// After a restore resource versions are lower than what everybody has seen; the bridge follows all the same.
pub(crate) fn etcd_is_restored(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("restored", APP, 80))?;
    let ip = cluster.wait_address("restored")?;
    // Pods that end after the backup would come back as ghosts that no kubelet knows.
    until("pods of before to be gone", SOON, || {
        let pods = cluster.api().list(&format!("/api/v1/namespaces/{NAMESPACE}/pods"))?;
        ensure!(pods.len() == 2, "{} are there", pods.len());
        Ok(())
    })?;
    cluster.control.back_up()?;
    let edit = |number: u32| json!({ "metadata": { "labels": { "edit": number.to_string() } } });
    for number in 0..EDITS {
        cluster.change_service("restored", &edit(number))?;
    }
    cluster.control.restore()?;
    let ports = json!([{ "name": "http", "port": 8000, "targetPort": HTTP_PORT }]);
    cluster.change_service("restored", &json!({ "spec": { "ports": ports } }))?;
    cluster.wait_answer(Transport::Http, ip, 8000)?;
    assert_eq!(cluster.wait_address("restored")?, ip, "addresses do not change");
    // The others of the cluster see nothing until versions have come as far as they were.
    for number in 0..2 * EDITS {
        cluster.change_service("restored", &edit(number))?;
    }
    cluster.delete_service("restored").map(drop)
}

/// A bridge that no appliance lets in, or that trusts none, says so and breaks nothing.
fn strangers(cluster: &Cluster, name: &str, install: &Install) -> Result<()> {
    cluster.apply_bridge(install)?;
    cluster.wait_bridge()?;
    cluster.create_service(&plain(name, APP, 80))?;
    let said = cluster.wait_event(name, "SyncLoadBalancerFailed", "")?;
    assert_eq!(said.kind, "Warning", "{said:?}");
    assert!(ingress(&cluster.api().object(&path(name))?).is_empty(), "nobody serves it");
    let ip = cluster.wait_address(APP)?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.apply_bridge(&Install::default())?;
    cluster.wait_bridge()?;
    let second = cluster.wait_address(name)?;
    cluster.wait_answer(Transport::Http, second, 80)?;
    cluster.delete_service(name).map(drop)
}

pub(crate) fn wrong_token(cluster: &mut Cluster) -> Result<()> {
    strangers(cluster, "no-token", &Install { token: "a stranger's".into(), ..Install::default() })
}

pub(crate) fn wrong_certificate(cluster: &mut Cluster) -> Result<()> {
    // The cluster's own authority did not sign the appliance's certificate.
    let other = std::fs::read_to_string(cluster.control.authority())?;
    strangers(cluster, "no-trust", &Install { authority: Some(other), ..Install::default() })
}
