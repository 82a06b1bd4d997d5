//! What is to be written next about one Service. Pure: the outcome, the object and the appliances' verdict go in.

#[cfg(test)]
mod tests;

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
