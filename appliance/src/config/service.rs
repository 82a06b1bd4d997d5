//! `[[service]]`, its health check and its backends.

use super::report::Report;
use super::sctp;
use super::section::Section;
use super::values::{self, Community};
use ipnet::IpNet;
use serde_spanned::Spanned;
use sluice_model::{
    Backend, HealthCheck, NoBackend, OnDown, PROBE_INTERVAL, Probe, Protocol, RouteAttributes,
    Service, ServiceName, StatusRange, canonical_prefixes,
};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

type Value<'a> = toml::de::DeValue<'a>;

/// Longest name of a service: that of a Kubernetes namespace, a slash and a Service, with room for a port's name.
const MAX_NAME: usize = 160;

/// Weights beyond a byte add no precision that a Maglev table of a few thousand entries could show.
pub(crate) const WEIGHT: RangeInclusive<u16> = 0..=255;

/// RFC 5382 REQ-5: at least two hours and four minutes, which outlasts the keep-alives of hosts (two hours).
const TCP_IDLE: Duration = Duration::from_secs(124 * 60);

/// UDP has no end; RFC 4787 §4.3 wants two minutes of a NAT for people, a balancer for servers needs less.
const UDP_IDLE: Duration = Duration::from_secs(60);

/// As long as an association may be without a sign of life before its ends give it up, by RFC 9260 section 16: five
/// heartbeats thirty seconds apart and the longest retransmission time. Connection tracking of Linux takes the same.
const SCTP_IDLE: Duration = Duration::from_secs(5 * 30 + 60);

/// How long an idle flow may be kept, and the affinity of a client: up to a week; Kubernetes allows a day.
pub(crate) const KEPT: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

/// A server on another continent answers within half a second, one on the same link within a millisecond; who needs an
/// hour is not asked more often than that.
pub(crate) const PROBE_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);

/// A service as it was written, with places.
pub(super) struct Raw {
    pub(super) offset: usize,
    pub(super) path: String,
    pub(super) name: Option<Spanned<String>>,
    pub(super) vips: Vec<Spanned<IpAddr>>,
    pub(super) secondary_vips: Vec<Spanned<IpAddr>>,
    pub(super) port: Option<u16>,
    pub(super) protocol: Option<Protocol>,
    pub(super) backends: Vec<RawBackend>,
    pub(super) health: Option<Spanned<HealthCheck>>,
    on_down: Option<OnDown>,
    no_backend: NoBackend,
    idle_timeout: Option<Duration>,
    source_ranges: Vec<IpNet>,
    pub(super) affinity: Option<Spanned<Duration>>,
    pub(super) full_nat: Vec<Spanned<IpNet>>,
    route: RouteAttributes,
}

/// A backend as it was written, with places.
pub(super) struct RawBackend {
    pub(super) address: Option<Spanned<IpAddr>>,
    pub(super) port: Option<u16>,
    pub(super) weight: u16,
}

/// How long flows of a service are remembered that does not say so.
pub(crate) fn default_idle_timeout(protocol: Protocol) -> Duration {
    match protocol {
        Protocol::Tcp => TCP_IDLE,
        Protocol::Udp => UDP_IDLE,
        Protocol::Sctp => SCTP_IDLE,
    }
}

// === impl Raw ===

impl Raw {
    /// True when there are IPv6 VIPs, and IPv4 backends alone to answer for them.
    pub(super) fn needs_nat64(&self) -> bool {
        let is_v6 = |b: &RawBackend| b.address.as_ref().is_some_and(|ip| ip.get_ref().is_ipv6());
        self.vips.iter().any(|vip| vip.get_ref().is_ipv6())
            && !self.backends.is_empty()
            && !self.backends.iter().any(is_v6)
    }

