//! Secondary addresses: which ones, for which ports, and that they stay.

use super::*;

fn sctp(name: &str, annotations: &serde_json::Value) -> Object {
    let ports = json!({"ports": [{"port": 80}, {"port": 38412, "protocol": "SCTP"}]});
    shaped(name, &ports, &json!({"annotations": annotations}))
}

/// The Service with what it is served with in its status.
fn written(object: &Object, serve: &Serve) -> Object {
    let Object::Service(service) = object else { panic!("no Service") };
    let mut service = service.clone();
    let status =
        json!({"loadBalancer": {"ingress": crate::status::machine::ingress(serve, &service)}});
    service.status = serde_json::from_value(status).unwrap();
    Object::Service(service)
}

fn serve<'a>(changes: &'a Changes, name: &str) -> &'a Serve {
    match outcome(changes, name) {
        Some(Outcome::Serve(serve)) => serve,
        other => panic!("not served: {other:?}"),
    }
}

fn texts(serve: &Serve) -> Vec<String> {
    serve.secondary.iter().map(ToString::to_string).collect()
}

#[test]
fn ports_of_sctp_have_them_and_others_do_not() {
    let asks = json!({"sluice.dev/secondary-addresses": "192.0.2.3,192.0.2.2"});
    let (i, changes) = after([pool("192.0.2.0/30"), sctp("a", &asks)]);
    assert_eq!(texts(serve(&changes, "a")), ["192.0.2.3", "192.0.2.2"]);
    let wanted: Vec<_> =
        i.wanted().map(|w| (&*w.name, w.vips.len(), w.secondary_vips.len())).collect();
    assert_eq!(wanted, [("prod/d/a/80-tcp", 1, 0), ("prod/d/a/38412-sctp", 1, 2)]);
    assert_eq!(changes.pools[0].1.used, 3);
}

#[test]
fn a_service_of_sctp_alone_is_served() {
    let ports = json!({"ports": [{"port": 38412, "protocol": "SCTP", "nodePort": 30412}]});
    for mode in ["pods", "nodes"] {
        let metadata = json!({"annotations": {"sluice.dev/endpoints": mode}});
        let (i, changes) = after([pool("192.0.2.0/30"), shaped("a", &ports, &metadata)]);
        assert_eq!(reason(&changes, "a"), "served");
        assert_eq!(
            i.wanted().map(|w| w.protocol).collect::<Vec<_>>(),
            [sluice_api::Protocol::Sctp]
        );
    }
}

#[test]
fn pools_give_them_and_never_the_first_address_again() {
    for (sharing, wanted) in
        [("Shared", ["192.0.2.1", "198.51.100.0"]), ("Exclusive", ["192.0.2.1", "198.51.100.0"])]
    {
        let of = |name: &str, addresses: &str, manual: bool| {
            let spec = json!({"addresses": [addresses], "sharing": sharing, "manual": manual});
            pool_of(name, &spec)
        };
        let pools = [of("p", "192.0.2.0/31", false), of("q", "198.51.100.0/31", true)];
        let asks = json!({"sluice.dev/secondary-pools": "p, q"});
        let (_, changes) = after(pools.into_iter().chain([sctp("a", &asks)]));
        let got = serve(&changes, "a");
        assert_eq!(
            (got.addresses[0].to_string(), texts(got)),
            ("192.0.2.0".into(), wanted.map(String::from).into())
        );
    }
}

#[test]
fn they_survive_a_restart_and_an_edited_pool() {
    let asks = json!({"loxilb.io/poolSelectSecondary": "p,p"});
    let object = sctp("a", &asks);
    let (mut i, changes) = after([pool("192.0.2.4-192.0.2.7"), object.clone()]);
    let first = serve(&changes, "a").clone();
    assert_eq!(texts(&first), ["192.0.2.5", "192.0.2.6"]);
    let stored = written(&object, &first);
    i.apply(stored.clone());
    assert!(i.drain().outcomes.is_empty());
    let (mut fresh, changes) =
        after([service("b", None), stored.clone(), pool("192.0.2.4-192.0.2.7")]);
    assert_eq!(*serve(&changes, "a"), first);
    assert_eq!(serve(&changes, "b").addresses[0].to_string(), "192.0.2.7", "what is left");
    fresh.apply(pool("203.0.113.0/30"));
    let changes = fresh.drain();
    let kept = serve(&changes, "a");
    assert_eq!((&kept.addresses, &kept.secondary), (&first.addresses, &first.secondary));
    assert_eq!(reason(&changes, "a"), "AddressNotInPool");
}

