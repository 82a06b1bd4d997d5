//! A bridge's words in the appliance's vocabulary, or a sentence that says what is wrong with them.

use super::{sctp, texts};
use crate::config::{
    Community, KEPT, PROBE_TIMEOUT, WEIGHT, community, idle_timeout, not_routed, spelled,
};
use ipnet::IpNet;
use sluice_api::{WantedBackend, WantedHealth, WantedRoute, WantedService};
use sluice_model::{
    Backend, HealthCheck, NoBackend, OnDown, PROBE_INTERVAL, Probe, Protocol, RouteAttributes,
    Service, ServiceName, StatusRange, canonical_prefixes,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What the rest of the source and the appliance have to do with its services.
#[derive(Clone, Copy, Default)]
pub(super) struct Around<'a> {
    /// Clients in these prefixes are shown to the backends as the VIP.
    pub(super) inside: &'a [IpNet],
    /// What backends see under NAT64.
    pub(super) nat64_source: Option<Ipv4Addr>,
}

/// The service, in canonical form. Whether its addresses may be what they are wanted for is not judged here but by the
/// planner, which leaves out what may not: the rest of the service is served.
pub(super) fn service(wanted: &WantedService, around: Around<'_>) -> Result<Service, String> {
    texts::check_name(&wanted.name)?;
    if wanted.port == 0 {
        return Err("the port is 0; ports begin at 1".to_owned());
    }
    let vips: Vec<IpAddr> = wanted.vips.iter().map(|vip| address(vip)).collect::<Result<_, _>>()?;
    if vips.is_empty() {
        return Err("it has no VIP".to_owned());
    }
    let secondary_vips: Vec<IpAddr> =
        wanted.secondary_vips.iter().map(|vip| address(vip)).collect::<Result<_, _>>()?;
    sctp::check(wanted, &vips, &secondary_vips)?;
    let backends: Vec<Backend> = wanted.backends.iter().map(backend).collect::<Result<_, _>>()?;
    if wanted.nat64 && around.nat64_source.is_none() {
        let missing = "NAT64 needs nat64-source in [data-plane] of the appliance's configuration, and it is not set";
        return Err(missing.to_owned());
    }
    let protocol = match wanted.protocol {
        sluice_api::Protocol::Tcp => Protocol::Tcp,
        sluice_api::Protocol::Udp => Protocol::Udp,
        sluice_api::Protocol::Sctp => Protocol::Sctp,
    };
    let full_nat = if wanted.full_nat { everybody().to_vec() } else { around.inside.to_vec() };
    let service = Service {
        name: ServiceName(wanted.name.clone()),
        vips,
        secondary_vips,
        port: wanted.port,
        protocol,
        backends,
        health: wanted.health.as_ref().map(health).transpose()?,
        on_down: match wanted.on_down {
            Some(sluice_api::OnDown::Drain) => OnDown::Drain,
            // What was done before there was a choice.
            Some(sluice_api::OnDown::Reset) | None => OnDown::Reset,
        },
        no_backend: NoBackend::Reject,
        idle_timeout: match wanted.idle_timeout_seconds {
            Some(seconds) => within_a_week("idle_timeout_seconds", seconds)?,
            None => idle_timeout(protocol),
        },
        source_ranges: canonical_prefixes(prefixes(&wanted.source_ranges)?),
        affinity: match wanted.affinity_seconds {
            Some(seconds) => Some(within_a_week("affinity_seconds", seconds)?),
            None => None,
        },
        full_nat: canonical_prefixes(full_nat),
        nat64: wanted.nat64,
        route: route(&wanted.route)?,
        is_configured: false,
    };
    Ok(service.canonical())
}

/// Prefixes of either family.
pub(super) fn prefixes(texts: &[String]) -> Result<Vec<IpNet>, String> {
    let read = |text: &String| {
        let net = text.trim().parse::<IpNet>();
        net.map(|net| net.trunc()).map_err(|_| format!("{text:?} is not a prefix"))
    };
    texts.iter().map(read).collect()
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address"))
}

/// An IP address that packets can be sent to from another host.
pub(crate) fn unicast(text: &str) -> Result<IpAddr, String> {
    let address = address(text)?;
    if not_routed(address).is_some() {
        return Err(format!("{address} is not an address of one host that is routed"));
    }
    Ok(address)
}

fn everybody() -> [IpNet; 2] {
    let any = |address: IpAddr| IpNet::new_assert(address, 0);
    [any(Ipv4Addr::UNSPECIFIED.into()), any(Ipv6Addr::UNSPECIFIED.into())]
}

fn backend(wanted: &WantedBackend) -> Result<Backend, String> {
    let ip = address(&wanted.address)?;
    if wanted.port == 0 {
        return Err(format!("the port of the backend {ip} is 0"));
    }
    if !WEIGHT.contains(&wanted.weight) {
        return Err(format!("the weight of the backend {ip} is above {}", WEIGHT.end()));
    }
    Ok(Backend { address: SocketAddr::new(ip, wanted.port), weight: wanted.weight })
}

