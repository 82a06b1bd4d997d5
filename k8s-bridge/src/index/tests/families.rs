//! One family, both, and one more later.

use super::*;

fn both() -> Object {
    pool_of("p", &json!({"addresses": ["192.0.2.0/30", "2001:db8::/126"]}))
}

fn spec(families: &[&str], policy: &str) -> serde_json::Value {
    json!({"ipFamilies": families, "ipFamilyPolicy": policy})
}

fn vips(i: &Index) -> Vec<String> {
    i.wanted().next().map(|w| w.vips.clone()).unwrap_or_default()
}

#[test]
fn addresses_follow_the_families_in_their_order() {
    for (families, policy, wanted) in [
        (&["IPv4"][..], "SingleStack", vec!["192.0.2.0"]),
        (&["IPv6"], "SingleStack", vec!["2001:db8::"]),
        (&["IPv4", "IPv6"], "RequireDualStack", vec!["192.0.2.0", "2001:db8::"]),
        (&["IPv6", "IPv4"], "PreferDualStack", vec!["2001:db8::", "192.0.2.0"]),
        (&["IPv4"], "PreferDualStack", vec!["192.0.2.0"]),
    ] {
        let (i, _) = after([both(), shaped("a", &spec(families, policy), &json!({}))]);
        assert_eq!(vips(&i), wanted, "{families:?} {policy}");
    }
}

#[test]
fn a_family_comes_and_goes_and_the_other_stays() {
    let dual = spec(&["IPv4", "IPv6"], "RequireDualStack");
    let single = spec(&["IPv4"], "SingleStack");
    let (mut i, _) = after([both(), shaped("a", &single, &json!({}))]);
    i.apply(shaped("a", &dual, &json!({})));
    i.drain();
    assert_eq!(vips(&i), ["192.0.2.0", "2001:db8::"]);
    i.apply(shaped("a", &single, &json!({})));
    i.drain();
    assert_eq!(vips(&i), ["192.0.2.0"]);
}

#[test]
fn the_second_family_comes_when_somebody_gives_one_up() {
    let few = pool_of("p", &json!({"addresses": ["192.0.2.0/30", "2001:db8::1"]}));
    let other = shaped("b", &spec(&["IPv6"], "SingleStack"), &json!({}));
    let (mut i, _) = after([few, other]);
    i.apply(shaped("a", &spec(&["IPv4", "IPv6"], "PreferDualStack"), &json!({})));
    assert_eq!(reason(&i.drain(), "a"), "PoolExhausted", "served with one");
    i.delete(&service("b", None));
    assert_eq!(reason(&i.drain(), "a"), "served");
    assert_eq!(vips(&i), ["192.0.2.0", "2001:db8::1"]);
}

#[test]
fn an_annotation_may_ask_for_one_family() {
    let dual = spec(&["IPv4", "IPv6"], "PreferDualStack");
    for (spec, ipam, answer, wanted) in [
        (dual.clone(), "ipv6", "served", vec!["2001:db8::"]),
        (dual, "ipv4", "served", vec!["192.0.2.0"]),
        (spec(&["IPv4"], "SingleStack"), "ip", "served", vec!["192.0.2.0"]),
        (spec(&["IPv4"], "SingleStack"), "nat66", "AddressFamilyMismatch", vec![]),
        (spec(&["IPv4", "IPv6"], "RequireDualStack"), "ip6", "AddressFamilyMismatch", vec![]),
        (spec(&["IPv4"], "SingleStack"), "nat64", "served", vec!["2001:db8::"]),
        (spec(&["IPv6"], "SingleStack"), "ipv6to4", "served", vec!["2001:db8::"]),
    ] {
        let asks = json!({"annotations": {"loxilb.io/ipam": ipam}});
        let (i, changes) = after([both(), shaped("a", &spec, &asks)]);
        assert_eq!(reason(&changes, "a"), answer, "{spec} {ipam}");
        assert_eq!(vips(&i), wanted, "{spec} {ipam}");
    }
}

fn nat64() -> serde_json::Value {
    json!({"annotations": {"sluice.dev/nat64": "true"}})
}

