//! Which ports of a Service can be served, by what is written of them alone.

use super::{EndpointMode, Trouble, trouble};
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use sluice_api::Protocol;

pub(super) fn protocol_text(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

pub(super) fn protocol(port: &ServicePort) -> Option<Protocol> {
    match protocol_text(port) {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

pub(super) fn has_sctp(spec: &ServiceSpec) -> bool {
    spec.ports.iter().flatten().any(|port| protocol(port) == Some(Protocol::Sctp))
}

pub(super) fn node_port(port: &ServicePort) -> Option<u16> {
    port.node_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

/// Ports that can be served; a Service all of whose ports cannot is of no use to anybody.
pub(super) fn served_ports(
    spec: &ServiceSpec,
    mode: EndpointMode,
) -> Result<Vec<(&ServicePort, Protocol)>, Trouble> {
    let all = spec.ports.iter().flatten();
    let ports: Vec<_> = all.clone().filter_map(|port| Some((port, protocol(port)?))).collect();
    if let (true, Some(port)) = (ports.is_empty(), all.clone().next()) {
        let what = format!("{} on port {} is not served", protocol_text(port), port.port);
        return Err(trouble("UnsupportedProtocol", what));
    }
    let without = ports.iter().find(|(port, _)| node_port(port).is_none());
    if let (EndpointMode::Nodes, Some((port, _))) = (mode, without) {
        let what = format!(
            "port {} has no nodePort to reach nodes at; set allocateLoadBalancerNodePorts: true or a nodePort, or \
             annotate the Service with sluice.dev/endpoints: pods",
            port.port
        );
        return Err(trouble("UnsupportedNodePort", what));
    }
    Ok(ports)
}

/// The ports that nodes have, when there are any.
pub(super) fn ports_of_nodes(spec: &ServiceSpec) -> Option<Vec<(&ServicePort, Protocol)>> {
    let ports = spec.ports.iter().flatten().filter(|port| node_port(port).is_some());
    let ports: Vec<_> = ports.filter_map(|port| Some((port, protocol(port)?))).collect();
    (!ports.is_empty()).then_some(ports)
}
