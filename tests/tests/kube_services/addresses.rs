//! Which addresses Services get, and what is said when they get none.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::kube::Cluster;
use sluice_tests::kube::api::Refusal;
use sluice_tests::kube::services::{SOON, ingress, path, plain};
use sluice_tests::lab::client::Transport;
use sluice_tests::lab::until;

use crate::APP;

pub(crate) fn with(mut service: Value, more: &Value) -> Result<Value> {
    let target = service.as_object_mut().context("an object")?;
    for (part, fields) in more.as_object().context("an object")? {
        let into = target.get_mut(part).and_then(Value::as_object_mut).context("no such part")?;
        into.extend(fields.as_object().context("an object")?.clone());
    }
    Ok(service)
}

pub(crate) fn dual_stack(cluster: &mut Cluster) -> Result<()> {
    let more = json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } });
    cluster.create_service(&with(plain("dual", APP, 80), &more)?)?;
    let ips = cluster.wait_addresses("dual", 2)?;
    assert!(ips.iter().any(|ip| ip.is_ipv6()) && ips.iter().any(|ip| ip.is_ipv4()), "{ips:?}");
    cluster.wait_routed(&ips)?;
    for ip in &ips {
        cluster.wait_answer(Transport::Http, *ip, 80)?;
    }
    cluster.delete_service("dual")?;
    cluster.wait_unrouted(&ips).map(drop)
}

pub(crate) fn only_ipv6(cluster: &mut Cluster) -> Result<()> {
    let more = json!({ "spec": { "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"] } });
    cluster.create_service(&with(plain("six", APP, 80), &more)?)?;
    let ip = cluster.wait_address("six")?;
    assert!(ip.is_ipv6(), "{ip}");
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.delete_service("six").map(drop)
}

/// A Service that asks for a pool.
pub(crate) fn from_pool(name: &str, pool: &str, port: u16) -> Result<Value> {
    with(
        plain(name, APP, port),
        &json!({ "metadata": { "annotations": { "sluice.dev/pool": pool } } }),
    )
}

pub(crate) fn shared(cluster: &mut Cluster) -> Result<()> {
    let spec = json!({ "addresses": ["203.0.113.200"], "sharing": "Shared", "manual": true });
    cluster.create_pool("shared", &spec)?;
    cluster.create_service(&from_pool("first", "shared", 80)?)?;
    cluster.create_service(&from_pool("second", "shared", 81)?)?;
    let ip = cluster.wait_address("first")?;
    assert_eq!(cluster.wait_address("second")?, ip, "the pool has one address");
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.wait_answer(Transport::Http, ip, 81)?;
    // One of them goes: the other and its route stay.
    cluster.delete_service("first")?;
    cluster.wait_refused(Transport::Http, ip, 80)?;
    cluster.wait_answer(Transport::Http, ip, 81)?;
    cluster.delete_service("second")?;
    cluster.wait_unrouted(&[ip])?;
    cluster.delete_pool("shared")
}

pub(crate) fn exclusive(cluster: &mut Cluster) -> Result<()> {
    let spec = json!({ "addresses": ["203.0.113.201"], "sharing": "Exclusive", "manual": true });
    cluster.create_pool("exclusive", &spec)?;
    cluster.create_service(&from_pool("holder", "exclusive", 80)?)?;
    let ip = cluster.wait_address("holder")?;
    cluster.create_service(&from_pool("waiter", "exclusive", 81)?)?;
    let said = cluster.wait_event("waiter", "SyncLoadBalancerFailed", "PoolExhausted")?;
    assert_eq!(said.kind, "Warning", "{said:?}");
    assert!(ingress(&cluster.api().object(&path("waiter"))?).is_empty(), "it has no address");
    // What was waited for comes free.
    cluster.delete_service("holder")?;
    assert_eq!(cluster.wait_address("waiter")?, ip);
    cluster.delete_service("waiter")?;
    cluster.delete_pool("exclusive")
}

pub(crate) fn refusals(cluster: &mut Cluster) -> Result<()> {
    let taken = cluster.wait_address(APP)?.to_string();
    for (name, key, value, reason) in [
        ("outside", "sluice.dev/addresses", "192.0.2.1", "AddressNotInPool"),
        ("taken", "sluice.dev/addresses", taken.as_str(), "AddressInUse"),
        ("family", "sluice.dev/addresses", "2001:db8:113::150", "AddressFamilyMismatch"),
        ("no-pool", "sluice.dev/pool", "nowhere", "NoPool"),
        ("nonsense", "sluice.dev/idle-timeout", "soon", "InvalidAnnotation"),
        ("unserved-mode", "loxilb.io/lbmode", "dsr", "UnsupportedAnnotation"),
    ] {
        let with_annotation =
            |value: Value| json!({ "metadata": { "annotations": { key: value } } });
        cluster.create_service(&with(plain(name, APP, 80), &with_annotation(value.into()))?)?;
        let said = cluster.wait_event(name, "SyncLoadBalancerFailed", reason)?;
        assert_eq!(said.kind, "Warning", "{name}: {said:?}");
        assert!(ingress(&cluster.api().object(&path(name))?).is_empty(), "{name} has an address");
        // Mended, it is served.
        cluster.change_service(name, &with_annotation(Value::Null))?;
        let ip = cluster.wait_address(name)?;
        cluster.wait_answer(Transport::Http, ip, 80)?;
        cluster.delete_service(name)?;
    }
    Ok(())
}

pub(crate) fn typing_error(cluster: &mut Cluster) -> Result<()> {
    for wrong in ["203.0.113.0/24x", "203.0.113.20-203.0.113.10"] {
        let refused = cluster.create_pool("typo", &json!({ "addresses": [wrong] }));
        let refusal = refused.as_ref().err().and_then(|error| error.downcast_ref::<Refusal>());
        assert!(refusal.is_some_and(|no| no.status == 422), "{wrong}: {refused:?}");
    }
    // What only the bridge can see is said in the pool's condition.
    cluster
        .create_pool("backwards", &json!({ "addresses": ["2001:db8:113::20-2001:db8:113::10"] }))?;
    until("the pool to be not ready", SOON, || {
        let pool = cluster.api().object("/apis/sluice.dev/v1alpha1/addresspools/backwards")?;
        let conditions = pool.pointer("/status/conditions").and_then(Value::as_array);
        let ready =
            conditions.into_iter().flatten().find(|one| one.get("type") == Some(&json!("Ready")));
        ensure!(ready.is_some_and(|one| one.get("status") == Some(&json!("False"))), "{pool}");
        Ok(())
    })?;
    cluster.delete_pool("backwards")
}
