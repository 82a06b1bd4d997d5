//! Patches of Services, and what their objects say. One file knows the spelling.
//!
//! Strategic merge patches: finalizers and conditions are merged by the API server, so other writers are neither
//! overwritten nor waited for. Each names the UID, so a Service that was deleted and made anew is not meant.

use super::machine::{Ready, Write};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

pub use crate::index::{FINALIZER, has_finalizer};

/// Our condition of a Service.
pub const CONDITION: &str = "sluice.dev/Ready";

/// What our condition says; none when there is none.
#[must_use]
pub fn ready(object: &Service) -> Option<Ready> {
    let conditions = object.status.as_ref()?.conditions.as_ref()?;
    let ours = conditions.iter().find(|c| c.type_ == CONDITION)?;
    Some(Ready {
        is_served: ours.status == "True",
        reason: ours.reason.clone(),
        message: ours.message.clone(),
    })
}

/// The addresses in the status are these, with these ports.
#[must_use]
pub fn same_ingress(object: &Service, ingress: &[LoadBalancerIngress]) -> bool {
    let there = object.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let there = there.and_then(|l| l.ingress.as_deref()).unwrap_or_default();
    there == ingress
}

// === impl Write ===

impl Write {
    /// It goes to the `status` subresource.
    #[must_use]
    pub fn is_status(&self) -> bool {
        matches!(self, Write::Status { .. } | Write::ClearStatus { .. })
    }

    /// The body of the patch.
    #[must_use]
    pub fn body(&self, object: &Service, now: Timestamp) -> Value {
        let uid = &object.metadata.uid;
        match self {
            Write::AddFinalizer => json!({"metadata": {"uid": uid, "finalizers": [FINALIZER]}}),
            Write::RemoveFinalizer => {
                json!({"metadata": {"uid": uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]}})
            }
            Write::ClearStatus { with_addresses } => {
                let mut status = json!({"conditions": [{"$patch": "delete", "type": CONDITION}]});
                if let (true, Some(status)) = (with_addresses, status.as_object_mut()) {
                    status.insert("loadBalancer".to_owned(), json!({"ingress": null}));
                }
                json!({"metadata": {"uid": uid}, "status": status})
            }
            Write::Status { ingress, ready } => {
                let mut status = json!({"conditions": [condition(object, ready, now)]});
                if let (Some(ingress), Some(status)) = (ingress, status.as_object_mut()) {
                    status.insert("loadBalancer".to_owned(), json!({ "ingress": ingress }));
                }
                json!({"metadata": {"uid": uid}, "status": status})
            }
        }
    }
}

/// The time stays while the status does.
fn condition(object: &Service, ready: &Ready, now: Timestamp) -> Value {
    let status = if ready.is_served { "True" } else { "False" };
    let conditions = object.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut same = conditions.filter(|c| c.type_ == CONDITION && c.status == status);
    let since = same.next().map_or(now, |c| c.last_transition_time.0);
    let mut condition = json!({
        "type": CONDITION,
        "status": status,
        "reason": ready.reason,
        "message": ready.message,
        "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(since),
    });
    if let (Some(generation), Some(map)) = (object.metadata.generation, condition.as_object_mut()) {
        map.insert("observedGeneration".to_owned(), generation.into());
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_it_keeps_its_status() {
        let object: Service = serde_json::from_value(json!({
            "metadata": {"uid": "u", "generation": 3},
            "status": {"conditions": [{"type": CONDITION, "status": "True", "reason": "Served",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .unwrap();
        let now: Timestamp = "2026-02-02T00:00:00Z".parse().unwrap();
        for (is_served, since) in [(true, "2026-01-01T00:00:00Z"), (false, "2026-02-02T00:00:00Z")]
        {
            let ready = Ready { is_served, reason: "R".into(), message: "m".into() };
            let body = Write::Status { ingress: None, ready }.body(&object, now);
            assert_eq!(body.pointer("/metadata/uid"), Some(&json!("u")));
            assert_eq!(body.pointer("/status/loadBalancer"), None);
            let condition = body.pointer("/status/conditions/0").unwrap();
            assert_eq!(condition["lastTransitionTime"], since);
            assert_eq!(condition["observedGeneration"], 3);
        }
    }
}
