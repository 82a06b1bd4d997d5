//! What the kernel carries, as services of its own: for a start that does not know any longer who wanted it.
//!
//! Such services come after all others: whoever claims a frontend takes it over, and what nobody claims goes on as it is
//! until somebody may say that it is not wanted. What the kernel does not know is lost: health checks (the backends that
//! were in use stay in use), names, and the attributes of routes.

use crate::desired::Desired;
use crate::observed::{Observed, RouteAttributes};
use crate::service::{Family, Frontend, OnDown, Program, Service, ServiceName};
use std::net::IpAddr;
use std::sync::Arc;

/// What the names of such services begin with; what follows is the frontend.
pub const HELD: &str = "held/";

/// A service for each frontend that is balanced, in the order of frontends. Frontends of one program that is multihomed
/// are one service, since its flows choose their backend together; one that is alone loses that, its flows stay.
pub fn held(observed: &Observed) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for (frontend, program) in &observed.programs {
        let service = held_service(frontend, program);
        let first = services.iter_mut().filter(|_| program.multihomed).find(|first| {
            first.port == service.port
                && first.protocol == service.protocol
                && is_same_but_name(first, &service)
        });
        match first {
            Some(first) => first.secondary_vips.push(frontend.vip),
            None => services.push(service),
        }
    }
    services
}

/// Adds what nobody in `desired` claims of what is held.
pub fn keep_unclaimed(desired: &mut Desired, held: &[Arc<Service>]) {
    for service in held {
        let is_free = |frontend: &Frontend| desired.owner(frontend).is_none();
        let mut free: Vec<IpAddr> = service.frontends().filter(is_free).map(|f| f.vip).collect();
        if free.len() == service.frontends().count() {
            let _nothing_clashes = desired.insert(Arc::clone(service));
        } else if let Some(first) = free.pop() {
            let (vips, secondary_vips) = (vec![first], free);
            let rest = Service { vips, secondary_vips, ..service.as_ref().clone() };
            let _nothing_clashes = desired.insert(rest);
        }
    }
}

/// True when the service stands for what was found, and for no wish of anybody.
pub fn is_held(name: &ServiceName) -> bool {
    name.0.strip_prefix(HELD).is_some_and(|rest| {
        let socket = rest.rsplit_once('/').map(|(socket, _)| socket);
        socket.is_some_and(|socket| socket.parse::<std::net::SocketAddr>().is_ok())
    })
}

fn is_same_but_name(one: &Service, other: &Service) -> bool {
    let other = Service {
        name: one.name.clone(),
        vips: one.vips.clone(),
        secondary_vips: one.secondary_vips.clone(),
        ..other.clone()
    };
    *one == other
}

fn held_service(frontend: &Frontend, program: &Program) -> Service {
    let is_v4 = |ip: IpAddr| Family::of(ip) == Family::V4;
    Service {
        name: ServiceName(format!("{HELD}{frontend}")),
        vips: vec![frontend.vip],
        secondary_vips: Vec::new(),
        port: frontend.port,
        protocol: frontend.protocol,
        backends: program.backends.clone(),
        health: None,
        // Nobody is asked.
        on_down: OnDown::default(),
        no_backend: program.no_backend,
        idle_timeout: program.idle_timeout,
        source_ranges: program.source_ranges.clone(),
        affinity: program.affinity,
        full_nat: program.full_nat.clone(),
        nat64: !is_v4(frontend.vip) && program.backends.iter().any(|b| is_v4(b.address.ip())),
        route: RouteAttributes::default(),
        // It gives way to everybody.
        is_configured: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Backend, NoBackend, Protocol};
    use std::time::Duration;

    fn observed(programs: &[(&str, Protocol, &str, bool)]) -> Observed {
        let program = |(vip, protocol, backend, multihomed): &(&str, Protocol, &str, bool)| {
            let frontend = Frontend { vip: vip.parse().unwrap(), port: 80, protocol: *protocol };
            let program = Program {
                backends: vec![Backend { address: backend.parse().unwrap(), weight: 3 }],
                no_backend: NoBackend::Drop,
                idle_timeout: Duration::from_secs(7),
                source_ranges: Default::default(),
                affinity: None,
                full_nat: Default::default(),
                multihomed: *multihomed,
            };
            (frontend, program)
        };
        Observed { programs: programs.iter().map(program).collect(), ..Observed::default() }
    }

    #[test]
    fn names_tell_the_frontend_and_are_recognised() {
        let services = held(&observed(&[
            ("203.0.113.1", Protocol::Tcp, "10.0.0.1:80", false),
            ("2001:db8::1", Protocol::Udp, "10.0.0.1:80", false),
        ]));
        let names: Vec<&str> = services.iter().map(|service| service.name.0.as_str()).collect();
        assert_eq!(names, ["held/203.0.113.1:80/tcp", "held/[2001:db8::1]:80/udp"]);
        assert!(services[1].nat64 && !services[0].nat64);
        assert!(services.iter().all(|service| is_held(&service.name)));
        // A source may be called so.
        assert!(!is_held(&ServiceName("held/default/web/80-tcp".to_owned())));
    }

    #[test]
    fn several_addresses_stay_together() {
        let services = held(&observed(&[
            ("203.0.113.1", Protocol::Sctp, "10.0.0.1:80", true),
            ("203.0.113.2", Protocol::Sctp, "10.0.0.1:80", true),
            ("203.0.113.3", Protocol::Sctp, "10.0.0.2:80", true),
        ]));
        assert_eq!(services.len(), 2);
        assert!(services[0].is_multihomed() && services[0].frontends().count() == 2);
    }
}
