//! Pods as backends, from slices of every shape.

use super::*;

fn serving(slices: impl IntoIterator<Item = Object>, spec: &serde_json::Value) -> Index {
    let objects = [pool("192.0.2.0/30"), shaped("a", spec, &json!({}))];
    after(objects.into_iter().chain(slices)).0
}

#[test]
fn every_condition_has_its_weight() {
    let ready = json!({"addresses": ["10.0.0.1"]});
    let leaving = json!({"addresses": ["10.0.0.2"],
        "conditions": {"ready": false, "serving": true, "terminating": true}});
    let broken = json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false}});
    let dead = json!({"addresses": ["10.0.0.4"],
        "conditions": {"ready": false, "serving": false, "terminating": true}});
    // From before there was `serving`.
    let old = json!({"addresses": ["10.0.0.8"],
        "conditions": {"ready": false, "terminating": true}});
    let unnamed = json!({"addresses": ["10.0.0.5"], "conditions": {}});
    for (endpoints, wanted) in [
        (json!([ready]), vec!["10.0.0.1:8080*1"]),
        (json!([ready, leaving]), vec!["10.0.0.1:8080*1", "10.0.0.2:8080*0"]),
        (json!([leaving]), vec!["10.0.0.2:8080*1"]),
        (json!([ready, broken]), vec!["10.0.0.1:8080*1", "10.0.0.3:8080*0"]),
        (
            json!([leaving, broken, dead]),
            vec!["10.0.0.2:8080*1", "10.0.0.3:8080*0", "10.0.0.4:8080*0"],
        ),
        (json!([broken, dead]), vec!["10.0.0.3:8080*0", "10.0.0.4:8080*0"]),
        (json!([old]), vec!["10.0.0.8:8080*0"]),
        (json!([unnamed]), vec!["10.0.0.5:8080*1"]),
        (json!([{"addresses": ["10.0.0.6", "10.0.0.7"]}]), vec!["10.0.0.6:8080*1"]),
        (json!([{"addresses": ["not an address"]}]), vec![]),
        (json!([]), vec![]),
    ] {
        let i = serving([slice_of("s", &endpoints)], &json!({}));
        assert_eq!(backends(&i), wanted, "{endpoints}");
        assert_eq!(i.wanted().count(), 1, "served, with or without endpoints");
    }
}

#[test]
fn an_endpoint_that_is_not_ready_for_a_while_keeps_its_flows() {
    let slice = |ready: bool| {
        slice_of(
            "s",
            &json!([{"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": ready, "serving": ready, "terminating": false}}]),
        )
    };
    let mut i = serving([slice(true)], &json!({}));
    for (ready, weight) in [(false, 0), (true, 1)] {
        i.apply(slice(ready));
        i.drain();
        assert_eq!(backends(&i), ["10.0.0.1:8080*1".to_owned(), format!("10.0.0.2:8080*{weight}")]);
    }
    i.apply(slice_of("s", &json!([{"addresses": ["10.0.0.1"]}])));
    i.drain();
    assert_eq!(backends(&i), ["10.0.0.1:8080*1"], "it is gone");
}

#[test]
fn what_becomes_of_flows_is_asked_for_or_follows_from_the_protocol() {
    let unready = slice_of(
        "s",
        &json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}},
        {"addresses": ["10.0.0.2"],
            "conditions": {"ready": false, "serving": true, "terminating": true}}]),
    );
    let (kept, last) = ("10.0.0.1:8080*0", "10.0.0.2:8080*1");
    for (protocol, policy, wanted) in [
        ("TCP", None, vec![kept, last]),
        ("SCTP", None, vec![kept, last]),
        ("UDP", None, vec![last]),
        ("TCP", Some("reset"), vec![last]),
        ("UDP", Some("drain"), vec![kept, last]),
    ] {
        let Object::EndpointSlice(mut slice) = unready.clone() else { panic!("no slice") };
        slice.ports.as_mut().unwrap()[0].protocol = Some(protocol.to_owned());
        let mut annotations = json!({"loxilb.io/probeport": "81", "sluice.dev/health": "tcp"});
        if let Some(policy) = policy {
            annotations["sluice.dev/on-down"] = json!(policy);
        }
        let spec = json!({"ports": [{"port": 80, "protocol": protocol}]});
        let service = shaped("a", &spec, &json!({"annotations": annotations}));
        let (i, _) = after([pool("192.0.2.0/30"), service, Object::EndpointSlice(slice)]);
        assert_eq!(backends(&i), wanted, "{protocol} {policy:?}");
        let told = i.wanted().next().unwrap().on_down.unwrap();
        assert_eq!(told == sluice_api::OnDown::Drain, wanted.len() == 2, "probes follow the same");
    }
}

#[test]
fn slices_are_merged() {
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    let one = slice_of("s", &json!([{"addresses": ["10.0.0.1"], "conditions": leaving}]));
    let two = slice_of("t", &json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]));
    let i = serving([one, two], &json!({}));
    assert_eq!(backends(&i), ["10.0.0.1:8080*1", "10.0.0.2:8080*1"], "ready in one is ready");
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let o = json!({"metadata": {"name": "s", "namespace": "d",
            "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 5353}, {"name": "any"}],
        "endpoints": [{"addresses": ["10.0.0.1"]}]});
    let slice = Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap()));
    for (port, wanted) in [
        (json!({"port": 80, "name": "web"}), vec!["10.0.0.1:8080*1"]),
        (json!({"port": 53, "name": "dns", "protocol": "UDP"}), vec!["10.0.0.1:53*1"]),
        (json!({"port": 53, "name": "dns-tcp"}), vec!["10.0.0.1:5353*1"]),
        (json!({"port": 53, "name": "dns"}), vec![]),
        (json!({"port": 53, "name": "any"}), vec![]),
        (json!({"port": 53}), vec![]),
    ] {
        let i = serving([slice.clone()], &json!({"ports": [port]}));
        assert_eq!(backends(&i), wanted, "{port}");
    }
}

