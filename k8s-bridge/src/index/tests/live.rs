//! A Service that is on the air stays there, whatever is written wrongly on it.

use super::*;

/// Service `a` with an address in its status, or a new one.
fn a(is_live: bool, spec: &serde_json::Value, annotations: &serde_json::Value) -> Object {
    let Object::Service(mut service) = shaped("a", spec, &json!({"annotations": annotations}))
    else {
        panic!("no Service")
    };
    if is_live {
        let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}});
        service.status = Some(serde_json::from_value(status).unwrap());
    }
    Object::Service(service)
}

#[test]
fn a_mistake_takes_no_live_service_off_the_air_and_refuses_a_new_one() {
    let plain = json!({});
    let none = || json!({});
    let both = json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"});
    for (spec, annotations, reason) in [
        (none(), json!({"sluice.dev/idle-timeout": "1 hour"}), "InvalidAnnotation"),
        (none(), json!({"sluice.dev/full-nat": "perhaps"}), "InvalidAnnotation"),
        (none(), json!({"sluice.dev/colour": "blue"}), "UnsupportedAnnotation"),
        (none(), json!({"loxilb.io/num-secondary-networks": "2"}), "UnsupportedAnnotation"),
        (json!({"loadBalancerIP": "8.8.8.8"}), none(), "AddressNotInPool"),
        (none(), json!({"sluice.dev/addresses": "192.0.2.300"}), "InvalidAnnotation"),
        (none(), json!({"sluice.dev/addresses": "192.0.2.1"}), "AddressInUse"),
        (none(), json!({"sluice.dev/addresses": "2001:db8::1"}), "AddressFamilyMismatch"),
        (
            none(),
            json!({"sluice.dev/addresses": "192.0.2.2", "loxilb.io/staticIP": "192.0.2.3"}),
            "AddressContradiction",
        ),
        (none(), json!({"loxilb.io/ipam": "ipv6"}), "NoPool"),
        (none(), json!({"sluice.dev/nat64": "true"}), "NoPool"),
        (
            none(),
            json!({"sluice.dev/nat64": "true", "loxilb.io/ipam": "ipv4"}),
            "AnnotationContradiction",
        ),
        (none(), json!({"sluice.dev/secondary-addresses": "192.0.2.3"}), "UnsupportedAnnotation"),
        (none(), json!({"sluice.dev/endpoints": "nodes"}), "UnsupportedNodePort"),
        (both, none(), "NoPool"),
        (
            json!({"externalTrafficPolicy": "Local"}),
            json!({"sluice.dev/full-nat": "true"}),
            "ClientAddressLost",
        ),
    ] {
        let around = || [pool("192.0.2.0/30"), service("b", Some("192.0.2.1")), slice()];
        let objects = around().into_iter().chain([a(false, &spec, &annotations)]);
        let (i, changes) = after(objects);
        let Some(Outcome::Refuse(why)) = outcome(&changes, "a") else {
            panic!("a new one is served: {spec} {annotations}")
        };
        assert_eq!(why.reason, reason, "{spec} {annotations}");
        assert!(backends(&i).is_empty());
        // The edit, and the same after a restart.
        let (mut edited, _) = after(around().into_iter().chain([a(true, &plain, &plain)]));
        let before: Vec<_> = edited.wanted().map(|w| (w.vips.clone(), backends(&edited))).collect();
        edited.apply(a(true, &spec, &annotations));
        let changes = edited.drain();
        let objects = around().into_iter().chain([a(true, &spec, &annotations)]);
        let (fresh, at_start) = after(objects);
        for (i, changes) in [(&edited, &changes), (&fresh, &at_start)] {
            let Some(Outcome::Serve(serve)) = outcome(changes, "a") else {
                panic!("off the air: {spec} {annotations}")
            };
            assert_eq!(serve.troubles[0].reason, reason, "{spec} {annotations}");
            assert!(serve.troubles[0].message.contains("served on"), "{:?}", serve.troubles);
            let now: Vec<_> = i.wanted().map(|w| (w.vips.clone(), backends(i))).collect();
            assert_eq!(now, before, "{spec} {annotations}");
        }
    }
}

#[test]
fn what_was_closed_stays_closed() {
    let ranges = |ranges: &[&str]| json!({"loadBalancerSourceRanges": ranges});
    let (mut i, _) =
        after([pool("192.0.2.0/30"), a(true, &ranges(&["10.0.0.0/8"]), &json!({})), slice()]);
    i.apply(a(true, &ranges(&["10.1.0.0/16", "10.0.0.0/88"]), &json!({})));
    let changes = i.drain();
    assert_eq!(reason(&changes, "a"), "InvalidSourceRange");
    assert_eq!(i.wanted().next().unwrap().source_ranges, ["10.1.0.0/16"], "only who is named well");
    i.apply(a(true, &ranges(&["10.0.0.0/88"]), &json!({})));
    assert!(matches!(outcome(&i.drain(), "a"), Some(Outcome::Refuse(_))));
    assert_eq!(i.wanted().count(), 0, "without a good one nobody is let in");
}

#[test]
fn ports_of_nodes_go_on_without_one_that_has_none() {
    let annotations = json!({"sluice.dev/endpoints": "nodes"});
    let settings = Settings { endpoints: EndpointMode::Nodes, ..index().settings().clone() };
    let mut i = Index::new(settings);
    let ports = json!({"ports": [{"port": 80, "nodePort": 30080}, {"port": 81}]});
    i.apply(pool("192.0.2.0/30"));
    i.apply(a(true, &ports, &annotations));
    i.synced();
    let changes = i.drain();
    assert_eq!(reason(&changes, "a"), "UnsupportedNodePort");
    assert_eq!(i.wanted().map(|w| w.port).collect::<Vec<_>>(), [80]);
    let Some(Outcome::Serve(serve)) = outcome(&changes, "a") else { panic!("not served") };
    let (protocol, error) = ("TCP".to_owned(), "sluice.dev/UnsupportedNodePort");
    assert_eq!(serve.unserved, [Unserved { port: 81, protocol, error }]);
}

