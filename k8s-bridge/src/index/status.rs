//! What Services' objects say of what they had.

use super::leases::{Ports, ProtocolKey};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, PortStatus, Service, ServicePort};
use std::net::IpAddr;

/// Keeps a Service until the appliances no longer have it (KEP-980).
pub const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// The error of a port that another Service has at the same address.
pub(super) const PORT_IN_USE: &str = "sluice.dev/AddressInUse";

/// The finalizer is on.
#[must_use]
pub fn has_finalizer(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// Ports of the spec that can be served.
pub(super) fn port_keys(service: &Service) -> Ports {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports.filter_map(port_key).collect()
}

pub(super) fn port_key(port: &ServicePort) -> Option<(u16, ProtocolKey)> {
    key(port.port, port.protocol.as_deref().unwrap_or("TCP"))
}

fn key(port: i32, protocol: &str) -> Option<(u16, ProtocolKey)> {
    let protocol = match protocol {
        "TCP" => ProtocolKey::Tcp,
        "UDP" => ProtocolKey::Udp,
        "SCTP" => ProtocolKey::Sctp,
        _ => return None,
    };
    Some((u16::try_from(port).ok()?, protocol))
}

/// What a Service was served with.
#[derive(Default)]
pub(super) struct Had {
    /// One of each family.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) secondary: Vec<IpAddr>,
}

/// By the order of the status: the first of each family, then the secondary ones.
pub(super) fn had(service: &Service) -> Had {
    let mut had = Had::default();
    for (address, _) in status_addresses(service) {
        let is_second = had.addresses.iter().any(|first| first.is_ipv6() == address.is_ipv6());
        if is_second { &mut had.secondary } else { &mut had.addresses }.push(address);
    }
    had
}

/// The addresses in the status, each with the ports that were served when it was written. Not those of the spec: whose
/// edit asked for a port that another Service has on a shared address must not have it because of a restart.
pub(super) fn status_addresses(service: &Service) -> Vec<(IpAddr, Ports)> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = status.iter().flat_map(|l| l.ingress.iter().flatten());
    let is_had = |port: &&PortStatus| port.error.as_deref() != Some(PORT_IN_USE);
    let read = |one: &LoadBalancerIngress| {
        let written = one.ports.as_ref().filter(|ports| !ports.is_empty());
        let ports = written.map_or_else(
            || port_keys(service),
            |ports| ports.iter().filter(is_had).filter_map(|p| key(p.port, &p.protocol)).collect(),
        );
        let by_name = || address_of(one.hostname.as_deref()?);
        Some((one.ip.as_ref().and_then(|ip| ip.parse().ok()).or_else(by_name)?, ports))
    };
    ingress.filter_map(read).collect()
}

/// kube-loxilb writes its zone, a hyphen and the address, `-` for `:` (`llb-203.0.113.150`).
fn address_of(hostname: &str) -> Option<IpAddr> {
    let after = |(at, _): (usize, &str)| hostname.get(at + 1..);
    let read = |text: &str| text.parse().or_else(|_| text.replace('-', ":").parse()).ok();
    hostname.match_indices('-').filter_map(after).find_map(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_names_are_read() {
        for (name, address) in [
            ("llb-203.0.113.150", Some("203.0.113.150")),
            ("llb-2001-db8--1", Some("2001:db8::1")),
            ("edge-zone-203.0.113.150", Some("203.0.113.150")),
            ("llbanyextip", None),
            ("lb-1.example.com", None),
            ("203.0.113.150.nip.io", None),
            ("a-", None),
        ] {
            let wanted = address.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(address_of(name), wanted, "{name}");
        }
    }
}
