//! Which pool gives to whom, and what editing one does.

use super::*;

fn namespace(name: &str, labels: &serde_json::Value) -> Object {
    let o = json!({"metadata": {"name": name, "labels": labels}});
    Object::Namespace(Box::new(serde_json::from_value(o).unwrap()))
}

fn vip(i: &Index, name: &str) -> Option<String> {
    let name = format!("prod/d/{name}/80-tcp");
    i.wanted().find(|w| w.name == name).map(|w| w.vips[0].clone())
}

#[test]
fn selectors_choose_namespaces_and_services() {
    let labels = |labels| json!({"matchLabels": labels});
    let one = |key: &str, operator: &str, values: serde_json::Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    for (spec, answer) in [
        (json!({"namespaceSelector": labels(json!({"team": "red"}))}), "served"),
        (json!({"namespaceSelector": labels(json!({"team": "blue"}))}), "NoPool"),
        (json!({"namespaceSelector": one("team", "In", json!(["red", "blue"]))}), "served"),
        (json!({"namespaceSelector": one("team", "NotIn", json!(["red"]))}), "NoPool"),
        (json!({"namespaceSelector": one("other", "NotIn", json!(["red"]))}), "served"),
        (json!({"namespaceSelector": one("team", "Exists", json!([]))}), "served"),
        (json!({"namespaceSelector": one("team", "DoesNotExist", json!([]))}), "NoPool"),
        (json!({"namespaceSelector": {}}), "served"),
        (json!({"serviceSelector": labels(json!({"app": "web"}))}), "served"),
        (json!({"serviceSelector": labels(json!({"app": "dns"}))}), "NoPool"),
        (
            json!({"serviceSelector": one("app", "Exists", json!([])), "namespaces": ["e"]}),
            "NoPool",
        ),
        (json!({"namespaces": ["d"]}), "served"),
        (json!({"namespaces": ["e"]}), "NoPool"),
        (json!({"manual": true}), "NoPool"),
    ] {
        let mut spec = spec;
        spec["addresses"] = json!(["192.0.2.0/30"]);
        let service = shaped("a", &json!({}), &json!({"labels": {"app": "web"}}));
        let home = namespace("d", &json!({"team": "red"}));
        let (_, changes) = after([pool_of("p", &spec), home, service]);
        assert_eq!(reason(&changes, "a"), answer, "{spec}");
    }
}

