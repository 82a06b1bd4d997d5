//! The index as a whole, on objects as the API server sends them.

mod endpoints;
mod families;
mod guard;
mod inside;
mod lifecycle;
mod limits;
mod live;
mod nodes;
mod oddities;
mod others;
mod peers;
mod pools;
mod restarts;
mod secondary;

use super::*;

use serde_json::json;

fn index() -> Index {
    Index::new(Settings {
        class: "sluice.dev/edge".into(),
        default_class: false,
        source: "prod".into(),
        ..Settings::default()
    })
}

fn pool(addresses: &str) -> Object {
    let o = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "AddressPool",
        "metadata": {"name": "p"}, "spec": {"addresses": [addresses]}});
    Object::AddressPool(Box::new(serde_json::from_value(o).unwrap()))
}

fn service(name: &str, ip: Option<&str>) -> Object {
    let ingress: Vec<_> = ip.iter().map(|ip| json!({"ip": ip})).collect();
    let o = json!({"metadata": {"name": name, "namespace": "d",
            "managedFields": wrote(FIELD_MANAGER)},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "sluice.dev/edge",
            "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": ingress}}});
    Object::Service(Box::new(serde_json::from_value(o).unwrap()))
}

/// Managed fields that say that this manager wrote the addresses and put the finalizer on.
fn wrote(manager: &str) -> serde_json::Value {
    let finalizer = "v:\"service.kubernetes.io/load-balancer-cleanup\"";
    let one = |fields| json!({"manager": manager, "operation": "Update", "fieldsV1": fields});
    json!([
        one(json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}})),
        one(json!({"f:metadata": {"f:finalizers": {finalizer: {}}}}))
    ])
}

fn slice() -> Object {
    let o = json!({"metadata": {"name": "s", "namespace": "d",
            "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}, {"name": ""}],
        "endpoints": [{"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.2"],
             "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": false}}]});
    Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap()))
}

#[test]
fn serves_with_ready_endpoints_and_drains_terminating_ones() {
    let mut i = index();
    for o in [pool("192.0.2.0/30"), service("a", None), slice()] {
        i.apply(o);
    }
    assert_eq!(i.drain(), Changes::default(), "nothing before all lists are read");
    i.synced();
    let got = i.drain().upsert;
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].name, "prod/d/a/80-tcp");
    assert_eq!(got[0].vips, ["192.0.2.0"]);
    let backends: Vec<_> = got[0].backends.iter().map(|b| (&*b.address, b.weight)).collect();
    assert_eq!(backends, [("10.0.0.1", 1), ("10.0.0.2", 0), ("10.0.0.3", 0)]);
}

#[test]
fn keeps_addresses_of_statuses_and_serves_who_waited() {
    let mut i = index();
    for o in [pool("192.0.2.1"), service("a", None), service("b", Some("192.0.2.1"))] {
        i.apply(o);
    }
    i.synced();
    i.drain();
    assert!(i.wanted().all(|w| w.name == "prod/d/b/80-tcp") && i.wanted().count() == 1);
    i.delete(&service("b", None));
    let c = i.drain();
    assert_eq!(c.remove, ["prod/d/b/80-tcp"]);
    assert_eq!(c.upsert[0].name, "prod/d/a/80-tcp");
}

/// A pool of this name and spec.
fn pool_of(name: &str, spec: &serde_json::Value) -> Object {
    let o = json!({"metadata": {"name": name}, "spec": spec});
    Object::AddressPool(Box::new(serde_json::from_value(o).unwrap()))
}

/// A slice of Service `a` with these endpoints on port 8080.
fn slice_of(name: &str, endpoints: &serde_json::Value) -> Object {
    let o = json!({"metadata": {"name": name, "namespace": "d",
            "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints});
    Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap()))
}

/// Backends of Service `a`: `address:port*weight`.
fn backends(i: &Index) -> Vec<String> {
    let of_a = i.wanted().filter(|w| w.name.starts_with("prod/d/a/"));
    let backends = of_a.flat_map(|w| &w.backends);
    backends.map(|b| format!("{}:{}*{}", b.address, b.port, b.weight)).collect()
}

fn outcome<'a>(changes: &'a Changes, name: &str) -> Option<&'a Outcome> {
    changes.outcomes.iter().find(|(of, _)| of.name == name).map(|(_, outcome)| outcome)
}

/// A Service of the given shape, as JSON merged over a plain one.
fn shaped(name: &str, spec: &serde_json::Value, metadata: &serde_json::Value) -> Object {
    let mut o = json!({"metadata": {"name": name, "namespace": "d"},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "sluice.dev/edge",
            "ports": [{"port": 80}]}});
    for (part, over) in [("spec", spec), ("metadata", metadata)] {
        for (key, value) in over.as_object().unwrap() {
            o[part][key] = value.clone();
        }
    }
    Object::Service(Box::new(serde_json::from_value(o).unwrap()))
}

fn after(objects: impl IntoIterator<Item = Object>) -> (Index, Changes) {
    let mut i = index();
    for o in objects {
        i.apply(o);
    }
    i.synced();
    let changes = i.drain();
    (i, changes)
}

fn reason<'a>(changes: &'a Changes, name: &str) -> &'a str {
    match outcome(changes, name) {
        Some(Outcome::Refuse(why)) => why.reason,
        Some(Outcome::Serve(serve)) => serve.troubles.first().map_or("served", |t| t.reason),
        Some(Outcome::Release) => "released",
        None => "not ours",
    }
}

