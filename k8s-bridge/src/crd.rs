//! Our custom resources, `sluice.dev/v1alpha1`; `deploy/crds.yaml` is generated from here.

#![allow(unreachable_pub, reason = "KubeSchema repeats each struct where nothing can reach it")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::core::CustomResourceExt;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

// Rules that the API server applies when an object is written, so that a typing error never gets as far as the bridge;
// the index does not rely on them. Bounds on lengths keep their estimated cost below the API server's limit.

/// An address, a CIDR, or a range within one family.
const ADDRESSES: &str = "self.all(a, isIP(a) || isCIDR(a) || (a.contains('-') && size(a.split('-')) == 2 && \
    a.split('-').all(p, isIP(p.trim())) && \
    ip(a.split('-')[0].trim()).family() == ip(a.split('-')[1].trim()).family()))";
/// A range of IPv4 begins with the lower address. CEL compares no addresses, and IPv6 has too many spellings: of those the
/// pool's condition tells.
const IN_ORDER: &str = "self.all(a, !a.contains('-') || a.contains(':') || size(a.split('-')) != 2 || \
    !a.split('-').all(p, isIP(p.trim())) || \
    int(a.split('-')[0].trim().split('.')[0]) * 16777216 + int(a.split('-')[0].trim().split('.')[1]) * 65536 + \
    int(a.split('-')[0].trim().split('.')[2]) * 256 + int(a.split('-')[0].trim().split('.')[3]) <= \
    int(a.split('-')[1].trim().split('.')[0]) * 16777216 + int(a.split('-')[1].trim().split('.')[1]) * 65536 + \
    int(a.split('-')[1].trim().split('.')[2]) * 256 + int(a.split('-')[1].trim().split('.')[3]))";
/// `ASN:VALUE` has two numbers of 16 bits (RFC 1997), `ASN:A:B` three of 32 (RFC 8092).
const COMMUNITIES: &str = "self.all(c, c.matches('^[0-9]{1,10}(:[0-9]{1,10}){1,2}$') && \
    c.split(':').all(n, int(n) <= (size(c.split(':')) == 2 ? 65535 : 4294967295)))";

/// Addresses for Services. Cluster-scoped.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "AddressPool",
    plural = "addresspools",
    shortname = "pool",
    status = "AddressPoolStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Addresses that Sluice may give to Services of type LoadBalancer.",
    printcolumn = r#"{"name":"Addresses","type":"string","jsonPath":".spec.addresses"}"#,
    printcolumn = r#"{"name":"Used","type":"integer","jsonPath":".status.used"}"#,
    printcolumn = r#"{"name":"Free","type":"integer","jsonPath":".status.free"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolSpec {
    /// CIDRs (`203.0.113.0/24`), ranges (`203.0.113.10-203.0.113.20`) or single addresses, of either family.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 100)))]
    #[x_kube(validation = Rule::new(ADDRESSES).message("takes IP addresses, CIDRs (203.0.113.0/24) and ranges (203.0.113.1-203.0.113.9)"), validation = Rule::new(IN_ORDER).message("has a range that ends before it begins"))]
    pub addresses: Vec<String>,
    /// Shared lets one address serve many Services on different ports; exclusive gives each Service its own.
    #[serde(default)]
    pub sharing: Sharing,
    /// Pools with a higher number are used first; among equals the name decides.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: i32,
    /// Give addresses only to Services that ask for this pool or one of its addresses.
    #[serde(default)]
    pub manual: bool,
    /// Leave out the first and last address of each IPv4 CIDR shorter than /31.
    #[serde(default)]
    pub avoid_network_and_broadcast: bool,
    /// Only for Services in these namespaces; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Only for Services in namespaces with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Only for Services with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// BGP attributes of routes to addresses of this pool.
    #[serde(default)]
    pub route: RouteSpec,
}

/// How addresses are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Sharing {
    /// An address serves many Services, on different ports.
    Shared,
    /// An address serves one Service.
    #[default]
    Exclusive,
}

/// BGP attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// LOCAL_PREF towards internal peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_of_32_bits")]
    pub local_pref: Option<u32>,
    /// MED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number_of_32_bits")]
    pub med: Option<u32>,
    /// `ASN:VALUE` or `ASN:A:B` (large).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 3, max = 32)))]
    #[x_kube(validation = Rule::new(COMMUNITIES).message("takes ASN:VALUE with numbers up to 65535, or ASN:A:B with numbers up to 4294967295"))]
    pub communities: Vec<String>,
}

