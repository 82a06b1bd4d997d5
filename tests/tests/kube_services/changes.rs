//! What may change while a Service serves.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::kube::Cluster;
use sluice_tests::kube::services::{SOON, plain};
use sluice_tests::lab::backend::HTTP_PORT;
use sluice_tests::lab::client::{Outcome, Transport};
use sluice_tests::lab::until;

use crate::APP;

pub(crate) fn edits_keep_the_address(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("edited", APP, 80))?;
    let ip = cluster.wait_address("edited")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    let port = json!([{ "name": "http", "port": 8000, "targetPort": HTTP_PORT }]);
    for (change, wanted, gone) in [
        (json!({ "spec": { "ports": port } }), 8000, Some(80)),
        (json!({ "metadata": { "annotations": { "sluice.dev/idle-timeout": "60" } } }), 8000, None),
        (json!({ "metadata": { "labels": { "team": "blue" } } }), 8000, None),
        (json!({ "spec": { "externalTrafficPolicy": "Local" } }), 8000, None),
    ] {
        cluster.change_service("edited", &change)?;
        cluster.wait_answer(Transport::Http, ip, wanted)?;
        if let Some(port) = gone {
            cluster.wait_refused(Transport::Http, ip, port)?;
        }
        assert_eq!(cluster.wait_address("edited")?, ip, "after {change}");
    }
    cluster.delete_service("edited").map(drop)
}

pub(crate) fn source_ranges(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("ranges", APP, 80))?;
    let ip = cluster.wait_address("ranges")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    let set = |ranges: Value| {
        cluster.change_service("ranges", &json!({ "spec": { "loadBalancerSourceRanges": ranges } }))
    };
    set(json!(["192.0.2.0/24"]))?;
    cluster.wait_outcome((Transport::Http, ip, 80), "unanswered", |outcome| {
        !matches!(outcome, Outcome::Answered { .. })
    })?;
    set(json!(["192.0.2.0/24", "198.51.100.10/32"]))?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    set(Value::Null)?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.delete_service("ranges").map(drop)
}

/// The pods that answer thirty requests.
fn pods_seen(cluster: &Cluster, ip: IpAddr) -> Result<BTreeSet<String>> {
    (0..30)
        .map(|_| {
            let attempt = cluster.ask(Transport::Http, ip, 80)?;
            attempt.backend().map(str::to_owned).with_context(|| attempt.outcome.to_string())
        })
        .collect()
}

pub(crate) fn affinity(cluster: &mut Cluster) -> Result<()> {
    let mut service = plain("affinity", APP, 80);
    *service.pointer_mut("/spec").context("a spec")? = json!({
        "type": "LoadBalancer", "loadBalancerClass": sluice_tests::kube::bridge::CLASS,
        "selector": { "app": APP }, "sessionAffinity": "ClientIP",
        "ports": [{ "port": 80, "targetPort": HTTP_PORT }],
    });
    cluster.create_service(&service)?;
    let ip = cluster.wait_address("affinity")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    let seen = pods_seen(cluster, ip)?;
    assert_eq!(seen.len(), 1, "one client, one pod: {seen:?}");
    let off = json!({ "spec": { "sessionAffinity": "None", "sessionAffinityConfig": null } });
    cluster.change_service("affinity", &off)?;
    until("both pods to answer", SOON, || {
        let seen = pods_seen(cluster, ip)?;
        ensure!(seen.len() == 2, "{seen:?}");
        Ok(())
    })?;
    cluster.delete_service("affinity").map(drop)
}

pub(crate) fn from_a_pod(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("hairpin", APP, 80))?;
    let ip = cluster.wait_address("hairpin")?;
    let pods = cluster.pods(APP)?;
    for pod in &pods {
        let name = pod.pointer("/metadata/name").and_then(Value::as_str).context("no name")?;
        // Often enough that each pod is asked by itself and by the other.
        for _ in 0..6 {
            let url = format!("http://{ip}/");
            until(&format!("{name} to reach {url}"), SOON, || {
                let said = cluster.exec(name, &["wget", "-q", "-T", "2", "-O", "-", &url])?;
                ensure!(said.starts_with("web-"), "{said:?}");
                Ok(())
            })?;
        }
    }
    cluster.delete_service("hairpin").map(drop)
}
