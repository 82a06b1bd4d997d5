//! Rows of the contract that neither the upstream suite nor the other cases reach: pools that change under Services,
//! endpoints of other kinds, ports that cannot be served.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::kube::Cluster;
use sluice_tests::kube::api::Patch;
use sluice_tests::kube::services::{SERVICES, SOON, ingress, path, plain};
use sluice_tests::lab::client::{Outcome, Transport};
use sluice_tests::lab::until;

use crate::APP;
use crate::addresses::{from_pool, with};

const POOLS: &str = "/apis/sluice.dev/v1alpha1/addresspools";
/// Our condition of a Service.
pub(crate) const READY: &str = "sluice.dev/Ready";

/// Waits until a condition of an object has this status and names this reason.
pub(crate) fn wait_condition(
    cluster: &Cluster,
    at: &str,
    kind: &str,
    status: &str,
    reason: &str,
) -> Result<()> {
    until(&format!("{at} to be {kind}={status} for {reason}"), SOON, || {
        let object = cluster.api().object(at)?;
        let all = object.pointer("/status/conditions").and_then(Value::as_array);
        let found = all.into_iter().flatten().find(|one| one.get("type") == Some(&json!(kind)));
        let found = found.with_context(|| format!("{:?}", object.get("status")))?;
        let is = |key: &str, value: &str| found.get(key).and_then(Value::as_str) == Some(value);
        ensure!(is("status", status) && is("reason", reason), "{found}");
        Ok(())
    })
    .map(drop)
}

pub(crate) fn pool_overlaps(cluster: &mut Cluster) -> Result<()> {
    cluster.create_pool("late", &json!({ "addresses": ["203.0.113.100-203.0.113.230"] }))?;
    wait_condition(cluster, &format!("{POOLS}/late"), "Ready", "False", "PoolOverlap")?;
    // The older one goes on giving.
    cluster.create_service(&plain("overlapped", APP, 80))?;
    let ip = cluster.wait_address("overlapped")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    // Parted, the late one gives as well.
    let parted = json!({ "spec": { "addresses": ["203.0.113.220-203.0.113.230"] } });
    cluster.api().patch(&format!("{POOLS}/late"), Patch::Merge, &parted)?;
    wait_condition(cluster, &format!("{POOLS}/late"), "Ready", "True", "Ready")?;
    cluster.delete_service("overlapped")?;
    cluster.delete_pool("late")
}

pub(crate) fn pool_shrinks(cluster: &mut Cluster) -> Result<()> {
    cluster.create_pool("shrinking", &json!({ "addresses": ["203.0.113.210"], "manual": true }))?;
    cluster.create_service(&from_pool("stays", "shrinking", 80)?)?;
    let ip = cluster.wait_address("stays")?;
    assert_eq!(ip.to_string(), "203.0.113.210");
    let moved = json!({ "spec": { "addresses": ["203.0.113.211"] } });
    cluster.api().patch(&format!("{POOLS}/shrinking"), Patch::Merge, &moved)?;
    let said = cluster.wait_event("stays", "UpdateLoadBalancerFailed", "AddressNotInPool")?;
    assert_eq!(said.kind, "Warning", "{said:?}");
    assert_eq!(cluster.wait_address("stays")?, ip, "an address in use is never taken away");
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.create_service(&from_pool("moves", "shrinking", 80)?)?;
    assert_eq!(cluster.wait_address("moves")?.to_string(), "203.0.113.211");
    cluster.delete_service("moves")?;
    cluster.delete_service("stays")?;
    cluster.delete_pool("shrinking")
}

/// A node's port, which kube-proxy has to open first; whether the pod sees the client is said by `sees_client`.
fn wait_node_answer(cluster: &Cluster, ip: std::net::IpAddr, sees_client: bool) -> Result<()> {
    let what = if sees_client { "answered, client seen" } else { "answered" };
    cluster
        .wait_outcome((Transport::Http, ip, 80), what, |outcome| {
            matches!(outcome, Outcome::Answered { seen, local } if !sees_client || seen.client == *local)
        })
        .map(drop)
}