#[test]
fn every_shape_has_its_answer() {
    let none = json!({});
    for (spec, metadata, answer) in [
        (json!({}), none.clone(), "served"),
        (json!({"type": "ClusterIP"}), none.clone(), "not ours"),
        (json!({"loadBalancerClass": null}), none.clone(), "not ours"),
        (json!({"loadBalancerClass": "example.com/other"}), none.clone(), "not ours"),
        (json!({"ports": [{"port": 80}, {"port": 7, "protocol": "SCTP"}]}), none.clone(), "served"),
        (
            json!({"ports": [{"port": 80}, {"port": 7, "protocol": "DCCP"}]}),
            none.clone(),
            "UnsupportedProtocol",
        ),
        (
            json!({"loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0.0/88"]}),
            none.clone(),
            "InvalidSourceRange",
        ),
        (json!({"ipFamilies": ["IPv6"]}), none.clone(), "NoPool"),
        (
            json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
            none.clone(),
            "NoPool",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
            none.clone(),
            "NoPool",
        ),
        (
            none.clone(),
            json!({"annotations": {"loxilb.io/lbmode": "dsr"}}),
            "UnsupportedAnnotation",
        ),
        (
            none.clone(),
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["service.kubernetes.io/load-balancer-cleanup"]}),
            "released",
        ),
    ] {
        let (_, changes) = after([pool("192.0.2.0/30"), shaped("a", &spec, &metadata)]);
        assert_eq!(reason(&changes, "a"), answer, "{spec} {metadata}");
    }
}

#[test]
fn an_address_that_is_asked_for_is_given_or_the_reason_why_not() {
    let ask = |address: &str| json!({"annotations": {"sluice.dev/addresses": address}});
    for (address, answer) in [
        ("192.0.2.2", "served"),
        ("192.0.2.1", "AddressInUse"),
        ("198.51.100.1", "AddressNotInPool"),
        ("2001:db8::1", "AddressFamilyMismatch"),
    ] {
        let owner = service("b", Some("192.0.2.1"));
        let wishes = shaped("a", &json!({}), &ask(address));
        let (_, changes) = after([pool("192.0.2.0/30"), owner, wishes]);
        assert_eq!(reason(&changes, "a"), answer, "{address}");
        assert_eq!(reason(&changes, "b"), "served", "others are left alone");
    }
}

#[test]
fn another_request_moves_the_service() {
    let ask = |address: &str| json!({"annotations": {"sluice.dev/addresses": address}});
    let (mut i, _) = after([pool("192.0.2.0/30"), shaped("a", &json!({}), &ask("192.0.2.2"))]);
    i.apply(shaped("a", &json!({}), &ask("192.0.2.3")));
    assert_eq!(i.drain().upsert[0].vips, ["192.0.2.3"]);
    i.apply(shaped("b", &json!({}), &ask("192.0.2.2")));
    assert_eq!(reason(&i.drain(), "b"), "served", "the old address is free");
}

#[test]
fn a_pool_is_asked_for_by_name() {
    let ask = |name: &str| json!({"annotations": {"sluice.dev/pool": name}});
    for (name, answer) in [("p", "served"), ("q", "NoPool")] {
        let (_, changes) = after([pool("192.0.2.0/30"), shaped("a", &json!({}), &ask(name))]);
        assert_eq!(reason(&changes, "a"), answer, "{name}");
    }
}

#[test]
fn one_family_is_enough_where_both_are_only_preferred() {
    let dual = json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"});
    let (_, changes) = after([pool("192.0.2.0/30"), shaped("a", &dual, &json!({}))]);
    assert_eq!(changes.upsert[0].vips, ["192.0.2.0"]);
    let strict = json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"});
    let (i, changes) = after([pool("192.0.2.0/30"), shaped("a", &strict, &json!({}))]);
    assert!(changes.upsert.is_empty() && i.wanted().next().is_none());
    assert_eq!(changes.pools[0].1.used, 0, "half of what was asked for is not kept");
}

#[test]
fn an_edited_pool_takes_no_address_away() {
    let (mut i, _) = after([pool("192.0.2.0/30"), shaped("a", &json!({}), &json!({}))]);
    i.apply(pool("198.51.100.0/30"));
    let changes = i.drain();
    assert_eq!(reason(&changes, "a"), "AddressNotInPool");
    assert_eq!(i.wanted().next().unwrap().vips, ["192.0.2.0"]);
}

#[test]
fn a_wrong_pool_gives_nothing_and_says_why() {
    let (_, changes) = after([pool("192.0.2.0/33"), shaped("a", &json!({}), &json!({}))]);
    assert_eq!(changes.pools[0].1.trouble.as_ref().unwrap().reason, "InvalidPool");
    assert_eq!(reason(&changes, "a"), "NoPool");
}

#[test]
fn a_service_being_deleted_keeps_its_address_until_it_is_cleaned_up() {
    let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["service.kubernetes.io/load-balancer-cleanup"]});
    let plain = json!({});
    let (mut i, _) = after([pool("192.0.2.1"), shaped("a", &plain, &plain)]);
    i.apply(shaped("a", &plain, &gone));
    i.apply(shaped("b", &plain, &plain));
    let changes = i.drain();
    assert_eq!((reason(&changes, "a"), reason(&changes, "b")), ("released", "PoolExhausted"));
    assert_eq!(changes.remove, ["prod/d/a/80-tcp"]);
    i.released(&ObjectName { namespace: "d".into(), name: "a".into() });
    assert_eq!(reason(&i.drain(), "b"), "served");
}
