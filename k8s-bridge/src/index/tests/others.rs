//! Addresses that are not ours to give: nodes', the API server's, other controllers'.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn node(name: &str, addresses: &[(&str, &str)]) -> Object {
    let addresses: Vec<_> =
        addresses.iter().map(|(kind, a)| json!({"type": kind, "address": a})).collect();
    let o = json!({"metadata": {"name": name}, "status": {"addresses": addresses}});
    Object::Node(Box::new(serde_json::from_value(o).unwrap()))
}

/// A Service with this class, status and writer.
fn of(name: &str, class: Option<&str>, ingress: &serde_json::Value, manager: &str) -> Object {
    let metadata = json!({"managedFields": wrote(manager)});
    let object = shaped(name, &json!({"loadBalancerClass": class}), &metadata);
    let Object::Service(mut service) = object else { panic!("no Service") };
    let status = json!({"loadBalancer": {"ingress": ingress}});
    service.status = Some(serde_json::from_value(status).unwrap());
    Object::Service(service)
}

fn ask(name: &str, address: &str) -> Object {
    shaped(name, &json!({}), &json!({"annotations": {"sluice.dev/addresses": address}}))
}

fn vips(i: &Index, name: &str) -> Vec<String> {
    let of = format!("prod/d/{name}/80-tcp");
    i.wanted().find(|w| w.name == of).map(|w| w.vips.clone()).unwrap_or_default()
}

fn pool_trouble(changes: &Changes) -> Option<&Trouble> {
    changes.pools.last().and_then(|(_, uses)| uses.trouble.as_ref())
}

#[test]
fn what_another_controller_wrote_is_no_vip() {
    // As K3s' ServiceLB does with every Service without a class.
    let nodes = json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]);
    for in_pool in [false, true] {
        let addresses = if in_pool { "10.0.0.0/29" } else { "192.0.2.8/29" };
        let mut i = Index::new(Settings { default_class: true, ..index().settings().clone() });
        i.apply(pool(addresses));
        i.apply(node("n1", &[("InternalIP", "10.0.0.1"), ("Hostname", "n1")]));
        i.apply(node("n2", &[("InternalIP", "10.9.0.2"), ("ExternalIP", "10.0.0.2")]));
        i.apply(of("a", None, &nodes, "k3s"));
        i.synced();
        let changes = i.drain();
        let given = if in_pool { "10.0.0.0" } else { "192.0.2.8" };
        assert_eq!((reason(&changes, "a"), vips(&i, "a")), ("served", vec![given.to_owned()]));
        let name = ObjectName { namespace: "d".into(), name: "a".into() };
        assert_eq!(i.origin(&name).and_then(Origin::rival), Some("k3s"));
    }
}

#[test]
fn who_comes_from_kube_loxilb_keeps_the_address() {
    let edge = Some("sluice.dev/edge");
    for (ingress, kept) in [
        (json!([{"hostname": "llb-203.0.113.150"}]), "203.0.113.150"),
        (json!([{"ip": "203.0.113.150"}]), "203.0.113.150"),
        (json!([{"hostname": "llb-198.51.100.1"}]), "203.0.113.148"),
        (json!([{"hostname": "llb-203.0.113.151"}]), "203.0.113.148"),
        (json!([{"hostname": "web.example.com"}]), "203.0.113.148"),
    ] {
        let node = node("n", &[("InternalIP", "203.0.113.151")]);
        let (i, changes) =
            after([pool("203.0.113.148/30"), node, of("a", edge, &ingress, "kube-loxilb")]);
        assert_eq!(
            (reason(&changes, "a"), vips(&i, "a")),
            ("served", vec![kept.to_owned()]),
            "{ingress}"
        );
    }
    // What a bridge wrote stays whatever the pools say by now.
    let ingress = json!([{"ip": "198.51.100.1"}]);
    let (i, changes) = after([pool("203.0.113.148/30"), of("a", edge, &ingress, FIELD_MANAGER)]);
    assert_eq!(
        (reason(&changes, "a"), vips(&i, "a")),
        ("AddressNotInPool", vec!["198.51.100.1".to_owned()])
    );
}

