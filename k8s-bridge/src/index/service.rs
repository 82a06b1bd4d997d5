//! What follows from one Service.

use super::addresses::{self, Chosen};
use super::annotations::{Asks, Probing};
use super::endpoints::{self, Wish};
use super::pools::Asker;
use super::status::{Had, had};
use super::vocabulary::{LeftOut, Unserved};
use super::{EndpointMode, Index, ObjectName, Outcome, Serve, Trouble, limits, secondary, trouble};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use sluice_api::{Protocol, WantedBackend, WantedHealth, WantedRoute, WantedService};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
/// Where kube-proxy says whether the node may get traffic (KEP-3836).
const KUBE_PROXY_HEALTH: u16 = 10_256;

/// What is to be done about a Service.
#[derive(Default)]
pub(super) struct Decision {
    /// None when it is no business of ours.
    pub(super) outcome: Option<Outcome>,
    pub(super) wanted: Vec<WantedService>,
    /// To be looked at again when somebody gives something up.
    pub(super) waits: bool,
    /// To be looked at again when a node changes.
    pub(super) on_nodes: bool,
    pub(super) left_out: LeftOut,
}

/// What all ports of a Service have in common.
struct Common {
    mode: EndpointMode,
    local: bool,
    asks: Asks,
    source_ranges: Vec<String>,
    route: WantedRoute,
    vips: Vec<String>,
    /// Of its ports of SCTP.
    secondary_vips: Vec<String>,
    affinity_seconds: Option<u32>,
    health: Option<WantedHealth>,
}

// === impl Index ===

impl Index {
    pub(super) fn is_ours(&self, service: &Service) -> bool {
        service.spec.as_ref().is_some_and(|s| {
            s.type_.as_deref() == Some("LoadBalancer")
                && s.load_balancer_class
                    .as_ref()
                    .map_or(self.settings.default_class, |c| *c == self.settings.class)
        })
    }

    pub(super) fn decide(&mut self, name: &ObjectName) -> Decision {
        let Some(known) = self.services.get(name) else { return Decision::default() };
        let service = Arc::clone(&known.object);
        let ours = self.is_ours(&service);
        if !ours || service.metadata.deletion_timestamp.is_some() {
            let was = self.was_ours(name);
            return Decision { outcome: was.then_some(Outcome::Release), ..Decision::default() };
        }
        self.serve(name, &service).unwrap_or_else(|why| Decision {
            outcome: Some(Outcome::Refuse(why)),
            waits: true,
            ..Decision::default()
        })
    }

