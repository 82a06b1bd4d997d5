//! Mistakes in objects: what is wrong is said, what served before goes on, and nobody else is concerned.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sluice_tests::kube::Cluster;
use sluice_tests::kube::api::Patch;
use sluice_tests::kube::services::{PATIENCE, SOON, path, plain};
use sluice_tests::lab::backend::{HTTP_PORT, Seen};
use sluice_tests::lab::client::Transport;
use sluice_tests::lab::{http, until};

use crate::APP;
use crate::addresses::{from_pool, with};
use crate::rows::{READY, wait_condition};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Typing errors in annotations of a Service that is served take nothing off the air; a new one is refused for the same.
pub(crate) fn in_annotations(cluster: &mut Cluster) -> Result<()> {
    let wrong = json!({
        "sluice.dev/idle-timeout": "soon", "sluice.dev/addresses": "8.8.8.8",
        "loxilb.io/num-secondary-networks": "2", "sluice.dev/health": "http:/a b",
    });
    let wrong = json!({ "metadata": { "annotations": wrong } });
    cluster.create_service(&plain("mistaken", APP, 80))?;
    let ip = cluster.wait_address("mistaken")?;
    cluster.change_service("mistaken", &wrong)?;
    wait_condition(cluster, &path("mistaken"), READY, "True", "UnsupportedAnnotation")?;
    for reason in ["UnsupportedAnnotation", "InvalidAnnotation", "AddressNotInPool"] {
        cluster.wait_event("mistaken", "UpdateLoadBalancerFailed", reason)?;
    }
    cluster.wait_answer(Transport::Http, ip, 80)?;
    assert_eq!(cluster.wait_address("mistaken")?, ip);
    cluster.create_service(&with(plain("new-one", APP, 80), &wrong)?)?;
    wait_condition(cluster, &path("new-one"), READY, "False", "UnsupportedAnnotation")?;
    cluster.delete_service("new-one")?;
    cluster.change_service("mistaken", &json!({ "metadata": { "annotations": null } }))?;
    wait_condition(cluster, &path("mistaken"), READY, "True", "Served")?;
    cluster.delete_service("mistaken").map(drop)
}

/// A port that another Service has at the shared address is not served until that one goes; the others are.
pub(crate) fn in_ports(cluster: &mut Cluster) -> Result<()> {
    let spec = json!({ "addresses": ["203.0.113.201"], "sharing": "Shared", "manual": true });
    cluster.create_pool("greedy", &spec)?;
    cluster.create_service(&from_pool("has-80", "greedy", 80)?)?;
    cluster.create_service(&from_pool("has-81", "greedy", 81)?)?;
    let ip = cluster.wait_address("has-80")?;
    cluster.wait_address("has-81")?;
    let port = |number: u16| json!({ "name": format!("p{number}"), "port": number, "targetPort": HTTP_PORT });
    let both = json!({ "spec": { "ports": [port(80), port(81)] } });
    cluster.change_service("has-80", &both)?;
    wait_condition(cluster, &path("has-80"), READY, "True", "AddressInUse")?;
    let object = cluster.api().object(&path("has-80"))?;
    let error = object.pointer("/status/loadBalancer/ingress/0/ports/1/error");
    assert_eq!(error, Some(&json!("sluice.dev/AddressInUse")), "{object}");
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.wait_answer(Transport::Http, ip, 81)?;
    cluster.delete_service("has-81")?;
    wait_condition(cluster, &path("has-80"), READY, "True", "Served")?;
    cluster.wait_answer(Transport::Http, ip, 81)?;
    cluster.delete_service("has-80")?;
    cluster.delete_pool("greedy")
}

/// Of a hundred ports that lead to one endpoint thirty are served.
pub(crate) fn too_many_ports(cluster: &mut Cluster) -> Result<()> {
    let mut service = plain("hundred", APP, 80);
    let port =
        |n: u16| json!({ "name": format!("p{n}"), "port": 1000 + n, "targetPort": HTTP_PORT });
    let ports = service.pointer_mut("/spec/ports").context("ports")?;
    *ports = (0..100).map(port).collect();
    cluster.create_service(&service)?;
    let ip = cluster.wait_address("hundred")?;
    wait_condition(cluster, &path("hundred"), READY, "True", "TooManyPorts")?;
    for port in [1000, 1029] {
        cluster.wait_answer(Transport::Http, ip, port)?;
    }
    cluster.wait_refused(Transport::Http, ip, 1030)?;
    let object = cluster.api().object(&path("hundred"))?;
    let error = |n: u8| object.pointer(&format!("/status/loadBalancer/ingress/0/ports/{n}/error"));
    assert_eq!((error(29), error(30)), (None, Some(&json!("sluice.dev/TooManyPorts"))));
    cluster.delete_service("hundred").map(drop)
}