    /// Every address that clients use, with the key it is written at.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&Spanned<IpAddr>, &'static str)> {
        let secondary = self.secondary_vips.iter().map(|vip| (vip, "secondary-vips"));
        self.vips.iter().map(|vip| (vip, "vips")).chain(secondary)
    }

    /// The service, unless something necessary was wrong.
    pub(super) fn into_service(self, has_nat64: bool) -> Option<Service> {
        let protocol = self.protocol?;
        let nat64 = has_nat64 && self.needs_nat64();
        let service = Service {
            name: ServiceName(self.name?.into_inner()),
            vips: self.vips.into_iter().map(Spanned::into_inner).collect(),
            secondary_vips: self.secondary_vips.into_iter().map(Spanned::into_inner).collect(),
            port: self.port?,
            protocol,
            backends: self.backends.into_iter().filter_map(RawBackend::into_backend).collect(),
            health: self.health.map(Spanned::into_inner),
            on_down: self.on_down.unwrap_or_else(|| OnDown::usual(protocol)),
            no_backend: self.no_backend,
            idle_timeout: self.idle_timeout.unwrap_or_else(|| default_idle_timeout(protocol)),
            source_ranges: canonical_prefixes(self.source_ranges),
            affinity: self.affinity.map(Spanned::into_inner),
            full_nat: canonical_prefixes(self.full_nat.into_iter().map(Spanned::into_inner)),
            nat64,
            route: self.route,
            is_configured: true,
        };
        Some(service.canonical())
    }
}

impl RawBackend {
    pub(super) fn socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(*self.address.as_ref()?.get_ref(), self.port?))
    }

    fn into_backend(self) -> Option<Backend> {
        Some(Backend { address: self.socket()?, weight: self.weight })
    }
}

/// Every service, also those with mistakes.
pub(super) fn read_all(top: &mut Section<'_, '_>, report: &mut Report) -> Vec<Raw> {
    top.tables(report, "service").into_iter().map(|section| read(section, report)).collect()
}

fn read(mut section: Section<'_, '_>, report: &mut Report) -> Raw {
    let name = section.required(report, "name", "name = \"web\"", name);
    if let Some(name) = &name {
        section.rename(format!("service.{}", name.get_ref()));
    }
    let example = "vips = [\"203.0.113.10\"]";
    let vips = section.list(report, "vips", values::routed);
    let is_empty = |value: &Value<'_>| Ok(value.as_array().is_some_and(|array| array.is_empty()));
    let listed = section.required(report, "vips", example, is_empty);
    if let Some(empty) = listed.filter(|empty| *empty.get_ref()) {
        report.push(empty.span().start, section.at("vips"), format!("is empty; write {example}"));
    }
    let secondary_vips = section.list(report, "secondary-vips", values::routed);
    let port = section.required(report, "port", "port = 80", values::port);
    let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];
    let protocol =
        section.required(report, "protocol", "protocol = \"tcp\"", values::choice(&protocols));
    let policies = [("drain", OnDown::Drain), ("reset", OnDown::Reset)];
    let on_down = section.optional(report, "on-down", values::choice(&policies));
    let policies = [("reject", NoBackend::Reject), ("drop", NoBackend::Drop)];
    let no_backend =
        section.or(report, "no-backend", NoBackend::default(), values::choice(&policies));
    let idle = values::whole_seconds(KEPT);
    let idle_timeout = section.optional(report, "idle-timeout", idle);
    let source_ranges = section.list(report, "source-ranges", values::prefix).unwrap_or_default();
    let sticky = values::whole_seconds(KEPT);
    let affinity = section.optional(report, "affinity", sticky);
    let full_nat = section.list(report, "full-nat", values::prefix).unwrap_or_default();
    let route = section.table(report, "route").map(|table| route(table, report));
    let health = section.table(report, "health").and_then(|table| health(table, report));
    let backends = read_backends(&mut section, report);
    let raw = Raw {
        offset: section.offset(),
        path: section.at("vips").trim_end_matches(".vips").to_owned(),
        name,
        vips: vips.unwrap_or_default(),
        secondary_vips: secondary_vips.unwrap_or_default(),
        port: port.map(Spanned::into_inner),
        protocol: protocol.map(Spanned::into_inner),
        backends,
        health,
        on_down: on_down.map(Spanned::into_inner),
        no_backend,
        idle_timeout: idle_timeout.map(Spanned::into_inner),
        source_ranges: source_ranges.into_iter().map(Spanned::into_inner).collect(),
        affinity,
        full_nat,
        route: route.unwrap_or_default(),
    };
    section.finish(report);
    sctp::check(&raw, report);
    raw
}