fn slice_in(family: &str, address: &str) -> Object {
    let o = json!({"metadata": {"name": family.to_lowercase(), "namespace": "d",
            "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": family, "ports": [{"port": 8080}], "endpoints": [{"addresses": [address]}]});
    Object::EndpointSlice(Box::new(serde_json::from_value(o).unwrap()))
}

#[test]
fn nat64_gives_an_ipv6_address_to_ipv4_endpoints() {
    let (v4, v6) = (slice_in("IPv4", "10.0.0.1"), slice_in("IPv6", "2001:db8:1::1"));
    for (families, policy, wanted) in [
        (&["IPv4"][..], "SingleStack", vec!["2001:db8::"]),
        (&["IPv6"], "SingleStack", vec!["2001:db8::"]),
        (&["IPv4", "IPv6"], "RequireDualStack", vec!["192.0.2.0", "2001:db8::"]),
        (&[], "SingleStack", vec!["2001:db8::"]),
    ] {
        let service = shaped("a", &spec(families, policy), &nat64());
        let (i, changes) = after([both(), service, v4.clone(), v6.clone()]);
        assert_eq!(reason(&changes, "a"), "served", "{families:?}");
        assert_eq!(vips(&i), wanted, "{families:?}");
        assert_eq!(backends(&i), ["10.0.0.1:8080*1"], "{families:?}");
        assert!(i.wanted().all(|w| w.nat64));
    }
}

#[test]
fn nat64_comes_and_goes_with_the_address() {
    let single = spec(&["IPv4"], "SingleStack");
    let endpoints = slice_in("IPv4", "10.0.0.1");
    let (mut i, _) = after([both(), shaped("a", &single, &json!({})), endpoints]);
    assert_eq!(vips(&i), ["192.0.2.0"]);
    i.apply(shaped("a", &single, &nat64()));
    assert!(i.drain().pools.is_empty(), "one is in use as before: the other is given back");
    assert_eq!(vips(&i), ["2001:db8::"]);
    i.apply(shaped("a", &single, &json!({})));
    i.drain();
    // Exclusive pools give what was given up longest ago.
    assert_eq!(vips(&i), ["192.0.2.1"]);
    assert!(i.wanted().all(|w| !w.nat64));
}

#[test]
fn nat64_is_refused_with_a_reason() {
    let single = |more: serde_json::Value| {
        let mut spec = spec(&["IPv4"], "SingleStack");
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    };
    for (pool, spec, answer) in [
        (both(), single(json!({"externalTrafficPolicy": "Local"})), "ClientAddressLost"),
        (both(), single(json!({"loadBalancerIP": "192.0.2.2"})), "AddressFamilyMismatch"),
        (pool("192.0.2.0/30"), single(json!({})), "NoPool"),
        (both(), single(json!({"loadBalancerIP": "2001:db8::2"})), "served"),
    ] {
        let (_, changes) = after([pool, shaped("a", &spec, &nat64())]);
        assert_eq!(reason(&changes, "a"), answer, "{spec}");
    }
}

#[test]
fn addresses_of_both_families_are_asked_for_in_one_or_two_places() {
    let dual = |ip: serde_json::Value| {
        let mut spec = spec(&["IPv4", "IPv6"], "RequireDualStack");
        spec["loadBalancerIP"] = ip;
        spec
    };
    let asks = |text: &str| json!({"annotations": {"sluice.dev/addresses": text}});
    for (spec, metadata, answer) in [
        (dual(json!("192.0.2.2")), json!({}), "served"),
        (dual(json!(null)), asks("192.0.2.2, 2001:db8::2"), "served"),
        (dual(json!("192.0.2.2")), asks("192.0.2.2"), "served"),
        (dual(json!("192.0.2.1")), asks("192.0.2.2"), "AddressContradiction"),
        (dual(json!("nonsense")), json!({}), "InvalidAnnotation"),
    ] {
        let (i, changes) = after([both(), shaped("a", &spec, &metadata)]);
        assert_eq!(reason(&changes, "a"), answer, "{spec} {metadata}");
        assert_eq!(vips(&i).first().is_some_and(|vip| vip == "192.0.2.2"), answer == "served");
    }
}

#[test]
fn half_of_what_is_needed_is_given_back() {
    let dual = spec(&["IPv4", "IPv6"], "RequireDualStack");
    let (mut i, changes) = after([pool("192.0.2.0/30"), shaped("a", &dual, &json!({}))]);
    assert_eq!(reason(&changes, "a"), "NoPool");
    assert_eq!(changes.pools[0].1.used, 0);
    let asks = json!({"annotations": {"sluice.dev/addresses": "2001:db8:9::1"}});
    i.apply(shaped("a", &dual, &asks));
    assert_eq!(reason(&i.drain(), "a"), "AddressNotInPool");
    i.apply(both());
    assert_eq!(i.drain().pools[0].1.used, 0, "nor after a later mistake");
}