#[test]
fn machines_addresses_are_passed_over_and_refused() {
    let api = json!({"metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": "192.0.2.2", "clusterIPs": ["192.0.2.2", "2001:db8::1"]}});
    let api = Object::Service(Box::new(serde_json::from_value(api).unwrap()));
    let slice = json!({"metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.3"]}]});
    let slice = Object::EndpointSlice(Box::new(serde_json::from_value(slice).unwrap()));
    let node = |a: &str| node("n", &[("ExternalIP", a), ("InternalIP", "10.0.0.1")]);
    for (address, answer) in [
        ("192.0.2.1", "AddressReserved"),
        ("192.0.2.2", "AddressReserved"),
        ("192.0.2.3", "AddressReserved"),
        ("10.0.0.1", "AddressReserved"),
        ("127.0.0.1", "AddressReserved"),
        ("169.254.169.254", "AddressReserved"),
        ("224.0.0.1", "AddressReserved"),
        ("255.255.255.255", "AddressReserved"),
        ("0.0.0.0", "AddressReserved"),
        ("192.0.2.0", "served"),
        ("198.51.100.1", "AddressNotInPool"),
    ] {
        let (_, changes) = after([
            pool("192.0.2.0/29"),
            node("192.0.2.1"),
            api.clone(),
            slice.clone(),
            ask("a", address),
        ]);
        assert_eq!(reason(&changes, "a"), answer, "{address}");
    }
    let services = ["a", "b"].map(|name| service(name, None));
    let objects = [pool("192.0.2.0/29"), node("192.0.2.1"), api, slice.clone()];
    let (mut i, changes) = after(objects.into_iter().chain(services));
    assert_eq!(
        (vips(&i, "a"), vips(&i, "b")),
        (vec!["192.0.2.0".to_owned()], vec!["192.0.2.4".to_owned()])
    );
    assert_eq!((changes.pools[0].1.used, changes.pools[0].1.free), (5, 3));
    // A node that gets the address of a Service: balanced further, the node would be cut off.
    i.apply(node("192.0.2.4"));
    let changes = i.drain();
    assert_eq!((reason(&changes, "b"), vips(&i, "b")), ("AddressReserved", vec![]));
    assert_eq!(changes.remove, ["prod/d/b/80-tcp"]);
    i.apply(ask("c", "192.0.2.3"));
    assert_eq!(reason(&i.drain(), "c"), "AddressReserved");
    i.apply(node("192.0.2.1"));
    i.delete(&slice);
    let changes = i.drain();
    assert_eq!((reason(&changes, "b"), vips(&i, "b")), ("served", vec!["192.0.2.4".to_owned()]));
    assert_eq!(reason(&changes, "c"), "served", "whoever waits gets what is free again");
}

#[test]
fn pools_of_no_use_are_not_ready() {
    for (addresses, part) in [
        ("127.0.0.0/8", "127.0.0.0/8"),
        ("224.0.0.0/24", "224.0.0.0/4"),
        ("fe80::1-fe80::9", "fe80::/10"),
        ("0.0.0.0-0.0.0.9", "0.0.0.0/8"),
        ("240.0.0.1", "240.0.0.0/4"),
        ("169.254.0.0/16", "169.254.0.0/16"),
        ("0.0.0.0/0", "0.0.0.0/8"),
        ("126.255.255.255-127.0.0.1", "127.0.0.0/8"),
        ("::ffff:192.0.2.1", "::ffff:0.0.0.0/96"),
    ] {
        let (_, changes) = after([pool(addresses), service("a", None)]);
        let trouble = pool_trouble(&changes).unwrap();
        assert_eq!((trouble.reason, reason(&changes, "a")), ("ReservedAddresses", "NoPool"));
        assert!(trouble.message.contains(part), "{}", trouble.message);
    }
    let (_, changes) = after([pool("192.0.2.9-192.0.2.1")]);
    assert_eq!(pool_trouble(&changes).unwrap().reason, "InvalidPool");
    let node = |a: &str| node("n", &[("InternalIP", a)]);
    let (mut i, changes) = after([pool("192.0.2.1"), node("192.0.2.1")]);
    let (_, turned) = after([node("192.0.2.1"), pool("192.0.2.1")]);
    assert_eq!(turned.pools, changes.pools, "counted once, whichever is seen first");
    assert_eq!(pool_trouble(&changes).unwrap().reason, "ReservedAddresses");
    i.apply(node("192.0.2.2"));
    let changes = i.drain();
    assert_eq!((pool_trouble(&changes), changes.pools[0].1.free), (None, 1));
}