/// What a pool has given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolStatus {
    /// Addresses in use, by machines and other controllers too.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub used: i64,
    /// Addresses that are free; at most 2^63 - 1.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub free: i64,
    /// `Ready`, and what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A router to peer with. Cluster-scoped.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Peer",
    plural = "peers",
    status = "PeerStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "A router that the appliances announce Services' addresses to.",
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"ASN","type":"integer","jsonPath":".spec.asn"}"#,
    printcolumn = r#"{"name":"Established","type":"string","jsonPath":".status.conditions[?(@.type=='Established')].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PeerSpec {
    /// IP address, without port.
    #[schemars(length(min = 2, max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)").message("takes one IP address, without port"))]
    pub address: String,
    /// AS number of the peer.
    #[schemars(range(min = 1, max = 4_294_967_294_i64))]
    pub asn: i64,
    /// TCP port; default 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// Hold time to propose; 0 for none, else at least 3; default 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65_535))]
    #[x_kube(validation = Rule::new("self == 0 || self >= 3").message("takes 0, or at least 3 seconds"))]
    pub hold_time_seconds: Option<i32>,
    /// Never dial, only accept.
    #[serde(default)]
    pub passive: bool,
    /// Names of the appliances that are to peer; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub appliances: Vec<String>,
}

/// How the sessions are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// `Established` on every appliance that is to peer, and what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An unsigned number of 32 bits. Kubernetes knows no `uint32`, and refuses a maximum beyond `int32` with that format.
fn number_of_32_bits(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX})
}

/// Why the definitions cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not as JSON.
    #[error("a definition is no JSON")]
    Json(#[from] serde_json::Error),
    /// Not as YAML.
    #[error("a definition is no YAML")]
    Yaml(#[from] serde_saphyr::ser_error::Error),
}

/// The definitions of our resources for `kubectl apply`; `deploy/crds.yaml` is this.
///
/// # Errors
/// When a definition cannot be written, which would be a mistake here.
pub fn manifest() -> Result<String, ManifestError> {
    let mut text = "# Generated by `sluice-bridge crds`; do not edit.\n".to_owned();
    for definition in [AddressPool::crd(), Peer::crd()] {
        let mut value = serde_json::to_value(definition)?;
        whole_numbers(&mut value);
        text.push_str("---\n");
        text.push_str(serde_saphyr::to_string(&value)?.trim_end());
        text.push('\n');
    }
    Ok(text)
}

/// Kubernetes' types hold bounds as floating-point numbers; `65535.0` reads badly.
fn whole_numbers(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) => {
            let text = number.to_string();
            let whole = text.strip_suffix(".0").and_then(|whole| whole.parse::<i64>().ok());
            if let Some(whole) = whole {
                *number = whole.into();
            }
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(whole_numbers),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// `SLUICE_REGENERATE=1 cargo test -p sluice-bridge crds_yaml` writes the file anew.
    #[test]
    fn crds_yaml_is_current() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/crds.yaml");
        let wanted = manifest().unwrap();
        if std::env::var_os("SLUICE_REGENERATE").is_some() {
            std::fs::write(&file, &wanted).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == wanted,
            "{} has drifted from the types: run `SLUICE_REGENERATE=1 cargo test -p sluice-bridge crds_yaml` and \
             commit it",
            file.display()
        );
    }

    /// Calls `see` with every schema below this one.
    fn walk(path: &str, value: &Value, see: &mut impl FnMut(&str, &Value)) {
        see(path, value);
        for (key, one) in value.as_object().into_iter().flatten() {
            walk(&format!("{path}.{key}"), one, see);
        }
    }

    #[test]
    fn every_number_of_ours_has_bounds_that_its_format_holds() {
        let mut seen = 0;
        for definition in [AddressPool::crd(), Peer::crd()] {
            let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
            walk("", &schema, &mut |path, one| {
                if one["type"] != "integer" || path.contains("conditions") {
                    return;
                }
                seen += 1;
                let (low, high) = (one["minimum"].as_f64(), one["maximum"].as_f64());
                assert!(low.is_some(), "{path} has no minimum");
                match one["format"].as_str() {
                    Some("int32") => assert!(high.unwrap() <= f64::from(i32::MAX), "{path}"),
                    other => assert_eq!(other, Some("int64"), "{path}"),
                }
            });
        }
        assert_eq!(seen, 8, "numbers of both resources");
    }
}
