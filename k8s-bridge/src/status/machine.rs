//! What is to be written next about one Service. Pure: the outcome, the object and the appliances' verdict go in.

use super::patch::{has_finalizer, ready, same_ingress};
use super::reports::{Verdict, Why};
use crate::index::{Outcome, Serve, Trouble};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, PortStatus, Service, ServicePort};

/// The reason when all is well.
pub const SERVED: &str = "Served";

/// What a Service's object should say of its readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Served, or not.
    pub is_served: bool,
    /// CamelCase.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// One write to a Service's object.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Put the finalizer on; before any appliance hears of the Service.
    AddFinalizer,
    /// Say how it is served; no addresses leaves those that are there.
    Status {
        /// Addresses, when they are to be written.
        ingress: Option<Vec<LoadBalancerIngress>>,
        /// The condition.
        ready: Ready,
    },
    /// Take the condition out, and the addresses if they are ours; before the finalizer goes.
    ClearStatus {
        /// Those of another controller, which the Service was given to, stay.
        with_addresses: bool,
    },
    /// Let it go.
    RemoveFinalizer,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing: the object says what is.
    Done,
    /// An appliance is to act first.
    Wait(Why),
    /// Write.
    Write(Write),
    /// It is cleaned up: the index may hand its addresses out.
    Released,
}

/// What is known of one Service.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What the index says.
    pub outcome: &'a Outcome,
    /// The object as it was last seen.
    pub object: &'a Service,
    /// What the appliances say of [`Outcome::Serve`].
    pub verdict: &'a Verdict,
    /// Who may still have it, for [`Outcome::Release`]; none when it can go.
    pub held: Option<&'a Why>,
    /// The addresses in the status were written by us, as far as the object tells.
    pub is_status_ours: bool,
    /// It has been waited for long enough to say so.
    pub is_overdue: bool,
}

/// Decides.
#[must_use]
pub fn next(case: Case<'_>) -> Next {
    let object = case.object;
    match case.outcome {
        Outcome::Serve(_) if !has_finalizer(object) => Next::Write(Write::AddFinalizer),
        Outcome::Serve(serve) => match case.verdict {
            Verdict::Served(flaw) => served(serve, object, flaw.as_ref(), case.is_overdue),
            Verdict::Lost(why) => lost(serve, object, why, case.is_overdue),
            Verdict::Pending(why) if case.is_overdue || why.is_final => {
                if is_said(object, false, why.reason) {
                    return Next::Wait(why.clone());
                }
                not_served(object, why.reason, &why.message)
            }
            Verdict::Pending(why) => Next::Wait(why.clone()),
        },
        Outcome::Refuse(Trouble { reason, message }) => not_served(object, reason, message),
        Outcome::Release => match case.held {
            Some(why) => Next::Wait(why.clone()),
            None => release(object, case.is_status_ours),
        },
    }
}

fn release(object: &Service, is_status_ours: bool) -> Next {
    let with_addresses = is_status_ours && has_addresses(object);
    if with_addresses || ready(object).is_some() {
        return Next::Write(Write::ClearStatus { with_addresses });
    }
    if has_finalizer(object) {
        return Next::Write(Write::RemoveFinalizer);
    }
    Next::Released
}

/// What is not as wanted beside the serving is said with it: at once when it stays so, else when it is no matter of a
/// moment.
fn served(serve: &Serve, object: &Service, flaw: Option<&Why>, is_overdue: bool) -> Next {
    let ingress = ingress(serve, object);
    let is_told = |why: &&Why| is_overdue || why.is_final || is_said(object, true, why.reason);
    let told = flaw.filter(is_told);
    let said = words(serve, told);
    let is_same = match told {
        Some(why) => is_said(object, true, why.reason),
        None => ready(object).as_ref() == Some(&said) && is_current(object),
    };
    if is_same && same_ingress(object, &ingress) {
        return match flaw.filter(|_| told.is_none()) {
            Some(why) => Next::Wait(why.clone()),
            None => Next::Done,
        };
    }
    let ingress = Some(ingress).filter(|i| !same_ingress(object, i));
    Next::Write(Write::Status { ingress, ready: said })
}

/// The addresses are there whoever answers on them; that nobody does is said once it is no matter of a moment, such as a
/// pod that goes before its slice says so.
fn lost(serve: &Serve, object: &Service, why: &Why, is_overdue: bool) -> Next {
    let ingress = ingress(serve, object);
    let is_there = same_ingress(object, &ingress);
    if is_there && (is_said(object, false, why.reason) || !is_overdue) {
        return Next::Wait(why.clone());
    }
    let ready =
        Ready { is_served: false, reason: why.reason.to_owned(), message: why.message.clone() };
    Next::Write(Write::Status { ingress: Some(ingress).filter(|_| !is_there), ready })
}

