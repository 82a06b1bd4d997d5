//! From the first sight of a Service to its end.

use super::*;

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

fn a() -> ObjectName {
    ObjectName { namespace: "d".into(), name: "a".into() }
}

/// Service `a` as a watch sends it back after its status was written.
fn written(spec: &serde_json::Value, metadata: &serde_json::Value, ips: &[&str]) -> Object {
    let Object::Service(mut service) = shaped("a", spec, metadata) else { panic!("no Service") };
    let ingress: Vec<_> = ips
        .iter()
        .map(|ip| json!({"ip": ip, "ports": [{"port": 80, "protocol": "TCP"}]}))
        .collect();
    let status = json!({"loadBalancer": {"ingress": ingress}});
    let fields = service
        .metadata
        .managed_fields
        .get_or_insert_with(|| serde_json::from_value(wrote(FIELD_MANAGER)).unwrap());
    assert!(!fields.is_empty());
    service.status = Some(serde_json::from_value(status).unwrap());
    Object::Service(service)
}

#[test]
fn another_type_releases_whether_the_finalizer_is_on_or_not() {
    for finalizers in [json!([]), json!([FINALIZER])] {
        let (mut i, _) = after([pool("192.0.2.1"), service("a", None)]);
        let spec = json!({"type": "ClusterIP", "loadBalancerClass": null});
        i.apply(shaped("a", &spec, &json!({"finalizers": finalizers})));
        i.apply(service("b", None));
        let changes = i.drain();
        assert_eq!(outcome(&changes, "a"), Some(&Outcome::Release));
        assert_eq!(reason(&changes, "b"), "PoolExhausted", "not before it is cleaned up");
        i.released(&a());
        assert_eq!(reason(&i.drain(), "b"), "served");
        i.apply(shaped("a", &spec, &json!({})));
        assert_eq!(reason(&i.drain(), "a"), "not ours");
    }
}

#[test]
fn a_service_that_was_ours_before_the_restart_is_released() {
    let spec = json!({"type": "ClusterIP", "loadBalancerClass": null});
    let ours = written(&spec, &json!({"finalizers": [FINALIZER]}), &["192.0.2.1"]);
    let (_, changes) = after([pool("192.0.2.0/30"), ours]);
    assert_eq!(reason(&changes, "a"), "released");
    let other =
        json!({"finalizers": [FINALIZER], "managedFields": wrote("cloud-controller-manager")});
    let (_, changes) = after([pool("192.0.2.0/30"), written(&spec, &other, &["192.0.2.1"])]);
    assert_eq!(reason(&changes, "a"), "not ours", "somebody else's finalizer");
    // What the API server makes of a Service that becomes a ClusterIP: the status is empty at once.
    let ours = json!({"finalizers": [FINALIZER], "managedFields": wrote(FIELD_MANAGER)});
    for spec in [spec, json!({"loadBalancerClass": "example.com/other"})] {
        let (mut i, changes) = after([pool("192.0.2.0/30"), shaped("a", &spec, &ours)]);
        assert_eq!(reason(&changes, "a"), "released", "{spec}");
        i.released(&a());
        i.apply(shaped("a", &spec, &json!({})));
        assert_eq!(reason(&i.drain(), "a"), "not ours", "cleaned up");
    }
}

#[test]
fn a_service_without_a_class_is_ours_by_a_setting() {
    let mut i = Index::new(Settings { default_class: true, ..index().settings().clone() });
    i.apply(pool("192.0.2.0/30"));
    i.apply(shaped("a", &json!({"loadBalancerClass": null}), &json!({})));
    i.apply(shaped("b", &json!({"loadBalancerClass": "example.com/other"}), &json!({})));
    let deleted = |manager| {
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": [FINALIZER], "managedFields": wrote(manager)})
    };
    i.apply(shaped("c", &json!({"loadBalancerClass": null}), &deleted("cloud")));
    i.apply(shaped("e", &json!({"loadBalancerClass": null}), &deleted(FIELD_MANAGER)));
    i.synced();
    let changes = i.drain();
    assert_eq!((reason(&changes, "a"), reason(&changes, "b")), ("served", "not ours"));
    assert_eq!(reason(&changes, "c"), "not ours", "another controller cleans up");
    assert_eq!(reason(&changes, "e"), "released");
}

#[test]
fn ports_change_and_the_address_stays() {
    let (mut i, _) = after([pool("192.0.2.0/30"), service("a", None)]);
    for port in [
        json!({"port": 81}),
        json!({"port": 81, "nodePort": 30000}),
        json!({"port": 82, "targetPort": 9}),
    ] {
        i.apply(shaped("a", &json!({"ports": [port]}), &json!({})));
        i.drain();
        assert_eq!(i.wanted().next().unwrap().vips, ["192.0.2.0"]);
    }
}