#[test]
fn they_are_given_up_when_they_are_no_longer_asked_for() {
    let asks = json!({"sluice.dev/secondary-addresses": "192.0.2.1"});
    let (mut i, changes) = after([pool("192.0.2.0/31"), sctp("a", &asks)]);
    let had = serve(&changes, "a").clone();
    i.apply(written(&sctp("a", &asks), &had));
    i.apply(service("b", None));
    assert_eq!(reason(&i.drain(), "b"), "PoolExhausted");
    let without = sctp("a", &json!({}));
    i.apply(written(&without, &had));
    let changes = i.drain();
    assert_eq!(texts(serve(&changes, "a")), [""; 0]);
    assert_eq!(outcome(&changes, "b"), None, "it is still in the status");
    i.apply(written(&without, serve(&changes, "a")));
    assert_eq!(serve(&i.drain(), "b").addresses[0].to_string(), "192.0.2.1");
}

#[test]
fn what_cannot_be_had_is_refused_and_why() {
    let one = json!({"sluice.dev/secondary-addresses": "192.0.2.9"});
    for (annotations, spec, answer) in [
        (one.clone(), json!({}), "UnsupportedAnnotation"),
        (json!({"sluice.dev/secondary-addresses": "192.0.2.1"}), sctp_ports(), "AddressInUse"),
        (
            json!({"sluice.dev/secondary-addresses": "198.51.100.1"}),
            sctp_ports(),
            "AddressNotInPool",
        ),
        (
            json!({"sluice.dev/secondary-addresses": "2001:db8::9"}),
            sctp_ports(),
            "AddressFamilyMismatch",
        ),
        (
            json!({"sluice.dev/secondary-addresses": "192.0.2.2", "sluice.dev/addresses": "192.0.2.2"}),
            sctp_ports(),
            "AddressContradiction",
        ),
        (json!({"sluice.dev/secondary-pools": "q"}), sctp_ports(), "NoPool"),
        (json!({"sluice.dev/secondary-pools": "p,p,p"}), sctp_ports(), "PoolExhausted"),
        (
            json!({"sluice.dev/secondary-pools": "p", "sluice.dev/full-nat": "true"}),
            sctp_ports(),
            "AnnotationContradiction",
        ),
        (
            json!({"sluice.dev/secondary-pools": "p", "loxilb.io/epselect": "persist"}),
            sctp_ports(),
            "AnnotationContradiction",
        ),
        (json!({"sluice.dev/health": "tcp"}), sctp_ports(), "UnsupportedAnnotation"),
        (
            json!({"sluice.dev/health": "tcp", "loxilb.io/probeport": "8080"}),
            sctp_ports(),
            "served",
        ),
        (json!({"sluice.dev/health": "none"}), sctp_ports(), "served"),
        (json!({"sluice.dev/secondary-pools": "p"}), sctp_ports(), "served"),
    ] {
        let owner = service("b", Some("192.0.2.1"));
        let asking = shaped("a", &spec, &json!({"annotations": annotations}));
        let (i, changes) = after([pool("192.0.2.0-192.0.2.3"), owner, asking]);
        assert_eq!(reason(&changes, "a"), answer, "{annotations}");
        assert_eq!(reason(&changes, "b"), "served", "others are left alone");
        let held = i.pools.held_by(&ObjectName { namespace: "d".into(), name: "a".into() });
        assert_eq!(held.is_empty(), answer != "served", "half of it is not kept");
    }
}

fn sctp_ports() -> serde_json::Value {
    json!({"ports": [{"port": 38412, "protocol": "SCTP"}]})
}