/// What an appliance says in passing may change with every report; only another reason is news.
fn is_said(object: &Service, is_served: bool, reason: &str) -> bool {
    let is_same = |said: Ready| said.is_served == is_served && said.reason == reason;
    ready(object).is_some_and(is_same) && is_current(object)
}

fn not_served(object: &Service, reason: &str, message: &str) -> Next {
    let said = Ready { is_served: false, reason: reason.to_owned(), message: message.to_owned() };
    if ready(object).as_ref() == Some(&said) && is_current(object) {
        return Next::Done;
    }
    Next::Write(Write::Status { ingress: None, ready: said })
}

/// That it is served, and what is beside that not as wanted: the appliances' reason first, since it is the news.
fn words(serve: &Serve, flaw: Option<&Why>) -> Ready {
    let flaws = flaw.iter().map(|why| (why.reason, why.message.as_str()));
    let troubles = serve.troubles.iter().map(|one| (one.reason, one.message.as_str()));
    let all: Vec<_> = flaws.chain(troubles.take(1)).collect();
    let messages: Vec<&str> = all.iter().map(|(_, message)| *message).collect();
    match all.first() {
        None => Ready {
            is_served: true,
            reason: SERVED.to_owned(),
            message: "an appliance has it".to_owned(),
        },
        Some((reason, _)) => {
            Ready { is_served: true, reason: (*reason).to_owned(), message: messages.join("; ") }
        }
    }
}

/// The condition was written for the object's present generation, or the object has none.
fn is_current(object: &Service) -> bool {
    let conditions = object.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut ours = conditions.filter(|c| c.type_ == super::patch::CONDITION);
    ours.all(|c| c.observed_generation == object.metadata.generation)
}

/// There are addresses in the object's status.
#[must_use]
pub fn has_addresses(object: &Service) -> bool {
    let addresses = object.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    addresses.is_some_and(|l| l.ingress.as_ref().is_some_and(|i| !i.is_empty()))
}

/// What the status is to have: an entry an address, each with the ports that are served on it. Of secondary addresses those
/// are the ports of SCTP.
#[must_use]
pub fn ingress(serve: &Serve, object: &Service) -> Vec<LoadBalancerIngress> {
    let ports = object.spec.iter().flat_map(|s| s.ports.iter().flatten());
    let status = |p: &ServicePort| {
        let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let unserved = serve.unserved.iter().find(|u| u.port == p.port && u.protocol == protocol);
        PortStatus { port: p.port, protocol, error: unserved.map(|u| u.error.to_owned()) }
    };
    let ports: Vec<_> = ports.map(status).collect();
    let sctp: Vec<_> = ports.iter().filter(|port| port.protocol == "SCTP").cloned().collect();
    let entry = |address: &std::net::IpAddr, ports: &[PortStatus]| LoadBalancerIngress {
        ip: Some(address.to_string()),
        // Packets reach pods or node ports with another destination than the VIP, so kube-proxy must not take it.
        ip_mode: Some("Proxy".to_owned()),
        ports: Some(ports.to_vec()),
        ..LoadBalancerIngress::default()
    };
    let first = serve.addresses.iter().map(|address| entry(address, &ports));
    first.chain(serve.secondary.iter().map(|address| entry(address, &sctp))).collect()
}

#[cfg(test)]
mod tests {
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
        let ports = json!([{"port": 80}, {"port": 80, "protocol": "UDP"}, {"port": 36412, "protocol": "DCCP"}]);
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
            (
                "overdue",
                serve(),
                with(),
                none.clone(),
                lost.clone(),
                false,
                true,
                "false:NoAppliance:",
            ),
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
            (
                "refused",
                refuse(),
                with(),
                good.clone(),
                lost.clone(),
                false,
                false,
                "false:NoPool:",
            ),
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
            (
                "found again",
                serve(),
                with(),
                cut,
                Verdict::Served(None),
                false,
                false,
                "true:Served:",
            ),
            ("refused, said", refuse(), with(), refused, lost.clone(), false, false, "done"),
            ("going", Outcome::Release, with(), good.clone(), lost.clone(), false, false, "wait"),
            ("gone", Outcome::Release, with(), good, lost.clone(), true, false, "clear"),
            (
                "cleared",
                Outcome::Release,
                with(),
                none.clone(),
                lost.clone(),
                true,
                false,
                "remove",
            ),
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
}