#[test]
fn an_address_rests_until_the_status_no_longer_lists_it() {
    let ask = |address: &str| json!({"annotations": {"sluice.dev/addresses": address}});
    let (mut i, _) = after([pool("192.0.2.0/30"), written(&json!({}), &json!({}), &["192.0.2.1"])]);
    i.apply(written(&json!({}), &ask("192.0.2.2"), &["192.0.2.1"]));
    i.apply(shaped("b", &json!({}), &ask("192.0.2.1")));
    let changes = i.drain();
    assert_eq!(i.wanted().next().unwrap().vips, ["192.0.2.2"], "the new one is served at once");
    assert_eq!(reason(&changes, "b"), "AddressInUse");
    i.apply(written(&json!({}), &ask("192.0.2.2"), &["192.0.2.2"]));
    assert_eq!(reason(&i.drain(), "b"), "served");
}

#[test]
fn a_port_given_up_serves_who_waits_for_it() {
    let shared = pool_of("p", &json!({"addresses": ["192.0.2.1"], "sharing": "Shared"}));
    let on = |name: &str, port: u16| shaped(name, &json!({"ports": [{"port": port}]}), &json!({}));
    let (mut i, changes) = after([shared, on("a", 80), on("b", 80), on("c", 81)]);
    assert_eq!((reason(&changes, "b"), reason(&changes, "c")), ("PoolExhausted", "served"));
    i.apply(on("a", 443));
    assert_eq!(reason(&i.drain(), "b"), "served");
    i.apply(on("c", 443));
    assert_eq!(reason(&i.drain(), "c"), "AddressInUse");
}

#[test]
fn another_service_of_the_same_name_is_told_of_anew() {
    let of = |uid: &str| shaped("a", &json!({}), &json!({"uid": uid}));
    let (mut i, _) = after([pool("192.0.2.0/30"), of("1")]);
    i.apply(of("1"));
    assert_eq!(i.drain().outcomes, []);
    i.apply(of("2"));
    assert_eq!(reason(&i.drain(), "a"), "served");
}

#[test]
fn ports_that_are_not_served_are_listed() {
    let ports = json!([{"port": 80}, {"port": 7, "protocol": "DCCP"}]);
    let (i, changes) =
        after([pool("192.0.2.0/30"), shaped("a", &json!({"ports": ports}), &json!({}))]);
    let Some(Outcome::Serve(serve)) = outcome(&changes, "a") else { panic!("not served") };
    let unserved: Vec<_> = serve.unserved.iter().map(|u| (u.port, u.protocol.as_str())).collect();
    assert_eq!(unserved, [(7, "DCCP")]);
    assert_eq!(serve.wanted, ["prod/d/a/80-tcp"]);
    assert_eq!(i.wanted().count(), 1);
}

#[test]
fn what_is_of_no_use_is_not_kept() {
    let metadata = json!({"managedFields": [{"manager": "x"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "x": "y"}});
    let (i, _) = after([shaped("a", &json!({}), &metadata)]);
    let kept = &i.service(&a()).unwrap().metadata;
    assert_eq!((&kept.managed_fields, kept.annotations.as_ref().unwrap().len()), (&None, 1));
}

#[test]
fn full_nat_is_wanted_as_asked() {
    for (annotations, wanted) in [
        (json!({}), false),
        (json!({"sluice.dev/full-nat": "true"}), true),
        (json!({"loxilb.io/lbmode": "fullnat"}), true),
        (json!({"loxilb.io/lbmode": "default"}), false),
    ] {
        let service = shaped("a", &json!({}), &json!({"annotations": annotations}));
        let (_, changes) = after([pool("192.0.2.0/30"), service]);
        assert_eq!(changes.upsert[0].full_nat, wanted, "{annotations}");
    }
    let local = shaped("a", &json!({"externalTrafficPolicy": "Local"}), &json!({}));
    let (_, changes) = after([pool("192.0.2.0/30"), local]);
    assert_eq!(reason(&changes, "a"), "served", "pods see their clients in any case");
}

#[test]
fn a_refused_edit_leaves_its_ports_to_the_service() {
    let addresses = json!({"addresses": ["192.0.2.1", "2001:db8::1"], "sharing": "Shared"});
    let on = |name: &str, families: serde_json::Value, port: u16| {
        shaped(name, &json!({"ipFamilies": families, "ports": [{"port": port}]}), &json!({}))
    };
    let (v6, both) = (json!(["IPv6"]), json!(["IPv4", "IPv6"]));
    let (mut i, _) = after([pool_of("p", &addresses), on("b", v6, 81), on("a", both.clone(), 80)]);
    i.apply(on("a", both, 81));
    assert_eq!(reason(&i.drain(), "a"), "AddressInUse", "b has that port of the IPv6 address");
    i.apply(on("c", json!(["IPv4"]), 80));
    assert_eq!(reason(&i.drain(), "c"), "PoolExhausted", "its status still says port 80");
    i.apply(on("c", json!(["IPv4"]), 81));
    assert_eq!(reason(&i.drain(), "c"), "served");
}
