//! What follows from one Service.

use super::annotations::Asks;
use super::leases::{Ports, ProtocolKey};
use super::pools::permits;
use super::{EndpointMode, Index, ObjectName, Outcome, Serve, Trouble, endpoints, trouble};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use sluice_api::{Protocol, WantedRoute, WantedService};
use std::net::IpAddr;

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

// === impl Index ===

impl Index {
    /// Addresses in statuses stay with their Services; of two with the same one the older keeps it.
    pub(super) fn import(&mut self) {
        let mut by_age: Vec<_> = self.services.iter().collect();
        by_age.sort_by_key(|(_, s)| s.metadata.creation_timestamp.as_ref().map(|t| t.0));
        for (name, service) in by_age {
            for (address, ports) in status_addresses(service) {
                let ours = self.is_ours(service)
                    || (has_finalizer(service) && self.pools.of(address).is_some());
                if ours {
                    self.pools.import(address, name, &ports);
                }
            }
        }
    }

    fn is_ours(&self, service: &Service) -> bool {
        service.spec.as_ref().is_some_and(|s| {
            s.type_.as_deref() == Some("LoadBalancer")
                && s.load_balancer_class
                    .as_ref()
                    .map_or(self.settings.default_class, |c| *c == self.settings.class)
        })
    }

    pub(super) fn decide(&mut self, name: &ObjectName) -> (Option<Outcome>, Vec<WantedService>) {
        let Some(service) = self.services.get(name).cloned() else { return (None, Vec::new()) };
        let ours = self.is_ours(&service);
        if !ours || service.metadata.deletion_timestamp.is_some() {
            let was = has_finalizer(&service) && (ours || !self.pools.held_by(name).is_empty());
            return (was.then_some(Outcome::Release), Vec::new());
        }
        match self.serve(name, &service) {
            Ok((serve, wanted)) => (Some(Outcome::Serve(serve)), wanted),
            Err(why) => (Some(Outcome::Refuse(why)), Vec::new()),
        }
    }

    fn serve(
        &mut self,
        name: &ObjectName,
        service: &Service,
    ) -> Result<(Serve, Vec<WantedService>), Trouble> {
        let spec = service.spec.clone().unwrap_or_default();
        if self.settings.endpoints == EndpointMode::Nodes {
            return Err(trouble("UnsupportedMode", "endpoints on nodes are not served yet"));
        }
        let asks = Asks::of(service)?;
        let source_ranges = source_ranges(service)?;
        let mut serve = Serve::default();
        serve.addresses = self.addresses(name, service, &asks, &mut serve.troubles)?;
        let route = serve.addresses.first().and_then(|a| self.pools.of(*a)).map(|p| WantedRoute {
            local_pref: p.spec.route.local_pref,
            med: p.spec.route.med,
            communities: p.spec.route.communities.clone(),
        });
        let has_affinity = asks.affinity || spec.session_affinity.as_deref() == Some("ClientIP");
        let affinity_seconds = has_affinity.then(|| {
            let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
            config.and_then(|c| u32::try_from(c.timeout_seconds?).ok()).unwrap_or(10_800)
        });
        let mut wanted = Vec::new();
        for port in spec.ports.iter().flatten() {
            let text = port.protocol.as_deref().unwrap_or("TCP");
            let (protocol, lower) = match text {
                "TCP" => (Protocol::Tcp, "tcp"),
                "UDP" => (Protocol::Udp, "udp"),
                other => {
                    let what = format!("{other} on port {} is not served", port.port);
                    serve.troubles.push(trouble("UnsupportedProtocol", what));
                    continue;
                }
            };
            let slices = self.slices.get(name).into_iter().flat_map(|s| s.values());
            wanted.push(WantedService {
                name: format!(
                    "{}/{}/{}/{}-{lower}",
                    self.settings.source, name.namespace, name.name, port.port
                ),
                vips: serve.addresses.iter().map(ToString::to_string).collect(),
                port: u16::try_from(port.port).unwrap_or_default(),
                protocol,
                backends: endpoints::pods(slices, port.name.as_deref().unwrap_or_default(), text),
                source_ranges: source_ranges.clone(),
                affinity_seconds,
                full_nat: false,
                health: asks.health.clone(),
                idle_timeout_seconds: asks.idle_timeout,
                route: route.clone().unwrap_or_default(),
            });
        }
        serve.wanted = wanted.iter().map(|w| w.name.clone()).collect();
        Ok((serve, wanted))
    }

