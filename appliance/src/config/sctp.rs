//! What SCTP is particular about: several addresses, and health checks that speak something else.

use super::report::Report;
use super::service::Raw;
use sluice_api::MAX_SECONDARY_VIPS;
use sluice_model::{Family, Protocol};

/// Reports what does not go together with SCTP, or with secondary addresses.
pub(super) fn check(service: &Raw, report: &mut Report) {
    if let (Some(Protocol::Sctp), Some(health)) = (service.protocol, &service.health)
        && health.get_ref().port.is_none()
    {
        let message = "no server answers TCP at a port of SCTP; add port = 8080 of one that does, or leave the health \
                       check out";
        report.push(health.span().start, format!("{}.health", service.path), message);
    }
    let Some(first) = service.secondary_vips.first() else { return };
    let mut wrong = |offset: usize, key: &str, message: String| {
        report.push(offset, format!("{}.{key}", service.path), message);
    };
    let at = first.span().start;
    if service.protocol.is_some_and(|protocol| protocol != Protocol::Sctp) {
        let message = "only clients of SCTP use several addresses; write protocol = \"sctp\" or leave them out";
        wrong(at, "secondary-vips", message.to_owned());
    }
    if let Some(excess) = service.secondary_vips.get(MAX_SECONDARY_VIPS) {
        let message =
            format!("more than {MAX_SECONDARY_VIPS} addresses; leave {} out", excess.get_ref());
        wrong(excess.span().start, "secondary-vips", message);
    }
    for secondary in &service.secondary_vips {
        let family = Family::of(*secondary.get_ref());
        let has = service.vips.iter().any(|vip| Family::of(*vip.get_ref()) == family);
        if !has && !service.vips.is_empty() {
            let message = format!(
                "{} is second to nothing: the service has no {family} VIP; add one or leave it out",
                secondary.get_ref()
            );
            wrong(secondary.span().start, "secondary-vips", message);
        }
    }
    if let Some(affinity) = &service.affinity {
        let message = "a client of several addresses has no single one to be known by; leave affinity or \
                       secondary-vips out";
        wrong(affinity.span().start, "affinity", message.to_owned());
    }
    if let Some(prefix) = service.full_nat.first() {
        let message = "backends would take a client's addresses for several clients; leave full-nat or \
                       secondary-vips out";
        wrong(prefix.span().start, "full-nat", message.to_owned());
    }
    if service.needs_nat64() {
        let message = "with IPv4 backends alone behind an IPv6 VIP they would take a client's addresses for several \
                       clients; add IPv6 backends or leave them out";
        wrong(at, "secondary-vips", message.to_owned());
    }
}
