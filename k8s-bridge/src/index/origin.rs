//! Who wrote what of a Service. The API server keeps it in `metadata.managedFields`; this is the little that is needed.
//!
//! Addresses in a status mean nothing by themselves: K3s writes those of its nodes to every Service without a class. And
//! the finalizer has the same name with every controller of load balancers (KEP-980).

use super::status::FINALIZER;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

/// The field manager of bridges, to which all but the default class add their own: two bridges in one cluster must not
/// clean up each other's Services.
pub const FIELD_MANAGER: &str = "sluice-bridge";
/// The class that is not added.
pub const DEFAULT_CLASS: &str = "sluice.dev/edge";
/// The API server takes no longer name of a field manager.
const MAX_MANAGER: usize = 128;

/// Who wrote what of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The field managers of the addresses in its status, the latest last; none when there are none, or nothing tells.
    pub ingress: Vec<String>,
    /// We wrote them.
    pub is_ingress_ours: bool,
    /// We put the finalizer on.
    pub is_finalizer_ours: bool,
    /// Somebody else did.
    pub is_finalizer_foreign: bool,
}

/// Whom writes of the bridge for this class are ascribed to.
#[must_use]
pub fn field_manager(class: &str) -> String {
    if class == DEFAULT_CLASS {
        return FIELD_MANAGER.to_owned();
    }
    format!("{FIELD_MANAGER}:{class}").chars().take(MAX_MANAGER).collect()
}

// === impl Origin ===

impl Origin {
    /// Reads it from the object, whose fields may then go.
    #[must_use]
    pub fn of(service: &Service, our_manager: &str) -> Self {
        let finalizer = format!("v:\"{FINALIZER}\"");
        let mut ingress = Vec::new();
        let mut origin = Origin::default();
        for entry in service.metadata.managed_fields.iter().flatten() {
            let Some(manager) = &entry.manager else { continue };
            let has = |path: &[&str]| {
                let fields = entry.fields_v1.as_ref();
                let find = |all: &Value| path.iter().try_fold(all, |v, key| v.get(key)).is_some();
                fields.is_some_and(|fields| find(&fields.0))
            };
            if has(&["f:status", "f:loadBalancer", "f:ingress"]) {
                origin.is_ingress_ours |= manager == our_manager;
                ingress.push((entry.time.as_ref().map(|time| time.0), manager.clone()));
            }
            if has(&["f:metadata", "f:finalizers", &finalizer]) {
                origin.is_finalizer_ours |= manager == our_manager;
                origin.is_finalizer_foreign |= manager != our_manager;
            }
        }
        ingress.sort();
        origin.ingress = ingress.into_iter().map(|(_, who)| who).collect();
        origin
    }

    /// The addresses in the status were written by a bridge. Of which class the Service's own class tells.
    #[must_use]
    pub fn is_from_bridge(&self) -> bool {
        let is_bridge = |who: &str| {
            who.strip_prefix(FIELD_MANAGER).is_some_and(|r| r.is_empty() || r.starts_with(':'))
        };
        self.ingress.iter().any(|who| is_bridge(who))
    }

    /// Who else wrote the addresses in the status, if we have not.
    #[must_use]
    pub fn rival(&self) -> Option<&str> {
        self.ingress.last().map(String::as_str).filter(|_| !self.is_ingress_ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn origin(class: &str, fields: &Value) -> Origin {
        let o = json!({"metadata": {"managedFields": fields}});
        Origin::of(&serde_json::from_value(o).unwrap(), &field_manager(class))
    }

    fn entry(manager: &str, time: u8, fields: &Value) -> Value {
        json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": format!("2026-01-01T00:00:0{time}Z"), "fieldsV1": fields})
    }

    /// As an API server of 1.33 writes it.
    #[test]
    fn the_writers_are_those_of_the_fields() {
        let ingress = json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}});
        let condition = json!({"f:status": {"f:conditions": {".": {},
            "k:{\"type\":\"sluice.dev/Ready\"}": {".": {}, "f:status": {}}}}});
        let finalizer = json!({"f:metadata": {"f:finalizers": {".": {},
            "v:\"service.kubernetes.io/load-balancer-cleanup\"": {}}}});
        let other = json!({"f:metadata": {"f:finalizers": {"v:\"example.com/x\"": {}}}});
        let (us, edge) = (FIELD_MANAGER, DEFAULT_CLASS);
        for (class, fields, from_bridge, rival, finalizer_ours) in [
            (edge, json!([]), false, None, false),
            (edge, json!([entry(us, 1, &ingress), entry(us, 0, &finalizer)]), true, None, true),
            (edge, json!([entry(us, 1, &condition), entry(us, 0, &other)]), false, None, false),
            (
                edge,
                json!([entry(us, 1, &condition), entry("k3s", 0, &ingress)]),
                false,
                Some("k3s"),
                false,
            ),
            (
                edge,
                json!([entry("b", 2, &ingress), entry("a", 1, &ingress)]),
                false,
                Some("b"),
                false,
            ),
            (edge, json!([entry("cloud", 1, &finalizer)]), false, None, false),
            ("example.com/inner", json!([entry(us, 1, &finalizer)]), false, None, false),
            (
                "example.com/inner",
                json!([entry("sluice-bridge:example.com/inner", 1, &finalizer)]),
                false,
                None,
                true,
            ),
            (
                edge,
                json!([entry("sluice-bridges", 1, &ingress)]),
                false,
                Some("sluice-bridges"),
                false,
            ),
            (edge, json!([{"manager": "x"}, {"fieldsV1": ingress}]), false, None, false),
        ] {
            let got = origin(class, &fields);
            assert_eq!(
                (got.is_from_bridge(), got.rival(), got.is_finalizer_ours),
                (from_bridge, rival, finalizer_ours),
                "{class} {fields}"
            );
        }
    }

    #[test]
    fn every_class_has_a_manager_that_the_api_server_takes() {
        assert_eq!(field_manager(DEFAULT_CLASS), "sluice-bridge");
        let long = format!("example.com/{}", "x".repeat(200));
        assert_eq!(field_manager(&long).len(), 128);
    }
}
