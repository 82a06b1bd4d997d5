//! Bridges that are away, that are no longer let in, that claim what is somebody else's.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::kube::Cluster;
use sluice_tests::kube::api::Patch;
use sluice_tests::kube::bridge::{Install, NAME, NAMESPACE};
use sluice_tests::kube::services::{SOON, ingress, path, plain};
use sluice_tests::lab::client::Transport;
use sluice_tests::lab::source::{Caller, TOKEN};
use sluice_tests::lab::until;

use crate::APP;

fn replicas(cluster: &Cluster, count: u32) -> Result<()> {
    let at = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}");
    cluster.api().patch(&at, Patch::Merge, &json!({ "spec": { "replicas": count } }))?;
    if count > 0 {
        return cluster.wait_bridge().map(drop);
    }
    until("the bridge to be gone", SOON, || {
        let pods = cluster.api().list(&format!("/api/v1/namespaces/{NAMESPACE}/pods"))?;
        ensure!(pods.is_empty(), "{} are left", pods.len());
        Ok(())
    })
    .map(drop)
}

/// Without a bridge everything stays as it is; what was deleted meanwhile, even behind the finalizer's back, goes when it
/// is back.
pub(crate) fn bridge_is_away(cluster: &mut Cluster) -> Result<()> {
    let names = ["stays-put", "forced-away", "deleted-away"];
    let mut ips = Vec::new();
    for name in names {
        cluster.create_service(&plain(name, APP, 80))?;
        ips.push(cluster.wait_address(name)?);
    }
    replicas(cluster, 0)?;
    for name in ["forced-away", "deleted-away"] {
        cluster.api().delete(&path(name))?;
    }
    cluster.change_service("forced-away", &json!({ "metadata": { "finalizers": null } }))?;
    cluster.api().wait_gone(&path("forced-away"), SOON)?;
    for ip in &ips {
        cluster.wait_answer(Transport::Http, *ip, 80)?;
    }
    replicas(cluster, 2)?;
    cluster.api().wait_gone(&path("deleted-away"), SOON)?;
    let (kept, gone) = ips.split_first().context("three addresses")?;
    cluster.wait_unrouted(gone)?;
    assert_eq!(cluster.wait_address("stays-put")?, *kept);
    cluster.wait_answer(Transport::Http, *kept, 80)?;
    cluster.delete_service("stays-put").map(drop)
}

pub(crate) fn token_is_revoked(cluster: &mut Cluster) -> Result<()> {
    let file = cluster.lab.dir().join("token");
    std::fs::write(&file, "not-the-one-you-have\n")?;
    let result = without_token(cluster);
    // Whatever came of it, the cases after this one need it.
    std::fs::write(&file, format!("{TOKEN}\n"))?;
    result?;
    let ip = cluster.wait_address("revoked")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.delete_service("revoked").map(drop)
}

fn without_token(cluster: &Cluster) -> Result<()> {
    let caller = Caller::new(cluster.control.namespace(), &cluster.lab);
    until("the appliance to know the new token", SOON, || {
        let got = caller.send("GET", "/api/v1/sources", None)?.status;
        ensure!(got == 401, "{got}");
        Ok(())
    })?;
    cluster.create_service(&plain("revoked", APP, 80))?;
    let said = cluster.wait_event("revoked", "SyncLoadBalancerFailed", "refuses the token")?;
    assert_eq!(said.kind, "Warning", "{said:?}");
    assert!(ingress(&cluster.api().object(&path("revoked"))?).is_empty(), "nobody serves it");
    // What it had is still served.
    let old = cluster.wait_address(APP)?;
    cluster.wait_answer(Transport::Http, old, 80).map(drop)
}

pub(crate) fn source_is_somebody_elses(cluster: &mut Cluster) -> Result<()> {
    let old = cluster.wait_address(APP)?;
    // Another cluster was first under this name.
    let theirs = json!({ "owner": "another cluster", "generation": 1, "services": [{
        "name": "claimed/theirs/80-tcp", "vips": ["203.0.113.240"], "port": 80, "protocol": "tcp",
        "backends": [{ "address": "10.1.0.11", "port": 1, "weight": 1 }],
    }] });
    let caller = Caller::new(cluster.control.namespace(), &cluster.lab);
    caller.wish("PUT", "claimed", &theirs)?;
    let more = vec![("SLUICE_SOURCE".to_owned(), "claimed".to_owned())];
    cluster.apply_bridge(&Install { more, ..Install::default() })?;
    cluster.wait_bridge()?;
    cluster.create_service(&plain("claims", APP, 80))?;
    cluster.wait_event("claims", "SyncLoadBalancerFailed", "belongs to")?;
    let report = caller.report("claimed")?;
    let kept = report.pointer("/services/0/name").and_then(Value::as_str);
    assert_eq!(kept, Some("claimed/theirs/80-tcp"), "{report}");
    // What this cluster wished under its own name is still served.
    cluster.wait_answer(Transport::Http, old, 80)?;
    let more = vec![("SLUICE_SOURCE".to_owned(), String::new())];
    cluster.apply_bridge(&Install { more, ..Install::default() })?;
    cluster.wait_bridge()?;
    let ip = cluster.wait_address("claims")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    assert_eq!(caller.send("DELETE", "/api/v1/sources/claimed", None)?.status, 204);
    cluster.delete_service("claims").map(drop)
}
