//! What bridges of other versions send, and what nobody should.

use super::*;
use serde_json::{Value, json};

fn service(more: Value) -> Value {
    let mut service = json!({
        "name": "prod/web", "vips": ["192.0.2.1"], "port": 80, "protocol": "tcp",
        "backends": [{ "address": "10.0.0.1", "port": 80, "weight": 1 }],
    });
    service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    service
}

fn state(services: &[Value], more: Value) -> String {
    let mut state = json!({ "owner": "uid", "generation": 1, "services": services });
    state.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    state.to_string()
}

#[test]
fn what_is_known_is_nothing_special() {
    let said = SaidState::read(state(&[service(json!({}))], json!({})).as_bytes()).unwrap();
    assert_eq!(said.beyond, Beyond::default());
    assert_eq!(said.services, [Sent::from(said.services[0].wanted.clone())]);
}

#[test]
fn unknown_members_are_kept_and_told() {
    let newer = service(json!({
        "algorithm": "least-connections",
        "backends": [
            { "address": "10.0.0.1", "port": 80, "weight": 1, "zone": "a" },
            { "address": "10.0.0.2", "port": 80, "weight": 1, "zone": "b" },
        ],
        "health": { "grpc": { "service": "x" } },
    }));
    let peers = json!([{ "name": "tor", "address": "10.0.0.1", "asn": 1, "bfd": true }]);
    let body = state(std::slice::from_ref(&newer), json!({ "peers": peers, "mesh": [1] }));
    let said = SaidState::read(body.as_bytes()).unwrap();
    let sent = &said.services[0];
    assert_eq!(sent.ignored, ["algorithm", "backends[].zone", "health.grpc"]);
    assert_eq!((sent.misfit.as_ref(), sent.wanted.backends.len()), (None, 2));
    assert_eq!(serde_json::to_value(sent).unwrap(), newer, "as it was sent");
    assert_eq!(said.beyond.members["mesh"].as_str(), "[1]");
    assert_eq!(said.beyond.ignored, BTreeSet::from(["peers[].bfd".to_owned()]));
    assert_eq!(said.beyond.peers.unwrap().as_str(), peers.to_string());
}

#[test]
fn one_service_that_does_not_fit_is_one() {
    let services = [service(json!({ "name": "prod/new", "protocol": "quic" })), service(json!({}))];
    let said = SaidState::read(state(&services, json!({})).as_bytes()).unwrap();
    let why = said.services[0].misfit.as_ref().unwrap();
    assert!(why.contains("quic") && why.contains("contract"), "{why}");
    assert_eq!(said.services[0].wanted.name, "prod/new");
    assert_eq!(serde_json::to_value(&said.services[0]).unwrap(), services[0]);
    assert_eq!(said.services[1].misfit, None);
}

#[test]
fn what_must_not_be_ignored_is_not() {
    let closed = service(json!({ "deny_ranges": ["10.0.0.0/8"], "requires": ["deny_ranges"] }));
    let said = SaidState::read(state(&[closed], json!({})).as_bytes()).unwrap();
    let why = said.services[0].misfit.as_ref().unwrap();
    assert!(why.contains("deny_ranges") && why.contains("update"), "{why}");
    assert_eq!(said.services[0].ignored, ["deny_ranges"]);
    let none = service(json!({ "requires": [] }));
    let said = SaidState::read(state(&[none], json!({})).as_bytes()).unwrap();
    assert_eq!((&said.services[0].misfit, said.services[0].ignored.len()), (&None, 0));
}

