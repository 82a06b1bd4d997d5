//! Services, their backends and VIPs.

use super::View;
use super::time::rfc3339;
use crate::config::spelled;
use sluice_api::{Backend, Health, NextHopState, Protocol, Service, ServiceState, Vip};
use sluice_model::{Frontend, HealthCheck, Probe, Verdict, reasons};
use sluice_netlink::Resolution;
use sluice_plan::Wanted;
use std::collections::BTreeSet;
use std::net::IpAddr;

// === impl View ===

impl View<'_> {
    pub(super) fn services(&self, wanted: &Wanted) -> Vec<Service> {
        self.merged.desired.services().map(|service| self.service(service, wanted)).collect()
    }

    fn service(&self, service: &sluice_model::Service, wanted: &Wanted) -> Service {
        let programmed = wanted.is_programmed(service, self.observed);
        let should: Vec<IpAddr> =
            service.addresses().filter(|vip| wanted.announces(*vip)).collect();
        let (counters, rates) = self.meter.frontends(frontends(service));
        Service {
            name: service.name.to_string(),
            vips: service.vips.iter().map(ToString::to_string).collect(),
            secondary_vips: service.secondary_vips.iter().map(ToString::to_string).collect(),
            port: service.port,
            protocol: match service.protocol {
                sluice_model::Protocol::Tcp => Protocol::Tcp,
                sluice_model::Protocol::Udp => Protocol::Udp,
                sluice_model::Protocol::Sctp => Protocol::Sctp,
            },
            state: if programmed { state(service, wanted) } else { ServiceState::Unprogrammed },
            generation: self.merged.changed.get(&service.name).map_or(0, |g| g.0),
            programmed,
            announced: !should.is_empty() && should.iter().all(|vip| self.is_announced(*vip)),
            check: service.health.as_ref().map(check),
            backends: service.backends.iter().map(|b| self.backend(service, b)).collect(),
            counters,
            rates,
        }
    }

    fn backend(&self, service: &sluice_model::Service, backend: &sluice_model::Backend) -> Backend {
        let ip = backend.address.ip();
        let report = service.target(backend).and_then(|target| self.reports.get(&target));
        let resolution = self.resolutions.get(&ip);
        let refused = self.refused.backends_of(&service.name).and_then(|bad| bad.get(&ip));
        let health = match report.map(|report| report.verdict) {
            _ if refused.is_some() => Health::Down,
            Some(Verdict::Down) => Health::Down,
            _ if backend.weight == 0 => Health::Draining,
            Some(Verdict::Up) => Health::Up,
            Some(Verdict::Unknown) => Health::Unknown,
            None if service.health.is_some() => Health::Unknown,
            None => Health::Unchecked,
        };
        let (counters, rates) = self.meter.backend(frontends(service), backend.address);
        let known = report.filter(|report| report.verdict != Verdict::Unknown);
        Backend {
            service: service.name.to_string(),
            address: ip.to_string(),
            port: backend.address.port(),
            weight: backend.weight,
            health,
            health_since: known.map(|report| rfc3339(report.since)).unwrap_or_default(),
            reason: refused
                .map(|why| format!("left out: it {}", reasons(why)))
                .or_else(|| missing_way(ip, resolution))
                .or_else(|| report.and_then(|r| r.reason.clone())),
            next_hop: match resolution {
                Some(Resolution::Resolved(_)) => NextHopState::Resolved,
                Some(Resolution::Resolving { .. }) | None => NextHopState::Resolving,
                Some(Resolution::Unreachable { .. }) => NextHopState::Unreachable,
                // The data plane has no way into this host's own stack.
                Some(Resolution::NoRoute | Resolution::Local) => NextHopState::NoRoute,
            },
            counters,
            rates,
        }
    }

    pub(super) fn vips(&self) -> Vec<Vip> {
        let desired = self.merged.desired.vips();
        let all: BTreeSet<IpAddr> =
            desired.keys().chain(&self.observed.addresses).copied().collect();
        let vip = |vip: IpAddr| {
            let services = desired.get(&vip).into_iter().flatten();
            Vip {
                address: vip.to_string(),
                on_link: self.observed.addresses.contains(&vip),
                announced: self.is_announced(vip),
                services: services.map(ToString::to_string).collect(),
            }
        };
        all.into_iter().map(vip).collect()
    }
}

/// Why packets do not reach an address, in words; `None` when nothing is known against it.
pub(super) fn missing_way(address: IpAddr, resolution: Option<&Resolution>) -> Option<String> {
    match resolution? {
        Resolution::NoRoute => Some(format!("no route to {address}")),
        Resolution::Local => Some(format!("{address} is an address of this host")),
        Resolution::Unreachable { gateway, .. } if *gateway == address => {
            Some(format!("{address} does not answer on its link"))
        }
        Resolution::Unreachable { gateway, .. } => {
            Some(format!("the gateway {gateway} to {address} does not answer"))
        }
        Resolution::Resolved(_) | Resolution::Resolving { .. } => None,
    }
}

/// What a programmed service can do: draining backends are not missed.
pub(super) fn state(service: &sluice_model::Service, wanted: &Wanted) -> ServiceState {
    let programs: Vec<_> =
        service.frontends().filter_map(|frontend| wanted.programs.get(&frontend)).collect();
    let serving = programs.iter().filter(|program| program.serves()).count();
    let full = service.frontends().all(|frontend| {
        let family = sluice_model::Family::of(frontend.vip);
        let used = |backend: &sluice_model::Backend| {
            wanted.programs.get(&frontend).is_some_and(|p| p.backends.contains(backend))
        };
        service.backends_of(family).filter(|backend| backend.weight > 0).all(used)
    });
    match serving {
        0 => ServiceState::Down,
        serving if full && serving == service.frontends().count() => ServiceState::Up,
        _ => ServiceState::Degraded,
    }
}

fn frontends(service: &sluice_model::Service) -> impl Iterator<Item = sluice_xdp::Frontend> + '_ {
    service.frontends().map(|Frontend { vip, port, protocol }| sluice_xdp::Frontend {
        vip,
        port,
        protocol: match protocol {
            sluice_model::Protocol::Tcp => sluice_xdp::Protocol::Tcp,
            sluice_model::Protocol::Udp => sluice_xdp::Protocol::Udp,
            sluice_model::Protocol::Sctp => sluice_xdp::Protocol::Sctp,
        },
    })
}

/// A health check in words.
fn check(check: &HealthCheck) -> String {
    let port = check.port.map(|port| format!(" on port {port}")).unwrap_or_default();
    let every = spelled(check.interval);
    match &check.probe {
        Probe::TcpConnect => format!("tcp connect{port} every {every}"),
        Probe::HttpGet { path, .. } => format!("http GET {path}{port} every {every}"),
    }
}
