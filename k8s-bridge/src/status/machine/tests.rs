//! What is written next, case by case.

use super::super::patch::FINALIZER;
use super::*;
use serde_json::{Value, json};

fn object(metadata: Value, status: Value) -> Service {
    let text = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}, "status": status});
    serde_json::from_value(text).unwrap()
}

fn ingress_of(ip: &str) -> Value {
    json!({"ingress": [{"ip": ip, "ipMode": "Proxy", "ports": [{"port": 80, "protocol": "TCP"}]}]})
}

fn condition(status: &str, reason: &str, message: &str, generation: i64) -> Value {
    json!([{"type": "sluice.dev/Ready", "status": status, "reason": reason, "message": message,
        "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

fn with() -> Value {
    json!({"finalizers": [FINALIZER], "generation": 2})
}

fn serve() -> Outcome {
    let addresses = vec!["192.0.2.1".parse().unwrap()];
    Outcome::Serve(Serve {
        addresses,
        wanted: vec!["s".into()],
        troubles: vec![],
        ..Serve::default()
    })
}

fn refuse() -> Outcome {
    Outcome::Refuse(Trouble { reason: "NoPool", message: "none".into() })
}

#[test]
fn a_port_that_is_not_served_says_so() {
    let ports =
        json!([{"port": 80}, {"port": 80, "protocol": "UDP"}, {"port": 36412, "protocol": "DCCP"}]);
    let mut object = object(with(), json!({}));
    object.spec.as_mut().unwrap().ports = serde_json::from_value(ports).unwrap();
    let Outcome::Serve(mut serve) = serve() else { unreachable!() };
    serve.unserved = vec![crate::index::Unserved {
        port: 36412,
        protocol: "DCCP".to_owned(),
        error: "sluice.dev/UnsupportedProtocol",
    }];
    let said = ingress(&serve, &object);
    let said: Vec<_> = said[0].ports.iter().flatten().map(|p| p.error.as_deref()).collect();
    assert_eq!(said, [None, None, Some("sluice.dev/UnsupportedProtocol")]);
}

#[test]
fn secondary_addresses_come_last_with_their_ports() {
    let ports = json!([{"port": 80}, {"port": 38412, "protocol": "SCTP"}]);
    let mut object = object(with(), json!({}));
    object.spec.as_mut().unwrap().ports = serde_json::from_value(ports).unwrap();
    let Outcome::Serve(mut serve) = serve() else { unreachable!() };
    serve.secondary = vec!["192.0.2.9".parse().unwrap()];
    let said = serde_json::to_value(ingress(&serve, &object)).unwrap();
    let sctp = json!({"port": 38412, "protocol": "SCTP"});
    assert_eq!(
        said,
        json!([
            {"ip": "192.0.2.1", "ipMode": "Proxy", "ports": [{"port": 80, "protocol": "TCP"}, sctp]},
            {"ip": "192.0.2.9", "ipMode": "Proxy", "ports": [sctp]},
        ])
    );
}

/// The next step in one word.
fn word(next: &Next) -> String {
    match next {
        Next::Done => "done".into(),
        Next::Wait(_) => "wait".into(),
        Next::Released => "released".into(),
        Next::Write(Write::AddFinalizer) => "add".into(),
        Next::Write(Write::RemoveFinalizer) => "remove".into(),
        Next::Write(Write::ClearStatus { with_addresses: true }) => "clear".into(),
        Next::Write(Write::ClearStatus { with_addresses: false }) => "clear ours".into(),
        Next::Write(Write::Status { ingress, ready }) => {
            let ips = ingress.iter().flatten().filter_map(|i| i.ip.clone()).collect::<Vec<_>>();
            format!("{}:{}:{}", ready.is_served, ready.reason, ips.join(","))
        }
    }
}

#[test]
fn the_whole_table() {
    let pending = |is_final| {
        let (reason, message) = ("NoAppliance", "dead".to_owned());
        Verdict::Pending(Why { reason, message, is_final })
    };
    let (none, lost) = (json!({}), pending(false));
    let good = json!({"loadBalancer": ingress_of("192.0.2.1"),
        "conditions": condition("True", "Served", "an appliance has it", 2)});
    let stale = json!({"loadBalancer": ingress_of("192.0.2.1"),
        "conditions": condition("True", "Served", "an appliance has it", 1)});
    let moved = json!({"loadBalancer": ingress_of("192.0.2.9")});
    let dead = json!({"conditions": condition("False", "NoAppliance", "other words", 2)});
    let refused = json!({"loadBalancer": ingress_of("192.0.2.1"),
        "conditions": condition("False", "NoPool", "none", 2)});
    let cut_off = Verdict::Lost(Why {
        reason: "EndpointsUnreachable",
        message: "appliance a: no route to 10.0.0.1".to_owned(),
        is_final: false,
    });
    let cut = json!({"loadBalancer": ingress_of("192.0.2.1"),
        "conditions": condition("False", "EndpointsUnreachable", "another gateway", 2)});
    for (what, outcome, meta, status, verdict, is_gone, is_overdue, expected) in [
        (
            "no finalizer",
            serve(),
            none.clone(),
            none.clone(),
            Verdict::Served(None),
            false,
            false,
            "add",
        ),
        ("waits", serve(), with(), none.clone(), lost.clone(), false, false, "wait"),
        ("overdue", serve(), with(), none.clone(), lost.clone(), false, true, "false:NoAppliance:"),
        ("said so", serve(), with(), dead, lost.clone(), false, true, "wait"),
        (
            "refused there",
            serve(),
            with(),
            none.clone(),
            pending(true),
            false,
            false,
            "false:NoAppliance:",
        ),
        (
            "served",
            serve(),
            with(),
            none.clone(),
            Verdict::Served(None),
            false,
            false,
            "true:Served:192.0.2.1",
        ),
        ("says so", serve(), with(), good.clone(), Verdict::Served(None), false, false, "done"),
        ("edited", serve(), with(), stale, Verdict::Served(None), false, false, "true:Served:"),
        (
            "moved",
            serve(),
            with(),
            moved,
            Verdict::Served(None),
            false,
            false,
            "true:Served:192.0.2.1",
        ),
        ("refused", refuse(), with(), good.clone(), lost.clone(), false, false, "false:NoPool:"),
        ("lost", serve(), with(), good.clone(), cut_off.clone(), false, false, "wait"),
        (
            "lost for long",
            serve(),
            with(),
            good.clone(),
            cut_off.clone(),
            false,
            true,
            "false:EndpointsUnreachable:",
        ),
        ("lost, said", serve(), with(), cut.clone(), cut_off.clone(), false, true, "wait"),
        (
            "lost from the start",
            serve(),
            with(),
            none.clone(),
            cut_off,
            false,
            false,
            "false:EndpointsUnreachable:192.0.2.1",
        ),
        ("found again", serve(), with(), cut, Verdict::Served(None), false, false, "true:Served:"),
        ("refused, said", refuse(), with(), refused, lost.clone(), false, false, "done"),
        ("going", Outcome::Release, with(), good.clone(), lost.clone(), false, false, "wait"),
        ("gone", Outcome::Release, with(), good, lost.clone(), true, false, "clear"),
        ("cleared", Outcome::Release, with(), none.clone(), lost.clone(), true, false, "remove"),
        ("free", Outcome::Release, none.clone(), none, lost, true, false, "released"),
    ] {
        let object = object(meta, status);
        let held = Why { reason: "Releasing", message: "x".to_owned(), is_final: false };
        let case = Case {
            outcome: &outcome,
            object: &object,
            verdict: &verdict,
            held: Some(&held).filter(|_| !is_gone),
            is_status_ours: true,
            is_overdue,
        };
        assert_eq!(word(&next(case)), expected, "{what}");
    }
}

#[test]
fn flaws_are_said_with_the_serving() {
    let flaw = |reason: &'static str, is_final| {
        let message = "appliance b: no room".to_owned();
        Verdict::Served(Some(Why { reason, message, is_final }))
    };
    let said = |reason: &str, message: &str| {
        json!({"loadBalancer": ingress_of("192.0.2.1"),
            "conditions": condition("True", reason, message, 2)})
    };
    let served = || said("Served", "an appliance has it");
    for (what, status, verdict, is_overdue, expected) in [
        ("refused by one", json!({}), flaw("X", true), false, "true:X:192.0.2.1"),
        ("for a moment", json!({}), flaw("X", false), false, "true:Served:192.0.2.1"),
        ("for a moment, served", served(), flaw("X", false), false, "wait"),
        ("for long", served(), flaw("X", false), true, "true:X:"),
        ("said", said("X", "other words"), flaw("X", false), false, "done"),
        ("another one", said("Y", "other words"), flaw("X", true), false, "true:X:"),
        ("mended", said("X", "no room"), Verdict::Served(None), false, "true:Served:"),
    ] {
        let (outcome, object) = (serve(), object(with(), status));
        let case = Case {
            outcome: &outcome,
            object: &object,
            verdict: &verdict,
            held: None,
            is_status_ours: true,
            is_overdue,
        };
        assert_eq!(word(&next(case)), expected, "{what}");
    }
}

#[test]
fn addresses_of_another_controller_stay_when_a_service_is_given_to_it() {
    let verdict = Verdict::Served(None);
    let theirs = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}});
    let mut both = theirs.clone();
    both["conditions"] = condition("True", "Served", "", 2);
    for (status, is_status_ours, expected) in [
        (both, false, "clear ours"),
        (theirs.clone(), false, "remove"),
        (theirs, true, "clear"),
        // The API server takes the addresses out itself when the type changes.
        (json!({}), true, "remove"),
    ] {
        let (outcome, object) = (Outcome::Release, object(with(), status));
        let case = Case {
            outcome: &outcome,
            object: &object,
            verdict: &verdict,
            held: None,
            is_status_ours,
            is_overdue: false,
        };
        assert_eq!(word(&next(case)), expected);
    }
}
