//! The acts of the demo on Kubernetes, in the order in which they are played.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::stage::{Stage, time};
use crate::kube::Cluster;
use crate::kube::api::Watch;
use crate::kube::bridge::CLASS;
use crate::kube::pods::service;
use crate::kube::services::{PATIENCE, SERVICES, ingress};
use crate::lab::backend::HTTP_PORT;
use crate::lab::client::Transport;
use crate::lab::topology::CLIENT;
use crate::lab::traffic::{Report, burst};

/// The Service of the demo and its Deployment.
const NAME: &str = "hello";

fn address(cluster: &Cluster) -> Result<IpAddr> {
    cluster.wait_address(NAME)
}

fn wait_ingress(watch: &mut Watch) -> Result<(IpAddr, Instant)> {
    watch.find(|event| {
        let name = event.object.pointer("/metadata/name")?.as_str()?;
        (name == NAME).then(|| ingress(&event.object).first().copied())?
    })
}

/// A pool, pods, a Service: an address that answers.
pub(super) fn apply(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    stage.act("kubectl apply: a pool, a Deployment, a Service");
    cluster.create_pool("demo", &json!({ "addresses": ["203.0.113.1-203.0.113.99"] }))?;
    stage.did("AddressPool demo: 203.0.113.1-203.0.113.99", "");
    let start = Instant::now();
    cluster.start_backends(NAME, 2)?;
    stage.did("Deployment hello: two pods are ready", time(start.elapsed()));
    let mut watch = cluster.api().watch(SERVICES)?;
    let wanted = service(NAME, Some(CLASS));
    let start = Instant::now();
    cluster.create_service(&wanted)?;
    let created = start.elapsed();
    let (ip, at) = wait_ingress(&mut watch)?;
    let shown = at.duration_since(start);
    stage.did(&format!("Service hello, loadBalancerClass {CLASS}: created"), time(created));
    stage.did(&format!("its status says {ip}"), time(shown));
    cluster.wait_routed(&[ip])?;
    stage.did(&format!("FRR learned {ip}/32 by BGP"), time(start.elapsed()));
    cluster.wait_answer(Transport::Http, ip, 80)?;
    stage.did(&format!("http://{ip}/ answers"), time(start.elapsed()));
    stage.keep("Service created to its address in the status", time(shown));
    stage.keep("Service created to the first answer", time(start.elapsed()));
    let said = cluster.kubectl(&["get", "service", NAME])?;
    said.lines().for_each(|line| stage.say(&format!("      {line}")));
    Ok(())
}

fn shares(report: &Report) -> String {
    let shares: Vec<String> =
        report.answers.iter().map(|(name, n)| format!("{name} {n}")).collect();
    shares.join(", ")
}

fn sixty(cluster: &Cluster, transport: Transport, port: u16) -> Result<Report> {
    let ip = address(cluster)?;
    burst(&cluster.client, &[(transport, (ip, port).into())], 60, PATIENCE)
}

/// All pods answer and see the client.
pub(super) fn requests(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    stage.act("The client sends requests");
    for (transport, port, name) in [(Transport::Http, 80, "HTTP"), (Transport::Udp, 53, "UDP ")] {
        let report = sixty(cluster, transport, port)?;
        stage.check(
            report.failures.is_empty() && report.answers.len() == 2 && report.disguised == 0,
            &format!(
                "{name}: {} of {} answered: {}",
                report.answered(),
                report.sent,
                shares(&report)
            ),
            format!("{} each", time(report.mean())),
        );
    }
    stage.did(&format!("the pods saw the client itself: {} and its own ports", CLIENT.0), "");
    Ok(())
}

/// No pods: the route goes and clients are refused. Pods: back.
pub(super) fn scale(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    stage.act("kubectl scale: to zero and back");
    let ip = address(cluster)?;
    let start = Instant::now();
    cluster.scale(NAME, 0)?;
    cluster.wait_unrouted(&[ip])?;
    stage.did("no pods: FRR lost the route", time(start.elapsed()));
    let took = cluster.wait_refused(Transport::Http, ip, 80)?;
    stage.did("HTTP: connection refused (RST) at once, no time-out", time(took));
    let start = Instant::now();
    cluster.scale(NAME, 2)?;
    cluster.wait_routed(&[ip])?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    stage.did("two pods again: route and answers are back", time(start.elapsed()));
    cluster.wait_deployment("default", NAME, Duration::from_secs(60)).map(drop)
}

/// Another port: the address stays.
pub(super) fn edit(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    stage.act("kubectl edit: another port");
    let ip = address(cluster)?;
    let start = Instant::now();
    let ports = json!([{ "name": "http", "port": 8080, "targetPort": HTTP_PORT }]);
    cluster.change_service(NAME, &json!({ "spec": { "ports": ports } }))?;
    cluster.wait_answer(Transport::Http, ip, 8080)?;
    stage.did(&format!("http://{ip}:8080/ answers"), time(start.elapsed()));
    cluster.wait_refused(Transport::Http, ip, 80)?;
    stage.did("port 80 is refused", time(start.elapsed()));
    let now = address(cluster)?;
    stage.check(now == ip, "the address is the same", now.to_string());
    Ok(())
}

/// Deleted: nothing is left.
pub(super) fn delete(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    stage.act("kubectl delete service hello");
    let ip = address(cluster)?;
    let start = Instant::now();
    cluster.delete_service(NAME)?;
    stage.did(
        "the Service is gone, and its finalizer held until the appliance let go",
        time(start.elapsed()),
    );
    cluster.wait_unrouted(&[ip])?;
    stage.did("FRR lost the route", time(start.elapsed()));
    let services: serde_json::Value = cluster.appliance.api("services")?;
    let left = services.as_array().context("services are a list")?.len();
    stage.check(left == 0, "services left on the appliance", left.to_string());
    stage.keep("deleted to nothing left", time(start.elapsed()));
    Ok(())
}
