//! Services that are larger than what an appliance holds.

use super::*;

fn endpoints(count: usize) -> serde_json::Value {
    let one = |n: usize| json!({"addresses": [format!("10.1.{}.{}", n / 250, n % 250)]});
    (0..count).map(one).collect()
}

/// A Service with ports 1 to this, which all lead to one port of the endpoints.
fn many_ports(count: u16, spec: &serde_json::Value) -> Object {
    let ports: Vec<_> = (1..=count)
        .map(|n| json!({"port": n, "name": format!("p{n}"), "targetPort": 8080}))
        .collect();
    let mut spec = spec.clone();
    spec["ports"] = json!(ports);
    shaped("a", &spec, &json!({}))
}

fn slice_for(count: u16, endpoints: &[&str]) -> Object {
    let ports: Vec<_> =
        (1..=count).map(|n| json!({"name": format!("p{n}"), "port": 8080})).collect();
    let endpoints: Vec<_> = endpoints.iter().map(|a| json!({"addresses": [a]})).collect();
    let v6 = endpoints.iter().any(|e| e["addresses"][0].as_str().unwrap().contains(':'));
    let o = json!({"metadata": {"name": if v6 { "s6" } else { "s4" }, "namespace": "d",
            "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": if v6 { "IPv6" } else { "IPv4" }, "ports": ports, "endpoints": endpoints});
    Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap()))
}

fn served(changes: &Changes) -> &Serve {
    match outcome(changes, "a") {
        Some(Outcome::Serve(serve)) => serve,
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_too_many_endpoints_some_are_chosen_and_it_is_said_once() {
    let (mut i, changes) =
        after([pool("192.0.2.0/30"), service("a", None), slice_of("s", &endpoints(409))]);
    assert_eq!((reason(&changes, "a"), i.left_out()), ("served", LeftOut::default()));
    i.apply(slice_of("s", &endpoints(500)));
    let changes = i.drain();
    assert_eq!(reason(&changes, "a"), "TooManyEndpoints");
    assert!(served(&changes).troubles[0].message.contains("80/TCP"));
    let weighted = |i: &Index| -> BTreeSet<String> {
        let backends = i.wanted().flat_map(|w| &w.backends).filter(|b| b.weight > 0);
        backends.map(|b| b.address.clone()).collect()
    };
    let before = weighted(&i);
    assert_eq!((before.len(), i.left_out()), (409, LeftOut { endpoints: 91, ports: 0 }));
    i.apply(slice_of("s", &endpoints(501)));
    let changes = i.drain();
    assert_eq!(changes.outcomes, [], "no event for each endpoint that comes");
    assert!(before.symmetric_difference(&weighted(&i)).count() <= 2);
    assert_eq!(i.left_out().endpoints, 92);
    i.apply(slice_of("s", &endpoints(3)));
    assert_eq!((reason(&i.drain(), "a"), i.left_out()), ("served", LeftOut::default()));
}

#[test]
fn of_too_many_ports_the_first_are_served() {
    let objects =
        [pool("192.0.2.0/30"), many_ports(100, &json!({})), slice_for(100, &["10.1.0.1"])];
    let (mut i, changes) = after(objects);
    let serve = served(&changes);
    assert_eq!((serve.wanted.len(), i.wanted().count()), (30, 30));
    assert_eq!((serve.unserved.len(), i.left_out()), (70, LeftOut { endpoints: 0, ports: 70 }));
    assert_eq!((serve.unserved[0].port, serve.unserved[0].error), (31, "sluice.dev/TooManyPorts"));
    assert_eq!(serve.troubles.len(), 1);
    assert!(
        serve.troubles[0]
            .message
            .starts_with("31/TCP, 32/TCP, 33/TCP, 34/TCP, 35/TCP and 65 others")
    );
    // An endpoint of its own for some ports only.
    let o = json!({"metadata": {"name": "t", "namespace": "d",
            "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4", "ports": [{"name": "p100", "port": 9090}],
        "endpoints": [{"addresses": ["10.1.0.2"]}]});
    i.apply(Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap())));
    let changes = i.drain();
    assert_eq!(served(&changes).wanted.len(), 31);
    let last = i.wanted().find(|w| w.port == 100).unwrap();
    assert_eq!(last.backends.len(), 1);
    i.apply(many_ports(30, &json!({})));
    assert_eq!((reason(&i.drain(), "a"), i.wanted().count()), ("served", 30));
}

#[test]
fn each_family_has_its_own_places() {
    let both = json!({"addresses": ["192.0.2.0/30", "2001:db8::/126"]});
    let spec = json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"});
    let slices = [slice_for(40, &["10.1.0.1"]), slice_for(40, &["2001:db8:1::1"])];
    let objects = [pool_of("p", &both), many_ports(40, &spec)];
    let (i, _) = after(objects.into_iter().chain(slices));
    assert_eq!(i.wanted().count(), 30);
    // One endpoint for the addresses of both families.
    let nat64 = json!({"annotations": {"sluice.dev/nat64": "true"}});
    let Object::Service(mut service) = many_ports(40, &spec) else { panic!("no Service") };
    service.metadata.annotations = serde_json::from_value(nat64["annotations"].clone()).unwrap();
    let objects = [pool_of("p", &both), Object::Service(service), slice_for(40, &["10.1.0.1"])];
    assert_eq!(after(objects).0.wanted().count(), 15);
}
