//! How endpoints are probed that nobody has said anything about.

use super::annotations::{Asks, Probing};
use super::ports::{node_port, protocol};
use super::{EndpointMode, NodeHealth};
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use sluice_api::{Protocol, WantedHealth};

/// Where kube-proxy says whether the node may get traffic (KEP-3836).
const KUBE_PROXY_HEALTH: u16 = 10_256;

/// The health check of one port. Pods need none: the kubelet asks them.
pub(super) fn health(
    spec: &ServiceSpec,
    port: &ServicePort,
    asks: &Asks,
    mode: EndpointMode,
    by_default: NodeHealth,
) -> Option<WantedHealth> {
    match (&asks.health, mode) {
        (Probing::By(health), _) => Some(health.clone()),
        (Probing::Off, _) | (Probing::AsUsual, EndpointMode::Pods) => None,
        (Probing::AsUsual, EndpointMode::Nodes) => match asks.node_health.unwrap_or(by_default) {
            NodeHealth::NodePort => by_node_port(spec, port),
            NodeHealth::KubeProxy => by_kube_proxy(spec),
        },
    }
}

/// A connection to the node port. Of UDP and SCTP none can be made: the Service's first port of TCP stands for them, and
/// without one nodes are not probed.
fn by_node_port(spec: &ServiceSpec, port: &ServicePort) -> Option<WantedHealth> {
    if is_tcp(port) {
        return Some(WantedHealth::default());
    }
    let other = spec.ports.iter().flatten().filter(|port| is_tcp(port)).find_map(node_port)?;
    Some(WantedHealth { port: Some(other), ..WantedHealth::default() })
}

/// Where kube-proxy answers: with `externalTrafficPolicy: Local` whether there are endpoints on the node, else whether the
/// node is to get traffic.
fn by_kube_proxy(spec: &ServiceSpec) -> Option<WantedHealth> {
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let own = spec.health_check_node_port.and_then(|port| u16::try_from(port).ok());
    let port = if is_local { own.filter(|port| *port > 0)? } else { KUBE_PROXY_HEALTH };
    let http_path = Some("/healthz".to_owned());
    Some(WantedHealth { http_path, port: Some(port), ..WantedHealth::default() })
}

fn is_tcp(port: &ServicePort) -> bool {
    protocol(port) == Some(Protocol::Tcp)
}