fn route(mut table: Section<'_, '_>, report: &mut Report) -> RouteAttributes {
    let number = values::integer(0..=u32::MAX);
    let mut route = RouteAttributes {
        local_pref: table.optional(report, "local-pref", &number).map(Spanned::into_inner),
        med: table.optional(report, "med", &number).map(Spanned::into_inner),
        ..RouteAttributes::default()
    };
    let communities = table.list(report, "communities", values::community).unwrap_or_default();
    for community in communities {
        match community.into_inner() {
            Community::Standard(community) => route.communities.push(community),
            Community::Large(community) => route.large_communities.push(community),
        }
    }
    table.finish(report);
    route
}

fn read_backends(section: &mut Section<'_, '_>, report: &mut Report) -> Vec<RawBackend> {
    let mut backends = Vec::new();
    for mut table in section.tables(report, "backend") {
        let address = table.required(report, "address", "address = \"10.1.0.11\"", values::unicast);
        let port = table.required(report, "port", "port = 8080", values::port);
        let weight = table.or(report, "weight", 1, values::integer(WEIGHT));
        table.finish(report);
        backends.push(RawBackend { address, port: port.map(Spanned::into_inner), weight });
    }
    backends
}

/// Which probe a health check uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
}

fn health(mut table: Section<'_, '_>, report: &mut Report) -> Option<Spanned<HealthCheck>> {
    let offset = table.offset();
    let kinds = values::choice(&[("tcp", Kind::Tcp), ("http", Kind::Http)]);
    let kind = table.required(report, "type", "type = \"http\"", kinds);
    let path = table.optional(report, "path", http_path);
    let host = table.optional(report, "host", http_host);
    let status = table.optional(report, "status", values::status_range);
    let interval = values::duration(PROBE_INTERVAL);
    let interval = table.or(report, "interval", Duration::from_secs(1), interval);
    let timeout = values::duration(PROBE_TIMEOUT);
    let timeout = table.or(report, "timeout", Duration::from_millis(500), timeout);
    let rise = table.or(report, "rise", 2, values::integer(1u8..=u8::MAX));
    let fall = table.or(report, "fall", 2, values::integer(1u8..=u8::MAX));
    let port = table.optional(report, "port", values::port);

    let kind = kind.map(Spanned::into_inner);
    let only_http = [
        ("path", path.as_ref().map(Spanned::span)),
        ("host", host.as_ref().map(Spanned::span)),
        ("status", status.as_ref().map(Spanned::span)),
    ];
    for (key, span) in only_http {
        if let (Some(Kind::Tcp), Some(span)) = (kind, span) {
            let message =
                format!("only an HTTP check has this; write type = \"http\" or leave {key} out");
            report.push(span.start, table.at(key), message);
        }
    }
    table.finish(report);
    let probe = match kind? {
        Kind::Tcp => Probe::TcpConnect,
        Kind::Http => Probe::HttpGet {
            path: path.map_or_else(|| "/".to_owned(), Spanned::into_inner),
            host: host.map(Spanned::into_inner),
            status: status.map_or(StatusRange { first: 200, last: 399 }, Spanned::into_inner),
        },
    };
    let port = port.map(Spanned::into_inner);
    let check = HealthCheck { probe, interval, timeout, rise, fall, port };
    Some(Spanned::new(offset..offset, check))
}

/// Names end up in logs, metrics and URLs.
fn name(value: &Value<'_>) -> Result<String, String> {
    let name = values::text(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if name.len() > MAX_NAME {
        return Err(format!("is longer than {MAX_NAME} characters; write a shorter name"));
    }
    if name.chars().all(allowed) {
        return Ok(name);
    }
    let fixed: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    Err(format!("\"{name}\" has characters other than letters, digits, - _ . /; write \"{fixed}\""))
}

fn http_path(value: &Value<'_>) -> Result<String, String> {
    let path = values::text(value)?;
    if !path.starts_with('/') {
        return Err(format!("\"{path}\" does not begin with a slash; write \"/{path}\""));
    }
    let printable = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if printable {
        Ok(path)
    } else {
        Err(format!("\"{path}\" is not a request target; encode other characters as %XX"))
    }
}

fn http_host(value: &Value<'_>) -> Result<String, String> {
    let host = values::text(value)?;
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']' | '_');
    if host.chars().all(allowed) {
        return Ok(host);
    }
    Err(format!("\"{host}\" is not a host; write one like \"www.example.org\""))
}