fn health(wanted: &WantedHealth) -> Result<HealthCheck, String> {
    let probe = match &wanted.http_path {
        None => Probe::TcpConnect,
        Some(path) if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => {
            let status = StatusRange { first: 200, last: 399 };
            Probe::HttpGet { path: path.clone(), host: None, status }
        }
        Some(path) => return Err(format!("{path:?} is not a request target")),
    };
    let time = |what: &str, ms: u32, range: RangeInclusive<Duration>| {
        let time = Duration::from_millis(ms.into());
        let (low, high) = (spelled(*range.start()), spelled(*range.end()));
        if range.contains(&time) {
            Ok(time)
        } else {
            Err(format!("{what} of {ms} ms is not between {low} and {high}"))
        }
    };
    if wanted.port == Some(0) || wanted.fall == Some(0) {
        return Err("port and fall of a health check begin at 1".to_owned());
    }
    Ok(HealthCheck {
        probe,
        interval: time("an interval", wanted.interval_ms.unwrap_or(2000), PROBE_INTERVAL)?,
        timeout: time("a time-out", wanted.timeout_ms.unwrap_or(1000), PROBE_TIMEOUT)?,
        rise: 2,
        fall: wanted.fall.unwrap_or(3),
        port: wanted.port,
    })
}

fn within_a_week(key: &str, seconds: u32) -> Result<Duration, String> {
    let duration = Duration::from_secs(seconds.into());
    if KEPT.contains(&duration) {
        return Ok(duration);
    }
    let longest = KEPT.end().as_secs();
    Err(format!("{key} is {seconds}; it goes from 1 to {longest}"))
}

fn route(wanted: &WantedRoute) -> Result<RouteAttributes, String> {
    let mut route = RouteAttributes {
        med: wanted.med,
        local_pref: wanted.local_pref,
        ..RouteAttributes::default()
    };
    for text in &wanted.communities {
        match community(text) {
            Some(Community::Standard(number)) => route.communities.push(number),
            Some(Community::Large(numbers)) => route.large_communities.push(numbers),
            None => return Err(format!("{text:?} is not a community like 64512:100 or 64512:1:2")),
        }
    }
    Ok(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> WantedService {
        WantedService {
            name: "prod/default/web/80-tcp".into(),
            vips: vec!["192.0.2.1".into(), "2001:db8::1".into()],
            port: 80,
            backends: vec![WantedBackend { address: "10.0.0.1".into(), port: 8080, weight: 1 }],
            ..WantedService::default()
        }
    }

    #[test]
    fn each_mistake_is_named() {
        type Break = fn(&mut WantedService);
        let breaks: [(&str, Break); 11] = [
            ("name", |w| w.name.clear()),
            ("name", |w| w.name = "a b".into()),
            ("port is 0", |w| w.port = 0),
            ("no VIP", |w| w.vips.clear()),
            ("interval of 10 ms is not between 100ms and 1h", |w| {
                let interval_ms = Some(10);
                w.health = Some(WantedHealth { interval_ms, ..WantedHealth::default() });
            }),
            ("\"x\"", |w| w.backends[0].address = "x".into()),
            ("weight", |w| w.backends[0].weight = 256),
            ("\"10.0.0.0/33\"", |w| w.source_ranges = vec!["10.0.0.0/33".into()]),
            ("affinity_seconds", |w| w.affinity_seconds = Some(0)),
            ("community", |w| w.route.communities = vec!["70000:1".into()]),
            ("request target", |w| {
                let http_path = Some("healthz".into());
                w.health = Some(WantedHealth { http_path, ..WantedHealth::default() });
            }),
        ];
        assert!(service(&good(), Around::default()).is_ok());
        for (word, spoil) in breaks {
            let mut wanted = good();
            spoil(&mut wanted);
            let why = service(&wanted, Around::default()).unwrap_err();
            assert!(why.contains(word), "{word}: {why}");
        }
    }

    #[test]
    fn everybody_is_shown_as_the_vip_when_asked_for() {
        let wanted = WantedService { full_nat: true, ..good() };
        let inside = prefixes(&["10.0.0.0/8".into()]).unwrap();
        let made = service(&wanted, Around { inside: &inside, nat64_source: None }).unwrap();
        assert_eq!(*made.full_nat, everybody());
    }

    #[test]
    fn flows_of_a_backend_that_is_down_stay_where_that_is_wished() {
        let made = |on_down| {
            service(&WantedService { on_down, ..good() }, Around::default()).unwrap().on_down
        };
        assert_eq!(made(None), OnDown::Reset, "as before there was a choice");
        assert_eq!(made(Some(sluice_api::OnDown::Reset)), OnDown::Reset);
        assert_eq!(made(Some(sluice_api::OnDown::Drain)), OnDown::Drain);
    }

    #[test]
    fn nat64_needs_an_address() {
        let with = |wanted: &WantedService, source: Option<&str>| {
            let nat64_source = source.map(|source| source.parse().unwrap());
            service(wanted, Around { inside: &[], nat64_source })
        };
        let wanted = WantedService { nat64: true, ..good() };
        assert!(with(&wanted, Some("10.0.0.9")).unwrap().nat64);
        assert!(!with(&good(), Some("10.0.0.9")).unwrap().nat64);
        let why = with(&wanted, None).unwrap_err();
        assert!(why.contains("nat64-source"), "{why}");
    }
}
