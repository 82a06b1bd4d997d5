//! Mistakes that only show when services are held against each other.

use super::report::Report;
use super::service::Raw;
use sluice_model::{Family, Frontend};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Reports every clash, naming both lines.
pub(super) fn check(services: &[Raw], has_nat64: bool, report: &mut Report) {
    names(services, report);
    frontends(services, report);
    let vips: BTreeMap<IpAddr, &Raw> = services
        .iter()
        .flat_map(|service| service.addresses().map(move |(vip, _)| (*vip.get_ref(), service)))
        .collect();
    for service in services {
        backends(service, &vips, has_nat64, report);
    }
}

fn names(services: &[Raw], report: &mut Report) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for name in services.iter().filter_map(|service| service.name.as_ref()) {
        let offset = name.span().start;
        if let Some(first) = seen.get(name.get_ref().as_str()) {
            let message = format!("the service on line {first} has this name; choose another");
            report.push(offset, format!("service.{}.name", name.get_ref()), message);
        } else {
            seen.insert(name.get_ref(), report.line(offset));
        }
    }
}

fn frontends(services: &[Raw], report: &mut Report) {
    let mut seen: BTreeMap<Frontend, (usize, usize, &str)> = BTreeMap::new();
    for (index, service) in services.iter().enumerate() {
        let (Some(port), Some(protocol)) = (service.port, service.protocol) else { continue };
        let name = service.name.as_ref().map_or("", |name| name.get_ref().as_str());
        for (vip, key) in service.addresses() {
            let frontend = Frontend { vip: *vip.get_ref(), port, protocol };
            let (offset, at) = (vip.span().start, format!("{}.{key}", service.path));
            match seen.get(&frontend) {
                Some((owner, line, _)) if *owner == index => {
                    let message = format!("{} is also on line {line}; write it once", frontend.vip);
                    report.push(offset, at, message);
                }
                Some((_, line, first)) => {
                    let message = format!(
                        "{frontend} belongs to service {first} on line {line}; give one of them another VIP, port or protocol"
                    );
                    report.push(offset, at, message);
                }
                None => {
                    seen.insert(frontend, (index, report.line(offset), name));
                }
            }
        }
    }
}

fn backends(service: &Raw, vips: &BTreeMap<IpAddr, &Raw>, has_nat64: bool, report: &mut Report) {
    let needs_nat64 = service.needs_nat64();
    let families: BTreeSet<Family> =
        service.vips.iter().map(|v| Family::of(*v.get_ref())).collect();
    let at = format!("{}.backend", service.path);
    let mut seen: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for backend in &service.backends {
        let Some(address) = &backend.address else { continue };
        let (offset, ip) = (address.span().start, *address.get_ref());
        if let Some(owner) = vips.get(&ip) {
            let line = report.line(owner.offset);
            let message = format!(
                "{ip} is a VIP of the service on line {line}; write the address of a server"
            );
            report.push(offset, &at, message);
        }
        let family = Family::of(ip);
        let is_reached = families.contains(&family) || needs_nat64 && has_nat64;
        if !families.is_empty() && !is_reached {
            let fix = if needs_nat64 {
                "; add one, or set nat64-source in [data-plane] to translate from the IPv6 VIP"
            } else {
                "; add one or remove the backend"
            };
            let message = format!("{ip} would never be used: the service has no {family} VIP{fix}");
            report.push(offset, &at, message);
        }
        if let Some(socket) = backend.socket() {
            let line = report.line(offset);
            if let Some(first) = seen.insert(socket, line) {
                report.push(
                    offset,
                    &at,
                    format!("{socket} is also on line {first}; write it once"),
                );
            }
        }
    }
}