pub(crate) fn nodes_as_endpoints(cluster: &mut Cluster) -> Result<()> {
    let by_nodes = json!({ "metadata": { "annotations": { "sluice.dev/endpoints": "nodes" } } });
    cluster.create_service(&with(plain("nodes", APP, 80), &by_nodes)?)?;
    let ip = cluster.wait_address("nodes")?;
    wait_node_answer(cluster, ip, false)?;
    let backends = |cluster: &Cluster| -> Result<Vec<(String, u64)>> {
        let services: Value = cluster.appliance.api("services")?;
        let all = services.as_array().context("no services")?;
        let name =
            |one: &&Value| one["name"].as_str().is_some_and(|n| n.contains("default/nodes/"));
        let found = all.iter().find(name).context("not on the appliance")?;
        let backends = found["backends"].as_array().context("no backends")?;
        let pair =
            |one: &Value| Some((one["address"].as_str()?.to_owned(), one["weight"].as_u64()?));
        Ok(backends.iter().filter_map(pair).collect())
    };
    let until_backends = |cluster: &Cluster, what: &str, wanted: fn(&[(String, u64)]) -> bool| {
        until(what, SOON, || {
            let found = backends(cluster)?;
            ensure!(wanted(&found), "{found:?}");
            Ok(())
        })
    };
    until_backends(cluster, "both nodes", |all| all.iter().filter(|(_, w)| *w > 0).count() == 2)?;
    // Cordon is not drain.
    let node = "/api/v1/nodes/n1";
    cluster.api().patch(node, Patch::Merge, &json!({ "spec": { "unschedulable": true } }))?;
    let label = "node.kubernetes.io/exclude-from-external-load-balancers";
    let set = |value: Value| json!({ "metadata": { "labels": { label: value } } });
    cluster.api().patch("/api/v1/nodes/n2", Patch::Merge, &set("true".into()))?;
    until_backends(cluster, "the cordoned node alone", |all| {
        all.iter().all(|(address, _)| address == "10.1.0.11") && all.len() == 1
    })?;
    wait_node_answer(cluster, ip, false)?;
    cluster.api().patch("/api/v1/nodes/n2", Patch::Merge, &set(Value::Null))?;
    cluster.api().patch(node, Patch::Merge, &json!({ "spec": { "unschedulable": null } }))?;
    let local = json!({ "spec": { "externalTrafficPolicy": "Local" } });
    cluster.change_service("nodes", &local)?;
    wait_node_answer(cluster, ip, true)?;
    assert_eq!(cluster.wait_address("nodes")?, ip);
    cluster.delete_service("nodes").map(drop)
}

pub(crate) fn selectorless(cluster: &mut Cluster) -> Result<()> {
    let pods = cluster.pods(APP)?;
    let address = pods.first().and_then(|pod| pod.pointer("/status/podIP")?.as_str());
    let address = address.context("no pod")?.to_owned();
    let mut service = plain("by-hand", APP, 80);
    service
        .pointer_mut("/spec")
        .and_then(Value::as_object_mut)
        .context("a spec")?
        .remove("selector");
    cluster.create_service(&service)?;
    let ip = cluster.wait_address("by-hand")?;
    cluster.wait_refused(Transport::Http, ip, 80)?;
    let slice = |address: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "by-hand", "labels": { "kubernetes.io/service-name": "by-hand" } },
            "addressType": "IPv4", "endpoints": [{ "addresses": [address] }],
            "ports": [{ "name": "http", "port": sluice_tests::lab::backend::HTTP_PORT, "protocol": "TCP" }],
        })
    };
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    cluster.api().create(slices, &slice(&address))?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    // An endpoint that the appliance has no way to is like none: no black hole, and the others go on.
    let one = format!("{slices}/by-hand");
    cluster.api().patch(&one, Patch::Merge, &slice("198.18.0.1"))?;
    cluster.wait_refused(Transport::Http, ip, 80)?;
    cluster.wait_unrouted(&[ip])?;
    let reason = "EndpointsUnreachable";
    let said = cluster.wait_event("by-hand", "SyncLoadBalancerFailed", reason)?;
    assert!(said.kind == "Warning" && said.message.contains("198.18.0.1"), "{said:?}");
    wait_condition(cluster, &path("by-hand"), READY, "False", reason)?;
    assert_eq!(cluster.wait_address("by-hand")?, ip, "the address stays");
    cluster.api().patch(&one, Patch::Merge, &slice(&address))?;
    cluster.wait_routed(&[ip])?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    wait_condition(cluster, &path("by-hand"), READY, "True", "Served")?;
    cluster.delete_service("by-hand").map(drop)
}

/// A port of SCTP beside one of TCP; what its packets do is for a kernel that has SCTP.
pub(crate) fn mixed_with_sctp(cluster: &mut Cluster) -> Result<()> {
    let mut service = plain("mixed", APP, 80);
    let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    ports.context("ports")?.push(json!({ "name": "s1", "port": 36412, "protocol": "SCTP" }));
    cluster.create_service(&service)?;
    let ip = cluster.wait_address("mixed")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    let object = cluster.api().object(&path("mixed"))?;
    let errors: Vec<_> = object
        .pointer("/status/loadBalancer/ingress/0/ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|port| port.get("error").and_then(Value::as_str))
        .collect();
    assert_eq!(errors, [None, None], "{object}");
    cluster.delete_service("mixed").map(drop)
}

pub(crate) fn of_another_class(cluster: &mut Cluster) -> Result<()> {
    for (name, class) in [("foreign", Some("example.com/other")), ("classless", None)] {
        let mut service = plain(name, APP, 80);
        let spec = service.pointer_mut("/spec").and_then(Value::as_object_mut).context("a spec")?;
        spec.insert("loadBalancerClass".into(), class.into());
        cluster.create_service(&service)?;
    }
    // One of ours that was made later has its address: the others had their chance.
    cluster.create_service(&plain("ours", APP, 80))?;
    cluster.wait_address("ours")?;
    for object in cluster.api().list(SERVICES)? {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if ["foreign", "classless"].contains(&name) {
            let left = object.pointer("/metadata/finalizers");
            assert!(ingress(&object).is_empty() && left.is_none(), "{name} was touched: {object}");
        }
    }
    for name in ["foreign", "classless", "ours"] {
        cluster.delete_service(name)?;
    }
    Ok(())
}