#[test]
fn two_bridges_give_an_address_once() {
    let other = |ip: &str| {
        let ingress = json!([{"ip": ip}]);
        of("z", Some("example.com/inner"), &ingress, "sluice-bridge:example.com/inner")
    };
    let none = of("z", Some("example.com/inner"), &json!([]), "x");
    let shared = pool_of("p", &json!({"addresses": ["192.0.2.0/30"], "sharing": "Shared"}));
    for pool in [pool("192.0.2.0/30"), shared] {
        let (mut i, changes) = after([pool.clone(), other("192.0.2.0"), service("a", None)]);
        assert_eq!(
            (reason(&changes, "z"), vips(&i, "a")),
            ("not ours", vec!["192.0.2.1".to_owned()])
        );
        assert_eq!(changes.pools[0].1.used, 2);
        i.apply(ask("b", "192.0.2.0"));
        let changes = i.drain();
        let Some(Outcome::Refuse(why)) = outcome(&changes, "b") else { panic!("{changes:?}") };
        assert_eq!(why.reason, "AddressInUse");
        assert!(why.message.contains("Service z of namespace d"), "{}", why.message);
        i.apply(none.clone());
        assert_eq!(reason(&i.drain(), "b"), "served");
        // Both gave it at the same moment, and only theirs is in a status.
        i.apply(other("192.0.2.1"));
        i.drain();
        assert_eq!(vips(&i, "a"), ["192.0.2.2"]);
        // Ours is in the status as well: nothing moves, and both are named.
        i.apply(service("a", Some("192.0.2.2")));
        i.apply(other("192.0.2.2"));
        assert_eq!(reason(&i.drain(), "a"), "AddressContested");
        assert_eq!(vips(&i, "a"), ["192.0.2.2"]);
        let (fresh, changes) =
            after([pool.clone(), other("192.0.2.2"), service("a", Some("192.0.2.2"))]);
        assert_eq!((reason(&changes, "a"), vips(&fresh, "a")), ("AddressContested", vips(&i, "a")));
        i.delete(&none);
        assert_eq!(reason(&i.drain(), "a"), "served");
        assert_eq!(i.pools.other(ip("192.0.2.2")), None);
    }
}

#[test]
fn a_refusal_is_told_once() {
    let node = || node("n", &[("InternalIP", "192.0.2.1")]);
    for refused in [
        ask("a", "192.0.2.1"),
        ask("a", "198.51.100.1"),
        shaped("a", &json!({"loadBalancerIP": "8.8.8.8"}), &json!({})),
        shaped("a", &json!({"ipFamilies": ["IPv6"]}), &json!({})),
        shaped("a", &json!({}), &json!({"annotations": {"sluice.dev/idle-timeout": "1h"}})),
    ] {
        let (mut i, _) = after([pool("192.0.2.0/30"), node()]);
        i.apply(refused.clone());
        assert_eq!(i.drain().outcomes.len(), 1);
        // The status with the condition comes back, others come and go, the node's heartbeat.
        let Object::Service(mut written) = refused else { panic!("no Service") };
        let condition = json!({"conditions": [{"type": "sluice.dev/Ready", "status": "False",
            "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        written.status = Some(serde_json::from_value(condition).unwrap());
        i.apply(Object::Service(written));
        i.apply(service("b", None));
        i.apply(node());
        i.delete(&service("b", None));
        let told = i.drain().outcomes;
        assert!(told.iter().all(|(name, _)| name.name != "a"), "{told:?}");
    }
}