#[test]
fn selectors_that_make_no_sense_choose_nobody() {
    for selector in [
        json!({"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]}),
        json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
        json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
    ] {
        let spec = json!({"addresses": ["192.0.2.0/30"], "serviceSelector": selector});
        let (_, changes) = after([pool_of("p", &spec), service("a", None)]);
        assert_eq!(changes.pools[0].1.trouble.as_ref().unwrap().reason, "InvalidPool");
        assert_eq!(reason(&changes, "a"), "NoPool", "{selector}");
    }
}

#[test]
fn labels_of_a_namespace_decide_anew() {
    let spec = json!({"addresses": ["192.0.2.0/30"],
        "namespaceSelector": {"matchLabels": {"team": "red"}}});
    let (mut i, changes) = after([pool_of("p", &spec), service("a", None)]);
    assert_eq!(reason(&changes, "a"), "NoPool", "the namespace is not known");
    i.apply(namespace("d", &json!({"team": "red"})));
    assert_eq!(reason(&i.drain(), "a"), "served");
    i.apply(namespace("d", &json!({"team": "red"})));
    assert_eq!(i.drain(), Changes::default());
    i.apply(namespace("d", &json!({"team": "blue"})));
    assert_eq!(reason(&i.drain(), "a"), "AddressNotInPool", "said, and nothing is taken away");
    assert_eq!(vip(&i, "a").unwrap(), "192.0.2.0");
    i.apply(service("b", None));
    assert_eq!(reason(&i.drain(), "b"), "NoPool");
}

#[test]
fn priority_then_name_chooses_the_pool() {
    let spec =
        |addresses: &str, priority: i32| json!({"addresses": [addresses], "priority": priority});
    let pools = [
        pool_of("a", &spec("192.0.2.1", 0)),
        pool_of("b", &spec("192.0.2.2", 5)),
        pool_of("c", &spec("192.0.2.3", 5)),
    ];
    let (i, _) = after(pools.into_iter().chain(["a", "b", "c", "d"].map(|n| service(n, None))));
    let given = ["a", "b", "c", "d"].map(|name| vip(&i, name).unwrap_or_default());
    assert_eq!(given, ["192.0.2.2", "192.0.2.3", "192.0.2.1", ""]);
}

#[test]
fn a_manual_pool_gives_to_who_asks() {
    let spec = json!({"addresses": ["192.0.2.0/30"], "manual": true});
    for annotations in [
        json!({"sluice.dev/pool": "p"}),
        json!({"loxilb.io/poolSelect": "p"}),
        json!({"sluice.dev/addresses": "192.0.2.0"}),
    ] {
        let asks = shaped("a", &json!({}), &json!({"annotations": annotations}));
        let (_, changes) = after([pool_of("p", &spec), asks]);
        assert_eq!(reason(&changes, "a"), "served", "{annotations}");
    }
}

#[test]
fn network_and_broadcast_are_left_out() {
    let spec = json!({"addresses": ["192.0.2.0/30"], "avoidNetworkAndBroadcast": true});
    let (i, changes) = after([pool_of("p", &spec), service("a", None)]);
    assert_eq!(vip(&i, "a").unwrap(), "192.0.2.1");
    assert_eq!((changes.pools[0].1.used, changes.pools[0].1.free), (1, 1));
    let asks =
        shaped("b", &json!({}), &json!({"annotations": {"sluice.dev/addresses": "192.0.2.3"}}));
    let (_, changes) = after([pool_of("p", &spec), asks]);
    assert_eq!(reason(&changes, "b"), "AddressNotInPool");
}

#[test]
fn of_two_that_overlap_the_older_gives() {
    let aged = |name: &str, year: i32, addresses: &str| {
        let o = json!({"metadata": {"name": name, "creationTimestamp": format!("{year}-01-01T00:00:00Z")},
            "spec": {"addresses": [addresses]}});
        Object::AddressPool(Box::new(serde_json::from_value(o).unwrap()))
    };
    let old = aged("z", 2025, "192.0.2.0/30");
    let (mut i, _) = after([old, service("a", None)]);
    i.apply(aged("a", 2026, "192.0.2.0/24"));
    i.apply(service("b", None));
    let changes = i.drain();
    assert_eq!(
        changes.pools.iter().find(|(n, _)| n == "a").unwrap().1.trouble.as_ref().unwrap().reason,
        "PoolOverlap"
    );
    assert_eq!(vip(&i, "b").unwrap(), "192.0.2.1", "the pool that was there first is as it was");
    i.apply(aged("a", 2026, "198.51.100.0/24"));
    let changes = i.drain();
    assert_eq!(changes.pools.len(), 1);
    assert_eq!(changes.pools[0].1.trouble, None);
}

#[test]
fn a_typing_error_takes_nothing_and_moves_no_route() {
    let spec = |addresses: &str| {
        json!({"addresses": [addresses],
        "route": {"localPref": 200, "communities": ["64512:7"]}})
    };
    let (mut i, changes) = after([pool_of("p", &spec("192.0.2.0/30")), service("a", None)]);
    assert_eq!(changes.upsert[0].route.local_pref, Some(200));
    i.apply(pool_of("p", &spec("192.0.2.0/33")));
    i.apply(service("b", None));
    let changes = i.drain();
    assert_eq!(changes.upsert, [], "what appliances do for it stays as it is");
    assert_eq!((reason(&changes, "a"), reason(&changes, "b")), ("AddressNotInPool", "NoPool"));
    i.apply(pool_of("p", &spec("192.0.2.0/30")));
    let changes = i.drain();
    assert_eq!((reason(&changes, "a"), reason(&changes, "b")), ("served", "served"));
    let mut bad = spec("192.0.2.0/30");
    bad["route"]["communities"] = json!(["70000:1"]);
    i.apply(pool_of("p", &bad));
    assert_eq!(i.drain().pools[0].1.trouble.as_ref().unwrap().reason, "InvalidPool");
}

#[test]
fn another_pool_asked_for_later_moves_nobody_silently() {
    let pools = [pool("192.0.2.0/30"), pool_of("q", &json!({"addresses": ["198.51.100.0/30"]}))];
    let (mut i, _) = after(pools.into_iter().chain([service("a", None)]));
    i.apply(shaped("a", &json!({}), &json!({"annotations": {"sluice.dev/pool": "q"}})));
    assert_eq!(reason(&i.drain(), "a"), "AddressNotInPool");
    assert_eq!(vip(&i, "a").unwrap(), "192.0.2.0");
}

#[test]
fn use_is_told_when_it_changes() {
    let (mut i, changes) = after([pool("192.0.2.0/30"), service("a", None)]);
    assert_eq!((changes.pools[0].1.used, changes.pools[0].1.free), (1, 3));
    i.apply(service("b", None));
    assert_eq!(i.drain().pools[0].1.used, 2);
    i.apply(slice_of("s", &json!([{"addresses": ["10.0.0.1"]}])));
    assert_eq!(i.drain().pools, []);
    i.delete(&service("b", None));
    assert_eq!(i.drain().pools[0].1.used, 1);
    i.delete(&pool("192.0.2.0/30"));
    assert_eq!(i.drain().pools, []);
    i.apply(pool("192.0.2.0/30"));
    assert_eq!(i.drain().pools[0].1.used, 1, "told again after it came back");
}
