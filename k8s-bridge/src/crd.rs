//! Our custom resources, `sluice.dev/v1alpha1`; `deploy/crds.yaml` is generated from here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Addresses for Services. Cluster-scoped.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    pub addresses: Vec<String>,
    /// Shared lets one address serve many Services on different ports; exclusive gives each Service its own.
    #[serde(default)]
    pub sharing: Sharing,
    /// Pools with a higher number are used first; among equals the name decides.
    #[serde(default)]
    pub priority: i32,
    /// Give addresses only to Services that ask for this pool or one of its addresses.
    #[serde(default)]
    pub manual: bool,
    /// Leave out the first and last address of each IPv4 CIDR shorter than /31.
    #[serde(default)]
    pub avoid_network_and_broadcast: bool,
    /// Only for Services in these namespaces; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// LOCAL_PREF towards internal peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// MED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// `ASN:VALUE` or `ASN:A:B` (large).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
}

/// What a pool has given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolStatus {
    /// Addresses in use.
    #[serde(default)]
    pub used: i64,
    /// Addresses that are free; at most 2^63 - 1.
    #[serde(default)]
    pub free: i64,
    /// `Ready`, and what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A router to peer with. Cluster-scoped.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    pub address: String,
    /// AS number of the peer.
    pub asn: i64,
    /// TCP port; default 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Hold time to propose; 0 for none, else at least 3; default 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time_seconds: Option<i32>,
    /// Never dial, only accept.
    #[serde(default)]
    pub passive: bool,
    /// Names of the appliances that are to peer; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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

/// Every definition, for `kubectl apply`.
///
/// # Errors
/// A definition that cannot be written as YAML, which would be a mistake here.
pub fn manifest() -> Result<String, serde_saphyr::ser::Error> {
    use kube::CustomResourceExt;
    let all =
        [serde_saphyr::to_string(&AddressPool::crd())?, serde_saphyr::to_string(&Peer::crd())?];
    Ok(format!("---\n{}", all.join("---\n")))
}
