//! Bridges that are away, that are no longer let in, that claim what is somebody else's.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::kube::Cluster;
use sluice_tests::kube::api::Patch;
use sluice_tests::kube::bridge::{Install, NAME, NAMESPACE, manifest};
use sluice_tests::kube::services::{SOON, ingress, path, plain};
use sluice_tests::lab::client::Transport;
use sluice_tests::lab::source::{Caller, TOKEN};
use sluice_tests::lab::until;

use crate::{APP, DEAD};

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

/// Without a bridge everything stays as it is; what was deleted or turned away meanwhile, even behind the finalizer's back,
/// goes when it is back. An appliance that may know them and cannot be asked is waited for, and then no longer.
pub(crate) fn bridge_is_away(cluster: &mut Cluster) -> Result<()> {
    let names = ["stays-put", "forced-away", "deleted-away", "turned-away"];
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
    let turned = json!({ "spec": { "type": "ClusterIP", "loadBalancerClass": null } });
    cluster.change_service("turned-away", &turned)?;
    for ip in &ips {
        cluster.wait_answer(Transport::Http, *ip, 80)?;
    }
    replicas(cluster, 2)?;
    let said = cluster.wait_event("deleted-away", "DeletingLoadBalancer", "may still serve")?;
    assert!(said.message.contains(DEAD), "{said:?}");
    cluster.api().wait_gone(&path("deleted-away"), SOON)?;
    until("finalizer and condition of the one that turned away to be gone", SOON, || {
        let object = cluster.api().object(&path("turned-away"))?;
        let finalizers = object.pointer("/metadata/finalizers");
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
        let is_bare = finalizers.is_none() && conditions.is_none_or(Vec::is_empty);
        ensure!(is_bare, "{finalizers:?} {conditions:?}");
        Ok(())
    })?;
    let (kept, gone) = ips.split_first().context("four addresses")?;
    cluster.wait_unrouted(gone)?;
    assert_eq!(cluster.wait_address("stays-put")?, *kept);
    cluster.wait_answer(Transport::Http, *kept, 80)?;
    cluster.delete_service("turned-away")?;
    cluster.delete_service("stays-put").map(drop)
}

/// Another controller writes its address over ours: it is written again, more and more slowly, and the other one is named.
pub(crate) fn status_is_fought_over(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("fought", APP, 80))?;
    let ip = cluster.wait_address("fought")?;
    let theirs = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "10.1.0.11" }] } } });
    let status = format!("{}/status?fieldManager=rival", path("fought"));
    for _ in 0..3 {
        cluster.api().patch(&status, Patch::Merge, &theirs)?;
        until("our address to be back", SOON, || {
            let found = ingress(&cluster.api().object(&path("fought"))?);
            ensure!(found == [ip], "{found:?}");
            Ok(())
        })?;
    }
    let said = cluster.wait_event("fought", "UpdateLoadBalancerFailed", "StatusConflict: rival")?;
    assert_eq!(said.kind, "Warning", "{said:?}");
    // Deleting it is no part of the fight, and waits for nothing.
    cluster.delete_service("fought").map(drop)
}

/// Uninstalled in the order that deploy/README.md says, nothing is served and no Service waits for a bridge. Without that,
/// the same program does it afterwards. The last of all cases.
pub(crate) fn uninstall(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("left", APP, 80))?;
    let ips = [cluster.wait_address("left")?, cluster.wait_address(APP)?];
    replicas(cluster, 0)?;
    let deploy = manifest().with_file_name("uninstall.yaml").display().to_string();
    cluster.kubectl(&["apply", "-f", &deploy])?;
    let job = "job/sluice-bridge-uninstall";
    let wait = ["wait", "--for=condition=complete", "--timeout=60s", "-n", NAMESPACE, job];
    if let Err(error) = cluster.kubectl(&wait) {
        let log = cluster.kubectl(&["logs", "-n", NAMESPACE, job]).unwrap_or_default();
        return Err(error.context(log));
    }
    cluster.wait_unrouted(&ips)?;
    for name in ["left", APP] {
        let object = cluster.api().object(&path(name))?;
        let left = object.pointer("/metadata/finalizers");
        assert!(ingress(&object).is_empty() && left.is_none(), "{object}");
    }
    let sources: Value = cluster.appliance.api("sources")?;
    assert_eq!(sources.as_array().map(Vec::len), Some(0), "{sources}");
    cluster.kubectl(&["delete", "-f", &manifest().display().to_string(), "--timeout=90s"])?;
    cluster.delete_service("left")?;
    cluster.delete_service(APP).map(drop)
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