    fn serve(&mut self, name: &ObjectName, service: &Service) -> Result<Decision, Trouble> {
        let empty = ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&empty);
        let asks = Asks::of(service)?;
        secondary::check(&asks, spec)?;
        let source_ranges = source_ranges(service)?;
        let mode = asks.endpoints.unwrap_or(self.settings.endpoints);
        let local = spec.external_traffic_policy.as_deref() == Some("Local");
        for (is_asked, name) in [(asks.full_nat, "full NAT"), (asks.nat64, "NAT64")] {
            if local && is_asked == Some(true) {
                let what = format!(
                    "{name} hides the clients' addresses, and externalTrafficPolicy: Local is there to keep them; \
                     take one of them off"
                );
                return Err(trouble("ClientAddressLost", what));
            }
        }
        let ports = served_ports(spec, mode)?;
        let chosen = self.choose(name, service, &asks)?;
        let mut serve = Serve::default();
        for port in spec.ports.iter().flatten().filter(|port| protocol(port).is_none()) {
            let text = protocol_text(port);
            let (port, protocol) = (port.port, text.to_owned());
            let error = "sluice.dev/UnsupportedProtocol";
            serve.unserved.push(Unserved { port, protocol, error });
            let what = format!("{text} on port {port} is not served; its other ports are");
            serve.troubles.push(trouble("UnsupportedProtocol", what));
        }
        let common = Common {
            mode,
            local,
            source_ranges,
            route: self.route(name, &chosen.addresses),
            vips: chosen.addresses.iter().map(ToString::to_string).collect(),
            secondary_vips: chosen.secondary.iter().map(ToString::to_string).collect(),
            affinity_seconds: affinity(spec, &asks),
            health: health(spec, &asks, mode, local),
            asks,
        };
        let on_nodes = mode == EndpointMode::Nodes || common.asks.node_label.is_some();
        let of = |(port, protocol)| self.wanted_of(name, spec, port, protocol, &common);
        let mut wanted: Vec<WantedService> = ports.into_iter().map(of).collect();
        let cut = limits::cut(&mut wanted);
        serve.unserved.extend(cut.unserved);
        serve.troubles.extend(cut.troubles);
        serve.troubles.extend(chosen.troubles);
        serve.addresses = chosen.addresses;
        serve.secondary = chosen.secondary;
        serve.wanted = wanted.iter().map(|w| w.name.clone()).collect();
        let (outcome, left_out) = (Some(Outcome::Serve(serve)), cut.left_out);
        Ok(Decision { outcome, wanted, waits: chosen.waits, on_nodes, left_out })
    }

    fn choose(
        &mut self,
        name: &ObjectName,
        service: &Service,
        asks: &Asks,
    ) -> Result<Chosen, Trouble> {
        let had = match self.said.get(name) {
            Some(Outcome::Serve(serve)) => {
                Had { addresses: serve.addresses.clone(), secondary: serve.secondary.clone() }
            }
            _ => had(service),
        };
        let none = BTreeMap::new();
        let who = Asker {
            name,
            namespace_labels: self.namespaces.get(&name.namespace),
            labels: service.metadata.labels.as_ref().unwrap_or(&none),
        };
        addresses::choose(&mut self.pools, who, service, asks, &had)
    }

    /// What its addresses are announced with. While no pool has them (a pool being edited wrongly, say) it is what it
    /// was, so that a typing error moves no traffic.
    fn route(&self, name: &ObjectName, addresses: &[IpAddr]) -> WantedRoute {
        let pool = addresses.iter().find_map(|address| self.pools.of(*address));
        let before = || self.wanted.get(name)?.first().map(|wanted| wanted.route.clone());
        pool.map(|pool| &pool.spec().route).map_or_else(
            || before().unwrap_or_default(),
            |route| WantedRoute {
                local_pref: route.local_pref,
                med: route.med,
                communities: route.communities.clone(),
            },
        )
    }

    fn wanted_of(
        &self,
        name: &ObjectName,
        spec: &ServiceSpec,
        port: &ServicePort,
        protocol: Protocol,
        common: &Common,
    ) -> WantedService {
        let text = protocol_text(port);
        let (source, lower) = (&self.settings.source, text.to_ascii_lowercase());
        WantedService {
            name: format!("{source}/{}/{}/{}-{lower}", name.namespace, name.name, port.port),
            vips: common.vips.clone(),
            secondary_vips: match protocol {
                Protocol::Sctp => common.secondary_vips.clone(),
                Protocol::Tcp | Protocol::Udp => Vec::new(),
            },
            port: u16::try_from(port.port).unwrap_or_default(),
            protocol,
            backends: self.backends(name, spec, port, common),
            source_ranges: common.source_ranges.clone(),
            affinity_seconds: common.affinity_seconds,
            full_nat: common.asks.full_nat.unwrap_or_default(),
            nat64: common.asks.nat64.unwrap_or_default(),
            health: common.health.clone(),
            on_down: None,
            idle_timeout_seconds: common.asks.idle_timeout,
            route: common.route.clone(),
        }
    }

    fn backends(
        &self,
        name: &ObjectName,
        spec: &ServiceSpec,
        port: &ServicePort,
        common: &Common,
    ) -> Vec<WantedBackend> {
        let near = ["PreferSameZone", "PreferClose", "PreferSameNode"];
        let prefers = spec.traffic_distribution.as_deref().is_some_and(|text| near.contains(&text));
        let wish = Wish {
            port_name: port.name.as_deref().unwrap_or_default(),
            protocol: protocol_text(port),
            zone: self.settings.zone.as_deref().filter(|_| prefers),
            node_label: common.asks.node_label.as_deref(),
        };
        let slices = self.slices.of(name);
        let mut backends = match common.mode {
            EndpointMode::Pods => endpoints::pods(slices, &self.nodes, wish),
            EndpointMode::Nodes => {
                let number = node_port(port).unwrap_or_default();
                // A node has addresses of both families; a port of its own only in those of the Service.
                let has = |v6: bool| common.vips.iter().any(|vip| vip.contains(':') == v6);
                let families = [false, true].into_iter().filter(|v6| has(*v6)).collect::<Vec<_>>();
                endpoints::nodes(slices, &self.nodes, wish, (number, &families), common.local)
            }
        };
        if common.asks.nat64 == Some(true) {
            // Those of IPv6 would only be probed, and have next hops looked for.
            backends.retain(|backend| !backend.address.contains(':'));
        }
        backends
    }
}

fn protocol_text(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn protocol(port: &ServicePort) -> Option<Protocol> {
    match protocol_text(port) {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn node_port(port: &ServicePort) -> Option<u16> {
    port.node_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

/// Ports that can be served; a Service all of whose ports cannot is of no use to anybody.
fn served_ports(
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

fn affinity(spec: &ServiceSpec, asks: &Asks) -> Option<u32> {
    let has = asks.affinity || spec.session_affinity.as_deref() == Some("ClientIP");
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let written = config.and_then(|c| u32::try_from(c.timeout_seconds?).ok());
    has.then(|| written.unwrap_or(10_800))
}

/// Nodes are asked where kube-proxy answers: with `externalTrafficPolicy: Local` whether there are endpoints on the
/// node, else whether the node is to get traffic.
fn health(
    spec: &ServiceSpec,
    asks: &Asks,
    mode: EndpointMode,
    local: bool,
) -> Option<WantedHealth> {
    match (&asks.health, mode) {
        (Probing::By(health), _) => Some(health.clone()),
        (Probing::Off, _) | (Probing::AsUsual, EndpointMode::Pods) => None,
        (Probing::AsUsual, EndpointMode::Nodes) => {
            let own = spec.health_check_node_port.and_then(|port| u16::try_from(port).ok());
            let port = if local { own.filter(|port| *port > 0)? } else { KUBE_PROXY_HEALTH };
            let http_path = Some("/healthz".to_owned());
            Some(WantedHealth { http_path, port: Some(port), ..WantedHealth::default() })
        }
    }
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
