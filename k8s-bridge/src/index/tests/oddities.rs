//! Objects that nobody should write, and that the API server takes. What is wrong is left out; the rest is served.

use super::*;

fn annotated(live: bool, annotations: &serde_json::Value) -> Object {
    let metadata = json!({"annotations": annotations, "managedFields": wrote(FIELD_MANAGER)});
    let Object::Service(mut service) = shaped("a", &json!({}), &metadata) else {
        panic!("no Service")
    };
    let ingress = if live { json!([{"ip": "192.0.2.2"}]) } else { json!([]) };
    let status = json!({"loadBalancer": {"ingress": ingress}});
    service.status = Some(serde_json::from_value(status).unwrap());
    Object::Service(service)
}

fn troubles(changes: &Changes) -> Vec<Trouble> {
    match outcome(changes, "a") {
        Some(Outcome::Refuse(why)) => vec![why.clone()],
        Some(Outcome::Serve(serve)) => serve.troubles.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ports_of_slices_that_are_none_are_left_out() {
    let Object::EndpointSlice(mut slice) = slice_of("s", &json!([{"addresses": ["10.1.0.1"]}]))
    else {
        panic!("no slice")
    };
    let ports = [0, -1, 65_536, 8080].map(|number| json!({"name": "", "port": number}));
    slice.ports = Some(serde_json::from_value(json!(ports)).unwrap());
    let all = [pool("192.0.2.0/30"), service("a", None), Object::EndpointSlice(slice)];
    assert_eq!(backends(&after(all).0), ["10.1.0.1:8080*1"]);
}

#[test]
fn ipv4_in_ipv6_notation_is_no_way_round_the_guard() {
    let slice = |addresses: &[&str]| {
        let endpoints: Vec<_> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
        let Object::EndpointSlice(mut slice) = slice_of("s", &json!(endpoints)) else {
            panic!("no slice")
        };
        slice.address_type = "IPv6".to_owned();
        Object::EndpointSlice(slice)
    };
    let mapped = ["::ffff:169.254.169.254", "::ffff:10.0.0.1", "::10.0.0.1", "2001:db8::1"];
    let spec = json!({"ipFamilies": ["IPv6"]});
    let (i, changes) =
        after([pool("2001:db8:1::/126"), shaped("a", &spec, &json!({})), slice(&mapped)]);
    assert_eq!(backends(&i), ["2001:db8::1:8080*1"]);
    assert_eq!(reason(&changes, "a"), "EndpointsRefused");
}

#[test]
fn what_people_wrote_is_repeated_in_part_and_shown_as_it_is() {
    let long = format!("\u{1b}[31m\u{202e}{}", "x".repeat(200_000));
    for key in [
        "sluice.dev/idle-timeout",
        "sluice.dev/addresses",
        "sluice.dev/pool",
        "sluice.dev/secondary-pools",
        "sluice.dev/health",
        "loxilb.io/ipam",
        "loxilb.io/nodelabel",
        "loxilb.io/multus-nets",
        "service.beta.kubernetes.io/load-balancer-source-ranges",
    ] {
        for live in [false, true] {
            let (_, changes) = after([pool("192.0.2.0/30"), annotated(live, &json!({key: long}))]);
            for why in troubles(&changes) {
                let is_hidden = |c: char| c.is_control() || c == '\u{202e}';
                assert!(!why.message.contains(is_hidden), "{key}: {:?}", why.message);
                assert!(why.message.chars().count() < 1000, "{key}");
            }
        }
    }
}

#[test]
fn thousands_of_mistakes_are_a_few_events() {
    let wrong: serde_json::Map<_, _> =
        (0..5000).map(|n| (format!("sluice.dev/x{n}"), json!("y"))).collect();
    let (i, changes) = after([pool("192.0.2.0/30"), annotated(true, &json!(wrong))]);
    assert_eq!((troubles(&changes).len(), i.wanted().count()), (8, 1));
}

#[test]
fn a_path_that_is_none_is_not_sent_to_an_appliance() {
    let long = format!("http:/{}", "a".repeat(3000));
    for value in ["http:/a b", "http:/\r\nHost: x", "http:/\u{202e}", "http:/ü", &long] {
        let wrong = json!({"sluice.dev/health": value});
        let (i, changes) = after([pool("192.0.2.0/30"), annotated(true, &wrong)]);
        assert_eq!(reason(&changes, "a"), "InvalidAnnotation", "{value}");
        assert_eq!(i.wanted().next().unwrap().health, None, "{value}");
        let request = value.trim_start_matches("http:");
        let theirs = json!({"loxilb.io/probetype": "http", "loxilb.io/probereq": request});
        let (_, changes) = after([pool("192.0.2.0/30"), annotated(false, &theirs)]);
        assert_eq!(reason(&changes, "a"), "InvalidAnnotation", "{value}");
    }
}

#[test]
fn a_node_is_not_the_whole_world() {
    let node = json!({"metadata": {"name": "n"},
        "spec": {"podCIDRs": ["0.0.0.0/0", "::/0", "10.9.0.0/24", "soon", "10.8.0.0"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "n1.example"},
            {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n"}]}});
    let (i, _) = after([Object::Node(Box::new(serde_json::from_value(node).unwrap()))]);
    assert_eq!(i.inside(), ["10.0.0.1/32", "10.9.0.0/24"]);
}

#[test]
fn an_address_in_a_status_that_can_be_no_vip_is_replaced() {
    for ip in ["127.0.0.1", "0.0.0.0", "224.0.0.1", "::ffff:192.0.2.1", "fe80::1", "", "soon"] {
        let Object::Service(mut service) = service("a", Some(ip)) else { panic!("no Service") };
        let status = service.status.as_mut().unwrap().load_balancer.as_mut().unwrap();
        let ports = json!([{"port": 0, "protocol": "TCP"}, {"port": -1, "protocol": "x"}]);
        let odd = json!([{"ip": ip, "ports": ports}, {"hostname": "a-.-::"}, {}, {"hostname": ""}]);
        status.ingress = Some(serde_json::from_value(odd).unwrap());
        let (i, changes) = after([pool("192.0.2.0/30"), Object::Service(service)]);
        assert_eq!(reason(&changes, "a"), "served", "{ip}");
        assert_eq!(i.wanted().next().unwrap().vips, ["192.0.2.0"], "{ip}");
    }
}

#[test]
fn a_pool_of_everything_gives_nothing() {
    for range in ["0.0.0.0/0", "::/0", "::ffff:0:0/96", "0.0.0.0-255.255.255.255", "126.0.0.0/7"] {
        let (i, changes) = after([pool(range), service("a", None)]);
        assert_eq!(i.wanted().count(), 0, "{range}");
        let trouble = changes.pools[0].1.trouble.as_ref().unwrap();
        assert_eq!(trouble.reason, "ReservedAddresses", "{range}");
    }
}

#[test]
fn endpoints_that_are_not_ready_take_no_places_without_end() {
    let endpoint = |n: usize| {
        let address = format!("10.{}.{}.{}", 1 + n / 62_500, n / 250 % 250, n % 250);
        json!({"addresses": [address], "conditions": {"ready": n < 5}})
    };
    let slices = (0..20).map(|slice| {
        let all: Vec<_> = (slice * 1000..(slice + 1) * 1000).map(endpoint).collect();
        slice_of(&format!("s{slice}"), &json!(all))
    });
    let (i, changes) = after([pool("192.0.2.0/30"), service("a", None)].into_iter().chain(slices));
    assert_eq!(reason(&changes, "a"), "served");
    let all = &i.wanted().next().unwrap().backends;
    let weighted = all.iter().filter(|backend| backend.weight > 0).count();
    assert_eq!((all.len(), weighted), (5 + 409, 5), "the ready ones first");
}

/// One of them may edit the other's slice, but not what is the other's.
#[test]
fn a_slice_that_names_somebody_elses_service_stays_in_its_namespace() {
    let Object::EndpointSlice(mut slice) = slice_of("s", &json!([{"addresses": ["10.1.0.1"]}]))
    else {
        panic!("no slice")
    };
    for (namespace, label) in [("e", "a"), ("d", "d/a"), ("d", "../d/a"), ("", "a"), ("e", "d/a")] {
        slice.metadata.namespace = Some(namespace.to_owned());
        let labels = slice.metadata.labels.as_mut().unwrap();
        labels.insert("kubernetes.io/service-name".to_owned(), label.to_owned());
        let slice = Object::EndpointSlice(slice.clone());
        let (i, _) = after([pool("192.0.2.0/30"), service("a", None), slice]);
        assert_eq!(backends(&i), [""; 0], "{namespace} {label}");
    }
}

/// Whoever may write slices in the namespace `default` could take any Service off the air, and any endpoint.
#[test]
fn a_slice_beside_the_api_servers_says_nothing_of_it() {
    let forged = |name: &str| {
        let o = json!({"metadata": {"name": name, "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4", "ports": [{"port": 6443}],
            "endpoints": [{"addresses": ["192.0.2.2"]}, {"addresses": ["10.1.0.1"]}]});
        Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap()))
    };
    let slice = || slice_of("s", &json!([{"addresses": ["10.1.0.1"]}]));
    let service = || service("a", Some("192.0.2.2"));
    let (i, changes) = after([pool("192.0.2.0/30"), service(), slice(), forged("kubernetes-2")]);
    assert_eq!((reason(&changes, "a"), backends(&i).len()), ("served", 1));
    let (_, changes) = after([pool("192.0.2.0/30"), service(), slice(), forged("kubernetes")]);
    assert_eq!(reason(&changes, "a"), "AddressReserved", "the API server's own");
}

#[test]
fn source_ranges_of_one_service_do_not_fill_the_data_plane() {
    let every_second = |n: u32| format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + 2 * n));
    let all: Vec<_> = (0..70_000).map(every_second).collect();
    let neighbours = (0..70_000u32).map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string());
    let neighbours: Vec<_> = neighbours.map(|address| format!("{address}/32")).collect();
    for (live, ranges, said, left) in [
        (false, &all, "TooManySourceRanges", None),
        (true, &all, "TooManySourceRanges", Some(4096)),
        (false, &neighbours, "served", Some(6)),
    ] {
        let Object::Service(mut service) = annotated(live, &json!({})) else {
            panic!("no Service")
        };
        service.spec.as_mut().unwrap().load_balancer_source_ranges = Some(ranges.clone());
        let (i, changes) = after([pool("192.0.2.0/30"), Object::Service(service)]);
        assert_eq!(reason(&changes, "a"), said);
        let wanted = i.wanted().next();
        assert_eq!(wanted.map(|wanted| wanted.source_ranges.len()), left);
        let is_listed = |net: &String| ranges.contains(net);
        assert!(left != Some(4096) || wanted.unwrap().source_ranges.iter().all(is_listed));
    }
}
