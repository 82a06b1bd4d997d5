//! What follows from one Service.

use super::annotations::Asks;
use super::endpoints::{self, Wish};
use super::guard::{Refused, has_selector};
use super::live::{self, Judge};
use super::ports::{has_sctp, node_port, ports_of_nodes, protocol_text, served_ports};
use super::probes;
use super::source_ranges::source_ranges;
use super::status::{Had, PORT_IN_USE, port_key};
use super::vocabulary::{LeftOut, Unserved};
use super::{EndpointMode, Index, ObjectName, Outcome, Serve, Trouble, limits, secondary, trouble};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use sluice_api::{OnDown, Protocol, WantedBackend, WantedRoute, WantedService};
use std::net::IpAddr;
use std::sync::Arc;

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
    refused: Refused,
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

    /// It is ours and is not to go.
    pub(crate) fn is_to_be_served(&self, service: &Service) -> bool {
        self.is_ours(service) && service.metadata.deletion_timestamp.is_none()
    }

    /// What the names of wanted services of this Service begin with.
    pub(crate) fn wanted_prefix(&self, name: &ObjectName) -> String {
        format!("{}/{}/{}/", self.settings.source, name.namespace, name.name)
    }

    pub(super) fn decide(&mut self, name: &ObjectName) -> Decision {
        let Some(known) = self.services.get(name) else { return Decision::default() };
        let service = Arc::clone(&known.object);
        if !self.is_to_be_served(&service) {
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
        let had = self.had(name, service);
        let mut judge = Judge::new(!self.pools.held_by(name).is_empty());
        let mut asks = asks(service, spec, &had, &mut judge)?;
        let source_ranges = source_ranges(service, &mut judge)?;
        let mut mode = asks.endpoints.unwrap_or(self.settings.endpoints);
        let local = spec.external_traffic_policy.as_deref() == Some("Local");
        if local {
            // Both stay as they are: without them answers might not find back.
            live::hides_clients(&asks).try_for_each(|why| judge.take(why))?;
        }
        let mut ports = match served_ports(spec, mode) {
            Ok(ports) => ports,
            Err(why) => {
                judge.take(why.clone())?;
                // Where it is not by its own wish that nodes are used, the ports that nodes have go on.
                mode = self.settings.endpoints;
                served_ports(spec, mode).or_else(|_| ports_of_nodes(spec).ok_or(why))?
            }
        };
        let (milder, chosen) = self.choose(name, service, asks, &had, &mut judge)?;
        asks = milder;
        let is_had = |port| port_key(port).is_none_or(|key| !chosen.without.contains(&key));
        ports.retain(|(port, _)| is_had(port));
        let mut serve = Serve::default();
        for port in spec.ports.iter().flatten() {
            if ports.iter().any(|(one, _)| std::ptr::eq(*one, port)) {
                continue;
            }
            let text = protocol_text(port);
            let error = match port_key(port) {
                Some(key) if chosen.without.contains(&key) => PORT_IN_USE,
                Some(_) => "sluice.dev/UnsupportedNodePort",
                None => {
                    let number = port.port;
                    let what =
                        format!("{text} on port {number} is not served; its other ports are");
                    serve.troubles.push(trouble("UnsupportedProtocol", what));
                    "sluice.dev/UnsupportedProtocol"
                }
            };
            let (port, protocol) = (port.port, text.to_owned());
            serve.unserved.push(Unserved { port, protocol, error });
        }
        let (refused, depends) = match mode {
            EndpointMode::Pods => self.refused_endpoints(name, spec),
            EndpointMode::Nodes => Default::default(),
        };
        let common = Common {
            mode,
            local,
            source_ranges,
            route: self.route(name, &chosen.addresses),
            vips: chosen.addresses.iter().map(ToString::to_string).collect(),
            secondary_vips: chosen.secondary.iter().map(ToString::to_string).collect(),
            affinity_seconds: affinity(spec, &asks),
            refused,
            asks,
        };
        let on_nodes = mode == EndpointMode::Nodes || common.asks.node_label.is_some() || depends;
        let of = |(port, protocol)| self.wanted_of(name, spec, port, protocol, &common);
        let mut wanted: Vec<WantedService> = ports.into_iter().map(of).collect();
        let cut = limits::cut(&mut wanted);
        serve.unserved.extend(cut.unserved);
        serve.troubles.extend(judge.into_troubles());
        serve.troubles.extend(cut.troubles);
        serve.troubles.extend(chosen.troubles);
        serve.troubles.extend(common.refused.trouble());
        serve.addresses = chosen.addresses;
        serve.secondary = chosen.secondary;
        serve.wanted = wanted.iter().map(|w| w.name.clone()).collect();
        let (outcome, left_out) = (Some(Outcome::Serve(serve)), cut.left_out);
        Ok(Decision { outcome, wanted, waits: chosen.waits, on_nodes, left_out })
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
        let (prefix, lower) = (self.wanted_prefix(name), text.to_ascii_lowercase());
        let by_default = self.settings.node_health;
        let health = probes::health(spec, port, &common.asks, common.mode, by_default);
        let on_down = on_down(&common.asks, protocol);
        WantedService {
            name: format!("{prefix}{}-{lower}", port.port),
            vips: common.vips.clone(),
            secondary_vips: match protocol {
                Protocol::Sctp => common.secondary_vips.clone(),
                Protocol::Tcp | Protocol::Udp => Vec::new(),
            },
            port: u16::try_from(port.port).unwrap_or_default(),
            protocol,
            backends: self.backends(name, spec, port, on_down, common),
            source_ranges: common.source_ranges.clone(),
            affinity_seconds: common.affinity_seconds,
            full_nat: common.asks.full_nat.unwrap_or_default(),
            nat64: common.asks.nat64.unwrap_or_default(),
            on_down: health.as_ref().map(|_| on_down),
            health,
            idle_timeout_seconds: common.asks.idle_timeout,
            route: common.route.clone(),
        }
    }

    fn backends(
        &self,
        name: &ObjectName,
        spec: &ServiceSpec,
        port: &ServicePort,
        on_down: OnDown,
        common: &Common,
    ) -> Vec<WantedBackend> {
        let near = ["PreferSameZone", "PreferClose", "PreferSameNode"];
        let prefers = spec.traffic_distribution.as_deref().is_some_and(|text| near.contains(&text));
        let wish = Wish {
            port_name: port.name.as_deref().unwrap_or_default(),
            protocol: protocol_text(port),
            zone: self.settings.zone.as_deref().filter(|_| prefers),
            node_label: common.asks.node_label.as_deref(),
            drains_unready: on_down == OnDown::Drain,
        };
        let slices = self.slices.of(name);
        let mut backends = match common.mode {
            EndpointMode::Pods => {
                let has_selector = has_selector(spec);
                let permitted =
                    |slice: &_, address| common.refused.permits(slice, has_selector, address);
                endpoints::pods(slices, &self.nodes, wish, permitted)
            }
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

/// What a Service asks for, as far as it makes sense together.
fn asks(
    service: &Service,
    spec: &ServiceSpec,
    had: &Had,
    judge: &mut Judge,
) -> Result<Asks, Trouble> {
    let (mut asks, troubles) = Asks::of(service);
    troubles.into_iter().try_for_each(|why| judge.take(why))?;
    if !judge.is_live() {
        secondary::check(&asks, spec)?;
        return Ok(asks);
    }
    asks.settle(had);
    let has_sctp = has_sctp(spec);
    // Of its health check, and of what does not go with secondary addresses.
    for _ in 0..2 {
        if let Err(why) = secondary::check(&asks, spec) {
            judge.take(why)?;
            asks.give_way(has_sctp, had);
        }
    }
    Ok(asks)
}

/// What becomes of the flows of an endpoint that fails its probe, the kubelet's or an appliance's.
fn on_down(asks: &Asks, protocol: Protocol) -> OnDown {
    let protocol = match protocol {
        Protocol::Tcp => sluice_model::Protocol::Tcp,
        Protocol::Udp => sluice_model::Protocol::Udp,
        Protocol::Sctp => sluice_model::Protocol::Sctp,
    };
    asks.on_down.unwrap_or(match sluice_model::OnDown::usual(protocol) {
        sluice_model::OnDown::Drain => OnDown::Drain,
        sluice_model::OnDown::Reset => OnDown::Reset,
    })
}

/// None with secondary addresses, which do not go together: one that is on the air may come this far with both.
fn affinity(spec: &ServiceSpec, asks: &Asks) -> Option<u32> {
    let has = asks.affinity || spec.session_affinity.as_deref() == Some("ClientIP");
    let has = has && !asks.has_secondary();
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let written = config.and_then(|c| u32::try_from(c.timeout_seconds?).ok());
    has.then(|| written.unwrap_or(10_800))
}