fn slice(name: &str, endpoints: &Value, ports: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": "sliced" } },
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    })
}

/// Slices made by hand: what is no endpoint is left out and named, one that is not ready keeps its connections, and of
/// very many as many are served as there is room for.
pub(crate) fn in_slices(cluster: &mut Cluster) -> Result<()> {
    let pods = cluster.pods(APP)?;
    let ip = |pod: &Value| pod.pointer("/status/podIP")?.as_str().map(str::to_owned);
    let mut pods: Vec<String> = pods.iter().filter_map(ip).collect();
    pods.sort();
    let [one, other] = pods.as_slice() else { bail!("not two pods: {pods:?}") };
    let mut service = plain("sliced", APP, 80);
    let spec = service.pointer_mut("/spec").and_then(Value::as_object_mut);
    spec.context("a spec")?.remove("selector");
    cluster.create_service(&service)?;
    let ip = cluster.wait_address("sliced")?;
    let http = json!({ "name": "http", "port": HTTP_PORT, "protocol": "TCP" });
    let endpoint = |address: &str, ready: bool| json!({ "addresses": [address], "conditions": { "ready": ready } });
    // A node, the API server, the appliance, and what no host has; the slice beside it is in order.
    let bad = ["10.1.0.11", "10.1.0.2", "10.1.0.1", "255.255.255.255"];
    let bad: Vec<_> = bad.iter().map(|address| endpoint(address, true)).collect();
    cluster.api().create(SLICES, &slice("bad", &json!(bad), &json!([http])))?;
    let good = |first: bool| {
        let both = json!([endpoint(one, first), endpoint(other, !first)]);
        slice("good", &both, &json!([http]))
    };
    cluster.api().create(SLICES, &good(true))?;
    let said = cluster.wait_event("sliced", "UpdateLoadBalancerFailed", "EndpointsRefused")?;
    assert!(said.message.contains("10.1.0.11 is node"), "{said:?}");
    let is_first = |wanted: bool| {
        until(&format!("{one} to be ready: {wanted}, {other} the other way"), SOON, || {
            let all = weights(cluster, "default/sliced/")?;
            let each = [(one.clone(), u64::from(wanted)), (other.clone(), u64::from(!wanted))];
            ensure!(each.iter().all(|it| all.contains(it)) && all.len() == 2, "{all:?}");
            Ok(())
        })
    };
    is_first(true)?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    let to = SocketAddr::new(ip, 80);
    let mut open = cluster.client.run(|| TcpStream::connect_timeout(&to, PATIENCE))??;
    cluster.api().patch(&format!("{SLICES}/good"), Patch::Merge, &good(false))?;
    is_first(false)?;
    let new = cluster.ask(Transport::Http, ip, 80)?;
    let old = http::get_over(&mut open, "/", PATIENCE).context("a connection of before")?;
    let new = new.backend().context("a new connection")?.to_owned();
    let old = Seen::parse(&old.body).context("no backend's answer")?.backend;
    assert_ne!(new, old, "the connection stays with its endpoint, a new one goes to the other");
    let many: Vec<_> = (0..500u16)
        .map(|n| endpoint(&format!("198.18.{}.{}", n / 250, 1 + n % 250), true))
        .collect();
    cluster.api().create(SLICES, &slice("many", &json!(many), &json!([http])))?;
    cluster.wait_event("sliced", "UpdateLoadBalancerFailed", "TooManyEndpoints")?;
    cluster.api().delete(&format!("{SLICES}/many"))?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    for name in ["good", "bad"] {
        cluster.api().delete(&format!("{SLICES}/{name}"))?;
    }
    cluster.delete_service("sliced").map(drop)
}

/// Backends of the appliance's service whose name has this in it.
fn weights(cluster: &Cluster, part: &str) -> Result<Vec<(String, u64)>> {
    let services: Value = cluster.appliance.api("services")?;
    let mut all = services.as_array().context("no services")?.iter();
    let found = all.find(|one| one["name"].as_str().is_some_and(|name| name.contains(part)));
    let backends = found.context("not on the appliance")?["backends"].as_array();
    let pair = |one: &Value| Some((one["address"].as_str()?.to_owned(), one["weight"].as_u64()?));
    Ok(backends.context("no backends")?.iter().filter_map(pair).collect())
}