#[test]
fn a_text_that_cannot_be_shown_is_one_services_mistake() {
    let long = "x".repeat(5000);
    let bad = service(
        json!({ "name": "prod/bad", "health": { "http_path": "/\u{1b}[2J" }, "note": long }),
    );
    let peers = json!([{ "name": "tor", "address": "10.0.0.1\u{202e}", "asn": 1, "appliances": ["a\u{7}", "b"] }]);
    let more = json!({ "peers": peers, "mesh": "\u{9b}" });
    let said = SaidState::read(state(&[bad, service(json!({}))], more).as_bytes()).unwrap();
    let sent = &said.services[0];
    assert!(sent.misfit.as_ref().unwrap().contains("U+001B"), "{sent:?}");
    assert_eq!(said.services[1].misfit, None);
    // Nothing of it is kept but why, and that survives.
    let kept = serde_json::to_string(sent).unwrap();
    assert!(kept.len() < 300 && !kept.contains("http_path"), "{kept}");
    assert_eq!(&Sent::read(&serde_json::from_str::<Box<RawValue>>(&kept).unwrap()).unwrap(), sent);
    let peer = &said.peers[0];
    assert_eq!(
        (peer.address.as_str(), &peer.appliances[..]),
        ("10.0.0.1\\u{202e}", &["b".to_owned()][..])
    );
    assert_eq!((said.beyond.members.len(), said.beyond.ignored.len()), (0, 1));
    let name = service(json!({ "name": "prod/\u{1b}" }));
    assert!(
        SaidState::read(state(&[name], json!({})).as_bytes()).is_err(),
        "it could not even be reported"
    );
    assert!(SaidState::read(state(&[], json!({ "a\nb": 1 })).as_bytes()).is_err());
}

#[test]
fn nothing_that_is_sent_takes_more_than_its_place() {
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let nested = [deep("[", "]"), deep("{\"a\":", "}")];
    for nested in &nested {
        for (at, services) in [("mesh", 1), ("peers", 0), ("inside", 0)] {
            let good = service(json!({}));
            let body = format!(
                r#"{{"owner": "o", "generation": 1, "services": [{good}], "{at}": {nested}}}"#
            );
            let said = SaidState::read(body.as_bytes()).map_or(0, |said| said.services.len());
            assert_eq!(said, services, "{at}");
        }
        let body = format!(
            r#"{{"owner": "o", "generation": 1, "services": [{{"name": "a/b", "x": {nested}}}, {}]}}"#,
            service(json!({}))
        );
        let said = SaidState::read(body.as_bytes()).unwrap();
        assert!(said.services[0].misfit.is_some() && said.services[1].misfit.is_none());
        assert!(said.services[0].raw.as_ref().unwrap().as_str().len() < 300);
    }
    for (port, fits) in [
        (json!(70000), false),
        (json!(-1), false),
        (json!("80"), false),
        (json!(1.0), false),
        (json!(65535), true),
    ] {
        let said =
            SaidState::read(state(&[service(json!({ "port": port }))], json!({})).as_bytes())
                .unwrap();
        assert_eq!(said.services[0].misfit.is_none(), fits, "{port}");
    }
    for generation in [json!(-1), json!(1e30), json!("1"), Value::Null] {
        let body = state(&[], json!({ "generation": generation }));
        assert!(SaidState::read(body.as_bytes()).is_err(), "{generation}");
    }
}

#[test]
fn what_is_no_state_is_refused_with_the_reason() {
    for (body, word) in [
        (json!({ "nonsense": 1 }).to_string(), "owner is missing"),
        (json!({ "owner": 1 }).to_string(), "owner: invalid type"),
        (json!({ "owner": "a", "generation": 1 }).to_string(), "services is missing"),
        (json!({ "owner": "a", "generation": 1, "services": {} }).to_string(), "services: "),
        (json!({ "owner": "a", "generation": 1, "services": [{}] }).to_string(), "no name"),
        (json!({ "owner": "a\u{1b}[2J" }).to_string(), "U+001B"),
        ("[]".to_owned(), "expected a map"),
        ("{".to_owned(), "EOF"),
    ] {
        let why = SaidState::read(body.as_bytes()).unwrap_err();
        assert!(why.contains(word), "{body}: {why}");
    }
    assert!(SaidState::read(b"\xff").is_err());
    let marked = format!("\u{feff}{}\r\n", state(&[], json!({})));
    assert!(SaidState::read(marked.as_bytes()).is_ok());
}