#[test]
fn names_are_no_addresses() {
    let o = json!({"metadata": {"name": "s", "namespace": "d",
            "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "FQDN", "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"]}]});
    let slice = Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap()));
    assert!(backends(&serving([slice], &json!({}))).is_empty());
}

#[test]
fn one_port_number_serves_both_protocols() {
    let ports = json!([{"port": 53, "name": "t"}, {"port": 53, "name": "u", "protocol": "UDP"}]);
    let i = serving([], &json!({"ports": ports}));
    let names: Vec<_> = i.wanted().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["prod/d/a/53-tcp", "prod/d/a/53-udp"]);
}

#[test]
fn each_family_counts_for_itself() {
    let leaving = json!([{"addresses": ["10.0.0.1"],
        "conditions": {"ready": false, "serving": true, "terminating": true}}]);
    let six = slice_of("t", &json!([{"addresses": ["2001:db8::1"]}]));
    let i = serving([slice_of("s", &leaving), six], &json!({}));
    assert_eq!(backends(&i), ["10.0.0.1:8080*1", "2001:db8::1:8080*1"]);
}

#[test]
fn a_slice_goes_to_another_service_or_away() {
    let slice = slice_of("s", &json!([{"addresses": ["10.0.0.1"]}]));
    let mut i = serving([slice.clone()], &json!({}));
    let o = json!({"metadata": {"name": "s", "namespace": "d",
        "labels": {"kubernetes.io/service-name": "b"}}, "addressType": "IPv4", "endpoints": []});
    i.apply(Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap())));
    assert_eq!(i.drain().upsert.len(), 1);
    assert!(backends(&i).is_empty());
    i.apply(slice.clone());
    i.drain();
    assert_eq!(backends(&i), ["10.0.0.1:8080*1"]);
    i.apply(slice.clone());
    assert_eq!(i.drain(), Changes::default(), "the same again is nothing new");
    i.delete(&slice);
    assert_eq!(i.drain().upsert[0].backends, []);
}

#[test]
fn zones_are_preferred_while_somebody_is_ready_there() {
    let at = |address: &str, zone: &str| json!({"addresses": [address], "hints": {"forZones": [{"name": zone}]}});
    let both = json!([at("10.0.0.1", "north"), at("10.0.0.2", "south")]);
    let south = json!([at("10.0.0.2", "south"), {"addresses": ["10.0.0.3"]}]);
    let near = json!({"trafficDistribution": "PreferSameZone"});
    for (zone, spec, endpoints, wanted) in [
        (Some("north"), &near, &both, vec!["10.0.0.1:8080*1", "10.0.0.2:8080*0"]),
        (
            Some("north"),
            &json!({"trafficDistribution": "PreferClose"}),
            &both,
            vec!["10.0.0.1:8080*1", "10.0.0.2:8080*0"],
        ),
        (Some("north"), &near, &south, vec!["10.0.0.2:8080*1", "10.0.0.3:8080*1"]),
        (Some("north"), &json!({}), &both, vec!["10.0.0.1:8080*1", "10.0.0.2:8080*1"]),
        (None, &near, &both, vec!["10.0.0.1:8080*1", "10.0.0.2:8080*1"]),
    ] {
        let zone = zone.map(str::to_owned);
        let mut i = Index::new(Settings { zone: zone.clone(), ..index().settings().clone() });
        i.apply(pool("192.0.2.0/30"));
        i.apply(shaped("a", spec, &json!({})));
        i.apply(slice_of("s", endpoints));
        i.synced();
        i.drain();
        assert_eq!(backends(&i), wanted, "{zone:?} {spec} {endpoints}");
    }
}

#[test]
fn what_the_spec_says_of_clients_is_wanted() {
    let ranges = "service.beta.kubernetes.io/load-balancer-source-ranges";
    for (spec, annotations, sources, affinity) in [
        (json!({}), json!({}), vec![], None),
        (
            json!({"loadBalancerSourceRanges": [" 10.1.2.3/8 ", "2001:db8::/32"]}),
            json!({ranges: "192.0.2.0/24"}),
            vec!["10.0.0.0/8", "2001:db8::/32"],
            None,
        ),
        (json!({}), json!({ranges: "192.0.2.0/24, ::/0"}), vec!["192.0.2.0/24", "::/0"], None),
        (json!({"sessionAffinity": "ClientIP"}), json!({}), vec![], Some(10_800)),
        (
            json!({"sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
            json!({}),
            vec![],
            Some(60),
        ),
        (json!({}), json!({"loxilb.io/epselect": "persist"}), vec![], Some(10_800)),
    ] {
        let service = shaped("a", &spec, &json!({"annotations": annotations}));
        let (_, changes) = after([pool("192.0.2.0/30"), service]);
        assert_eq!(changes.upsert[0].source_ranges, sources, "{spec} {annotations}");
        assert_eq!(changes.upsert[0].affinity_seconds, affinity, "{spec} {annotations}");
    }
}
