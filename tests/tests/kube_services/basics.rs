//! From a Service to an answer, and back to nothing.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};
use sluice_tests::kube::Cluster;
use sluice_tests::kube::bridge::CLASS;
use sluice_tests::kube::pods::service;
use sluice_tests::kube::services::{SOON, path, plain};
use sluice_tests::lab::client::Transport;
use sluice_tests::lab::until;

use crate::{APP, AT_ONCE};

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

pub(crate) fn answers(cluster: &mut Cluster) -> Result<()> {
    let start = Instant::now();
    cluster.create_service(&service(APP, Some(CLASS)))?;
    let ip = cluster.wait_address(APP)?;
    let took = start.elapsed();
    ensure!(took < AT_ONCE, "the address came after {took:.1?}: a dead appliance delays it?");
    let pool: IpNet = "203.0.113.0/25".parse()?;
    assert!(pool.contains(&ip), "{ip}");
    let object = cluster.api().object(&path(APP))?;
    let mode = object.pointer("/status/loadBalancer/ingress/0/ipMode").and_then(Value::as_str);
    assert_eq!(mode, Some("Proxy"), "{:?}", object.get("status"));
    let finalizers = object.pointer("/metadata/finalizers").context("no finalizers")?;
    assert!(finalizers.to_string().contains(FINALIZER), "{finalizers}");
    // The status says it only once it is true.
    cluster.wait_routed(&[ip])?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.wait_answer(Transport::Udp, ip, 53)?;
    cluster.wait_refused(Transport::Http, ip, 81)?;
    cluster.wait_event(APP, "EnsuredLoadBalancer", &ip.to_string()).map(drop)
}

pub(crate) fn pool_shows_its_use(cluster: &mut Cluster) -> Result<()> {
    until("the pool to show one address in use", SOON, || {
        let pool = cluster.api().object("/apis/sluice.dev/v1alpha1/addresspools/main")?;
        let used = pool.pointer("/status/used").and_then(Value::as_u64);
        ensure!(used == Some(1), "{:?}", pool.get("status"));
        Ok(())
    })?;
    let shown = cluster.kubectl(&["get", "addresspools"])?;
    assert!(shown.contains("USED") && shown.contains("main"), "{shown}");
    Ok(())
}

pub(crate) fn scale_to_zero_and_back(cluster: &mut Cluster) -> Result<()> {
    cluster.start_backends("scaled", 1)?;
    cluster.create_service(&plain("scaled", "scaled", 80))?;
    let ip = cluster.wait_address("scaled")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.scale("scaled", 0)?;
    cluster.wait_unrouted(&[ip])?;
    cluster.wait_refused(Transport::Http, ip, 80)?;
    assert_eq!(cluster.wait_address("scaled")?, ip, "the address stays");
    cluster.scale("scaled", 1)?;
    cluster.wait_routed(&[ip])?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.delete_service("scaled").map(drop)
}

/// Often enough that a Service, its endpoints and its finalizer are seen in every order.
pub(crate) fn come_and_go(cluster: &mut Cluster) -> Result<()> {
    for number in 0..30 {
        let name = format!("passing-{number}");
        cluster.create_service(&plain(&name, APP, 80))?;
        let ip = cluster.wait_address(&name)?;
        cluster.wait_answer(Transport::Http, ip, 80)?;
        cluster.delete_service(&name)?;
    }
    Ok(())
}

pub(crate) fn delete(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("deleted", APP, 80))?;
    let ip = cluster.wait_address("deleted")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.delete_service("deleted")?;
    cluster.wait_unrouted(&[ip])?;
    nothing_of(cluster, "deleted")
}

pub(crate) fn becomes_a_cluster_ip(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("changed", APP, 80))?;
    let ip = cluster.wait_address("changed")?;
    cluster.change_service(
        "changed",
        &json!({ "spec": { "type": "ClusterIP", "loadBalancerClass": null } }),
    )?;
    until("status and finalizer to be gone", SOON, || {
        let object = cluster.api().object(&path("changed"))?;
        let left = object.pointer("/status/loadBalancer/ingress");
        let finalizers = object.pointer("/metadata/finalizers");
        ensure!(left.is_none() && finalizers.is_none(), "{left:?} {finalizers:?}");
        Ok(())
    })?;
    cluster.wait_unrouted(&[ip])?;
    nothing_of(cluster, "changed")?;
    cluster.delete_service("changed").map(drop)
}

/// The appliance knows nothing of a Service.
fn nothing_of(cluster: &Cluster, name: &str) -> Result<()> {
    let services: Value = cluster.appliance.api("services")?;
    ensure!(!services.to_string().contains(&format!("default/{name}/")), "{services}");
    Ok(())
}
