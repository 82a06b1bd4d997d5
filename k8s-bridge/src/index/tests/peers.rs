//! Peers: those that can be used, and what is wrong with the others.

use super::*;

fn peer(name: &str, spec: &serde_json::Value) -> Object {
    let o = json!({"metadata": {"name": name}, "spec": spec});
    Object::Peer(Box::new(serde_json::from_value(o).unwrap()))
}

#[test]
fn every_field_is_checked() {
    for (spec, fault) in [
        (json!({"address": "192.0.2.1", "asn": 64512}), None),
        (json!({"address": "2001:db8::1", "asn": 4_294_967_294_u32, "holdTimeSeconds": 0}), None),
        (json!({"address": "192.0.2.1", "asn": 1, "holdTimeSeconds": 65535, "port": 1179}), None),
        (json!({"address": "192.0.2.1/32", "asn": 1}), Some("no IP address")),
        (json!({"address": "router", "asn": 1}), Some("no IP address")),
        (json!({"address": "0.0.0.0", "asn": 1}), Some("belongs to no router")),
        (json!({"address": "192.0.2.1", "asn": 0}), Some("asn 0")),
        (json!({"address": "192.0.2.1", "asn": -1}), Some("asn -1")),
        (json!({"address": "192.0.2.1", "asn": 4_294_967_295_u32}), Some("asn 4294967295")),
        (json!({"address": "192.0.2.1", "asn": 1, "port": 0}), Some("port 0")),
        (json!({"address": "192.0.2.1", "asn": 1, "port": 65536}), Some("port 65536")),
        (
            json!({"address": "192.0.2.1", "asn": 1, "holdTimeSeconds": 2}),
            Some("holdTimeSeconds 2"),
        ),
        (json!({"address": "192.0.2.1", "asn": 1, "holdTimeSeconds": 65536}), Some("65536")),
    ] {
        let good = json!({"address": "198.51.100.1", "asn": 64513});
        let (i, changes) = after([peer("good", &good), peer("p", &spec)]);
        let troubles = &changes.peer_troubles;
        assert_eq!(troubles.len(), usize::from(fault.is_some()), "{spec}");
        for (name, trouble) in troubles {
            let trouble = trouble.as_ref().unwrap();
            assert_eq!((name.as_str(), trouble.reason), ("p", "InvalidPeer"), "{spec}");
            assert!(trouble.message.contains(fault.unwrap()), "{}", trouble.message);
        }
        assert_eq!(i.peers().len(), 2 - troubles.len(), "the other one is left alone: {spec}");
        assert_eq!(changes.peers, Some(i.peers()));
    }
}

#[test]
fn a_peer_is_mended_changed_and_deleted() {
    let (mut i, _) = after([peer("p", &json!({"address": "router", "asn": 1}))]);
    i.apply(peer("p", &json!({"address": "192.0.2.1", "asn": 1, "passive": true})));
    let changes = i.drain();
    assert_eq!(changes.peer_troubles, [("p".to_owned(), None)]);
    assert!(changes.peers.unwrap()[0].passive);
    i.apply(peer("p", &json!({"address": "192.0.2.1", "asn": 1, "passive": true})));
    assert_eq!(i.drain(), Changes::default());
    i.delete(&peer("p", &json!({"address": "", "asn": 1})));
    assert_eq!(i.drain().peers, Some(vec![]));
}

#[test]
fn an_appliance_has_one_session_with_an_address() {
    let at = |on: serde_json::Value| json!({"address": "192.0.2.1", "asn": 1, "appliances": on});
    let (_, changes) = after([peer("a", &at(json!(["x"]))), peer("b", &at(json!(["y"])))]);
    assert_eq!(changes.peer_troubles, []);
    let (mut i, changes) = after([peer("a", &at(json!(["x"]))), peer("b", &at(json!([])))]);
    assert_eq!(changes.peer_troubles[0].1.as_ref().unwrap().reason, "DuplicatePeer");
    i.delete(&peer("a", &at(json!([]))));
    assert_eq!(i.drain().peer_troubles, [("b".to_owned(), None)]);
}
