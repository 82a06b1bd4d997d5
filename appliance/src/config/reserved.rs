//! `[vips]` and `[backends]`: which addresses may be what, and what the rest of the file has in use.

use super::report::Report;
use super::section::Section;
use super::service::Raw;
use super::{ApiTls, Bgp, DataPlane, values};
use crate::sources::Limit;
use ipnet::IpNet;
use serde_spanned::Spanned;
use sluice_model::{Holder, Prefixes, Reserved, Violation, reasons};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Both sections, and the limits of sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Which addresses may be VIPs.
    pub(crate) vips: Prefixes,
    /// Which addresses may be backends.
    pub(crate) backends: Prefixes,
    /// What sources may have as backends although a router has it.
    pub(crate) trusted: Vec<IpNet>,
    /// What each source may ask for.
    pub(crate) sources: Vec<Limit>,
}

/// The two sections; the default where they are absent.
pub(super) fn read(top: &mut Section<'_, '_>, report: &mut Report) -> Addresses {
    let mut addresses = Addresses::default();
    if let Some(mut section) = top.table(report, "vips") {
        addresses.vips = lists(&mut section, report);
        let sources = section.tables(report, "source").into_iter();
        addresses.sources = sources.filter_map(|table| source(table, report)).collect();
        section.finish(report);
    }
    if let Some(mut section) = top.table(report, "backends") {
        addresses.backends = lists(&mut section, report);
        addresses.trusted = prefixes(&mut section, report, "trust");
        section.finish(report);
    }
    addresses
}

fn source(mut table: Section<'_, '_>, report: &mut Report) -> Option<Limit> {
    let name = table.required(report, "name", "name = \"prod\"", values::text);
    let prefixes = limit(&mut table, report, "prefixes");
    if prefixes.is_none() {
        report.missing(table.offset(), table.at("prefixes"), "prefixes = [\"203.0.113.0/24\"]");
    }
    table.finish(report);
    Some(Limit { sources: vec![name?.into_inner()], prefixes: prefixes? })
}

fn lists(section: &mut Section<'_, '_>, report: &mut Report) -> Prefixes {
    let allow = limit(section, report, "allow").unwrap_or_default();
    Prefixes { allow, deny: prefixes(section, report, "deny") }
}

/// A list of what is allowed; `None` when it is absent. An empty one would allow everything, which nobody means who
/// writes one.
pub(super) fn limit(
    section: &mut Section<'_, '_>,
    report: &mut Report,
    key: &'static str,
) -> Option<Vec<IpNet>> {
    let is_empty =
        |value: &toml::de::DeValue<'_>| Ok(value.as_array().is_some_and(|a| a.is_empty()));
    let listed = section.optional(report, key, is_empty)?;
    if *listed.get_ref() {
        let message =
            "is empty; write prefixes like \"203.0.113.0/24\", or leave it out to allow all";
        report.push(listed.span().start, section.at(key), message);
    }
    Some(prefixes(section, report, key))
}

fn prefixes(section: &mut Section<'_, '_>, report: &mut Report, key: &'static str) -> Vec<IpNet> {
    let list = section.list(report, key, values::prefix).unwrap_or_default();
    list.into_iter().map(Spanned::into_inner).collect()
}

// === impl Addresses ===

impl Addresses {
    /// What the file says of addresses that are not free: listeners, peers, and our own ends of things.
    pub(super) fn reserved(
        &self,
        api: SocketAddr,
        tls: Option<&ApiTls>,
        data_plane: Option<&DataPlane>,
        bgp: Option<&Bgp>,
    ) -> Reserved {
        let mut reserved = Reserved::default();
        reserved.vips.clone_from(&self.vips);
        reserved.backends.clone_from(&self.backends);
        reserved.trusted.clone_from(&self.trusted);
        let mut own = |address: Option<IpAddr>, key: &'static str| {
            // A listener on every address names none.
            if let Some(address) = address.filter(|address| !address.is_unspecified()) {
                reserved.hold(address, Holder::Own { key });
            }
        };
        own(Some(api.ip()), "api.listen");
        own(tls.map(|tls| tls.listen.ip()), "api.tls.listen");
        let nat64 = data_plane.and_then(|data_plane| data_plane.nat64_source);
        own(nat64.map(IpAddr::V4), "data-plane.nat64-source");
        for listen in bgp.iter().flat_map(|bgp| &bgp.speaker.listen) {
            own(Some(listen.ip()), "bgp.listen");
        }
        for peer in bgp.iter().flat_map(|bgp| &bgp.speaker.peers) {
            own(peer.local_address, "bgp.peer.local-address");
            own(peer.next_hop_v4.map(IpAddr::V4), "bgp.peer.next-hop-ipv4");
            own(peer.next_hop_v6.map(IpAddr::V6), "bgp.peer.next-hop-ipv6");
        }
        for peer in bgp.iter().flat_map(|bgp| &bgp.speaker.peers) {
            reserved.hold(peer.address, Holder::Peer);
        }
        reserved
    }
}

/// Reports every VIP and backend of the file that may not be one.
pub(super) fn check(services: &[Raw], reserved: &Reserved, report: &mut Report) {
    let no_host = BTreeSet::new();
    let rule = reserved.rule(&no_host);
    let mut wrong = |address: &Spanned<IpAddr>, at: String, against: &[Violation]| {
        if !against.is_empty() {
            let message =
                format!("{} {}; use another address", address.get_ref(), reasons(against));
            report.push(address.span().start, at, message);
        }
    };
    for service in services {
        for (vip, key) in service.addresses() {
            wrong(vip, format!("{}.{key}", service.path), &rule.vip(*vip.get_ref()));
        }
        for address in service.backends.iter().filter_map(|backend| backend.address.as_ref()) {
            let against = rule.backend(*address.get_ref(), true);
            wrong(address, format!("{}.backend", service.path), &against);
        }
    }
}