    fn addresses(
        &mut self,
        name: &ObjectName,
        service: &Service,
        asks: &Asks,
        troubles: &mut Vec<Trouble>,
    ) -> Result<Vec<IpAddr>, Trouble> {
        let spec = service.spec.clone().unwrap_or_default();
        let families = spec.ip_families.unwrap_or_else(|| vec!["IPv4".to_owned()]);
        let prefer = spec.ip_family_policy.as_deref() == Some("PreferDualStack");
        let ports = port_keys(service);
        let had = self.pools.held_by(name);
        if let Some(stranger) = asks.addresses.iter().find(|a| !families.contains(&family(**a))) {
            let what =
                format!("{stranger} is asked for, but ipFamilies is {}", families.join(", "));
            return Err(trouble("AddressFamilyMismatch", what));
        }
        let mut addresses = Vec::new();
        let mut missing = None;
        for family in &families {
            let v6 = family == "IPv6";
            let held = had.iter().copied().find(|a| a.is_ipv6() == v6);
            let asked = asks.addresses.iter().copied().find(|a| a.is_ipv6() == v6);
            let Some(address) = asked.or(held) else {
                match self.pools.claim_any(name, v6, &ports, asks.pool.as_deref()) {
                    Ok(address) => addresses.push(address),
                    Err(why) => missing = Some(why),
                }
                continue;
            };
            if !self.pools.of(address).is_some_and(|pool| permits(pool, name)) {
                if held != Some(address) {
                    let what = format!("no pool may give {address} to it; ask for another one");
                    return Err(trouble("AddressNotInPool", what));
                }
                let what = format!("{address} stays, though no pool gives it any longer");
                troubles.push(trouble("AddressNotInPool", what));
            }
            self.pools.claim(address, name, &ports).map_err(|taken| {
                let (by, at) = (taken.by.name, taken.by.namespace);
                let what = format!("Service {by} of namespace {at} has a port of it on {address}");
                trouble("AddressInUse", what)
            })?;
            addresses.push(address);
        }
        for address in had.iter().filter(|address| !addresses.contains(address)) {
            self.pools.release_one(name, *address);
        }
        match missing {
            Some(why) if !prefer || addresses.is_empty() => {
                // Half of what is asked for is of no use to the Service, but may be to another one.
                for address in addresses.iter().filter(|address| !had.contains(address)) {
                    self.pools.release_one(name, *address);
                }
                Err(why)
            }
            other => {
                troubles.extend(other);
                Ok(addresses)
            }
        }
    }
}

/// As `ipFamilies` spells it.
fn family(address: IpAddr) -> String {
    if address.is_ipv6() { "IPv6".to_owned() } else { "IPv4".to_owned() }
}

fn has_finalizer(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

fn port_keys(service: &Service) -> Ports {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports.filter_map(|p| key(p.port, p.protocol.as_deref().unwrap_or("TCP"))).collect()
}

fn key(port: i32, protocol: &str) -> Option<(u16, ProtocolKey)> {
    let protocol = match protocol {
        "TCP" => ProtocolKey::Tcp,
        "UDP" => ProtocolKey::Udp,
        _ => return None,
    };
    Some((u16::try_from(port).ok()?, protocol))
}

/// The addresses in the status, each with the ports that were served when it was written. Not those of the spec: whose
/// edit asked for a port that another Service has on a shared address must not have it because of a restart.
fn status_addresses(service: &Service) -> Vec<(IpAddr, Ports)> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = status.iter().flat_map(|l| l.ingress.iter().flatten());
    let read = |one: &LoadBalancerIngress| {
        let written = one.ports.as_ref().filter(|ports| !ports.is_empty());
        let ports = written.map_or_else(
            || port_keys(service),
            |ports| ports.iter().filter_map(|p| key(p.port, &p.protocol)).collect(),
        );
        Some((one.ip.as_ref()?.parse().ok()?, ports))
    };
    ingress.filter_map(read).collect()
}

/// One bad prefix refuses the Service: leaving it out might open it to everybody.
fn source_ranges(service: &Service) -> Result<Vec<String>, Trouble> {
    let spec = service.spec.as_ref().and_then(|s| s.load_balancer_source_ranges.clone());
    let texts = spec.filter(|s| !s.is_empty()).unwrap_or_else(|| {
        let text = service.metadata.annotations.as_ref().and_then(|a| a.get(RANGES));
        let text = text.map(|t| t.trim()).filter(|t| !t.is_empty());
        text.map(|t| t.split(',').map(str::to_owned).collect()).unwrap_or_default()
    });
    let one = |text: &String| {
        let net = text.trim().parse::<ipnet::IpNet>();
        net.map(|n| n.trunc().to_string())
            .map_err(|_| trouble("InvalidSourceRange", format!("{text:?} is no CIDR")))
    };
    texts.iter().map(one).collect()
}