/// A Service that has the address 192.0.2.1 with these ports, and not with these.
fn sharing(name: &str, has: &[u16], lacks: &[u16]) -> Object {
    let named = |n: &u16| json!({"name": format!("p{n}"), "port": n});
    let ports: Vec<_> = has.iter().chain(lacks).map(named).collect();
    let metadata = json!({"managedFields": wrote(FIELD_MANAGER)});
    let Object::Service(mut service) = shaped(name, &json!({ "ports": ports }), &metadata) else {
        panic!("no Service")
    };
    let served = |n: &u16| json!({"port": n, "protocol": "TCP"});
    let not = |n: &u16| json!({"port": n, "protocol": "TCP", "error": "sluice.dev/AddressInUse"});
    let ports: Vec<_> = has.iter().map(served).chain(lacks.iter().map(not)).collect();
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ports": ports}]}});
    service.status = Some(serde_json::from_value(status).unwrap());
    Object::Service(service)
}

#[test]
fn a_port_that_another_one_has_at_the_address_is_done_without() {
    let pool = || pool_of("p", &json!({"addresses": ["192.0.2.1/32"], "sharing": "Shared"}));
    let (mut i, changes) = after([pool(), sharing("a", &[80], &[]), sharing("b", &[443], &[])]);
    assert_eq!((reason(&changes, "a"), reason(&changes, "b")), ("served", "served"));
    i.apply(sharing("a", &[80, 443], &[]));
    let changes = i.drain();
    let check = |i: &Index, changes: &Changes| {
        assert_eq!(reason(changes, "a"), "AddressInUse");
        let Some(Outcome::Serve(serve)) = outcome(changes, "a") else { panic!("not served") };
        let (protocol, error) = ("TCP".to_owned(), "sluice.dev/AddressInUse");
        assert_eq!(serve.unserved, [Unserved { port: 443, protocol, error }]);
        let all: Vec<_> = i.wanted().map(|w| w.name.as_str()).collect();
        assert_eq!(all, ["prod/d/a/80-tcp", "prod/d/b/443-tcp"]);
    };
    check(&i, &changes);
    // A restart gives it no more than that, however old it is.
    let (mut i, changes) = after([pool(), sharing("a", &[80], &[443]), sharing("b", &[443], &[])]);
    check(&i, &changes);
    assert_eq!(reason(&changes, "b"), "served");
    i.delete(&sharing("b", &[443], &[]));
    assert_eq!(reason(&i.drain(), "a"), "served");
    assert_eq!(i.wanted().count(), 2);
    // With nothing left of its own it is refused as before.
    let (mut i, _) = after([pool(), sharing("a", &[80], &[]), sharing("b", &[443], &[])]);
    i.apply(sharing("a", &[443], &[]));
    assert!(matches!(outcome(&i.drain(), "a"), Some(Outcome::Refuse(_))));
}

#[test]
fn what_is_asked_for_is_had_once_it_is_free() {
    let asks = json!({"sluice.dev/addresses": "192.0.2.1"});
    let (mut i, changes) =
        after([pool("192.0.2.0/30"), service("b", Some("192.0.2.1")), a(true, &json!({}), &asks)]);
    assert_eq!(reason(&changes, "a"), "AddressInUse");
    i.delete(&service("b", None));
    let changes = i.drain();
    assert_eq!(reason(&changes, "a"), "served");
    assert_eq!(i.wanted().next().unwrap().vips, ["192.0.2.1"]);
}

#[test]
fn secondary_addresses_stay_with_what_does_not_go_with_them() {
    let service = |annotations: &serde_json::Value| {
        let spec = json!({"ports": [{"port": 7, "protocol": "SCTP"}]});
        let Object::Service(mut service) = a(true, &spec, annotations) else {
            panic!("no Service")
        };
        let entry = |ip: &str| json!({"ip": ip, "ports": [{"port": 7, "protocol": "SCTP"}]});
        let ingress = [entry("192.0.2.2"), entry("192.0.2.3")];
        let status = json!({"loadBalancer": {"ingress": ingress}});
        service.status = Some(serde_json::from_value(status).unwrap());
        Object::Service(service)
    };
    for (key, value) in [
        ("sluice.dev/full-nat", "true"),
        ("sluice.dev/nat64", "true"),
        ("loxilb.io/epselect", "persist"),
        ("sluice.dev/health", "tcp"),
        ("loxilb.io/poolSelectSecondary", "p"),
        ("sluice.dev/secondary-addresses", "192.0.2.300"),
    ] {
        let mut annotations = json!({"loxilb.io/secondaryIPs": "192.0.2.3"});
        annotations[key] = json!(value);
        let (i, changes) = after([pool("192.0.2.0/30"), service(&annotations)]);
        let wanted = i.wanted().next().unwrap_or_else(|| panic!("off the air: {key}"));
        assert_eq!(
            (&*wanted.vips, &*wanted.secondary_vips),
            (&["192.0.2.2".to_owned()][..], &["192.0.2.3".to_owned()][..]),
            "{key}"
        );
        assert!(!wanted.full_nat && !wanted.nat64 && wanted.affinity_seconds.is_none(), "{key}");
        assert!(
            reason(&changes, "a").ends_with("Annotation")
                || reason(&changes, "a") == "AnnotationContradiction"
        );
    }
}
