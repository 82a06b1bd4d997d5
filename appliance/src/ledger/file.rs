//! The ledger's file: JSON. The types of the file are its own; the vocabulary knows no serde.
//!
//! Members that are not known are no mistake: a newer version has written them and was rolled back. Those of the whole and
//! of sources are kept, and written again, so that it finds them when it comes back.

use super::{Content, Recovery};
use crate::raw::{Members, Raw};
use crate::sources::{Bridge, Sent, Wish, peers};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sluice_model::{
    Backend, Generation, HealthCheck, NoBackend, OnDown, Probe, Protocol, RouteAttributes, Service,
    ServiceName, StatusRange, canonical_prefixes,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Of the layout that is written. It grows when something that was there gets another meaning; a further member is none.
const FORMAT: u32 = 5;

/// Layouts that are read. The first knew neither source ranges, affinity, full NAT nor routes, the second no bridges, the
/// third no NAT64, the fourth no SCTP; all have defaults. The next one is that of an update that was rolled back: a
/// version may only change what the one before it can read as well.
const READABLE: std::ops::RangeInclusive<u32> = 1..=FORMAT + 1;

/// As it is written. It is read by [`content`], member by member.
#[derive(Serialize)]
struct LedgerFile<'a> {
    format: u32,
    revision: u64,
    sources: BTreeMap<&'static str, WishEntry>,
    bridges: BTreeMap<&'a str, BridgeEntry<'a>>,
    changed: BTreeMap<&'a str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<&'a Recovery>,
    #[serde(flatten)]
    beyond: &'a BTreeMap<String, Raw>,
}

/// A bridge's words as they were sent: what was made of them follows from the program that reads them. Written as they
/// lie in memory, because there may be thousands, and read by [`bridge`].
#[derive(Serialize)]
struct BridgeEntry<'a> {
    owner: &'a str,
    generation: u64,
    inside: &'a [String],
    peers: PeersEntry<'a>,
    /// Each with the generation that last changed it.
    services: Vec<(u64, &'a Sent)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    beyond: &'a BTreeMap<String, Raw>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum PeersEntry<'a> {
    Raw(&'a Raw),
    Known(&'a [sluice_api::WantedPeer]),
}

#[derive(Serialize, Deserialize)]
struct WishEntry {
    generation: u64,
    services: Vec<ServiceEntry>,
}

#[derive(Serialize, Deserialize)]
struct ServiceEntry {
    name: String,
    vips: Vec<IpAddr>,
    #[serde(default)]
    secondary_vips: Vec<IpAddr>,
    port: u16,
    protocol: ProtocolEntry,
    backends: Vec<(SocketAddr, u16)>,
    health: Option<HealthEntry>,
    /// Absent in files of before; what was done then is `reset`.
    #[serde(default)]
    on_down: OnDownEntry,
    no_backend: NoBackendEntry,
    idle_timeout_ms: u64,
    #[serde(default)]
    source_ranges: Vec<IpNet>,
    #[serde(default)]
    affinity_ms: Option<u64>,
    #[serde(default)]
    full_nat: Vec<IpNet>,
    #[serde(default)]
    nat64: bool,
    #[serde(default)]
    route: RouteEntry,
}

#[derive(Default, Serialize, Deserialize)]
struct RouteEntry {
    local_pref: Option<u32>,
    med: Option<u32>,
    communities: Vec<u32>,
    large_communities: Vec<[u32; 3]>,
    prepend: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ProtocolEntry {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NoBackendEntry {
    Reject,
    Drop,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OnDownEntry {
    Drain,
    #[default]
    Reset,
}

#[derive(Serialize, Deserialize)]
struct HealthEntry {
    probe: ProbeEntry,
    interval_ms: u64,
    timeout_ms: u64,
    rise: u8,
    fall: u8,
    port: Option<u16>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ProbeEntry {
    TcpConnect,
    HttpGet { path: String, host: Option<String>, status: (u16, u16) },
}

/// What the file's bytes say.
pub(super) fn content(bytes: &[u8], nat64_source: Option<Ipv4Addr>) -> Result<Content, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut all = Members::of(text)?;
    let format: u32 = all.required("format")?;
    if !READABLE.contains(&format) {
        return Err(format!(
            "format {format} is too new: {FORMAT} is known here, and the one after it can be read"
        ));
    }
    // The file's own services are read from the configuration at each start; these only tell what has changed.
    let sources: BTreeMap<String, &RawValue> = match all.raw("sources") {
        Some(sources) => serde_json::from_str(sources.get()).map_err(|error| error.to_string())?,
        None => BTreeMap::new(),
    };
    let config = sources.get(CONFIG).and_then(|entry| serde_json::from_str(entry.get()).ok());
    let bridges: BTreeMap<String, &RawValue> = match all.raw("bridges") {
        Some(bridges) => serde_json::from_str(bridges.get()).map_err(|error| error.to_string())?,
        None => BTreeMap::new(),
    };
    let bridges = bridges.into_iter().map(|(name, entry)| {
        let bridge =
            bridge(entry.get(), nat64_source).map_err(|why| format!("source {name}: {why}"));
        Ok((name, Arc::new(bridge?)))
    });
    let changed: BTreeMap<String, u64> = all.required("changed")?;
    Ok(Content {
        revision: Generation(all.required("revision")?),
        config: config.map(|entry: WishEntry| Wish::from(entry)).unwrap_or_default(),
        bridges: bridges.collect::<Result<_, String>>()?,
        changed: changed.into_iter().map(|(n, g)| (ServiceName(n), Generation(g))).collect(),
        recovery: all.optional("recovery")?,
        beyond: all.rest(),
    })
}

/// What a bridge's words come to depends on the address there is for NAT64.
fn bridge(text: &str, nat64_source: Option<Ipv4Addr>) -> Result<Bridge, String> {
    let mut all = Members::of(text)?;
    let (peers, mut beyond) = peers(&mut all)?;
    let (owner, generation) = (all.required("owner")?, all.required("generation")?);
    let inside = all.optional("inside")?.unwrap_or_default();
    let services: Vec<(u64, &RawValue)> = match all.raw("services") {
        Some(services) => {
            serde_json::from_str(services.get()).map_err(|error| error.to_string())?
        }
        None => return Err("services is missing".to_owned()),
    };
    let services = services.into_iter().map(|(at, service)| Ok((at, Sent::read(service)?)));
    let services: Vec<(u64, Sent)> = services.collect::<Result<_, String>>()?;
    beyond.members = all.optional("beyond")?.unwrap_or_default();
    beyond.members.extend(all.rest());
    let peers = peers.unwrap_or_default();
    let bridge = Bridge { owner, generation, inside, peers, beyond, wishes: BTreeMap::new() };
    bridge.kept(services, nat64_source)
}

/// The file's bytes.
pub(super) fn bytes(content: &Content) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(&LedgerFile::from(content))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// === from and into the vocabulary ===

/// The configuration file among the sources.
const CONFIG: &str = "config";

impl<'a> From<&'a Content> for LedgerFile<'a> {
    fn from(content: &'a Content) -> Self {
        let bridges = content.bridges.iter();
        LedgerFile {
            format: FORMAT,
            revision: content.revision.0,
            sources: BTreeMap::from([(CONFIG, WishEntry::from(&content.config))]),
            bridges: bridges.map(|(name, b)| (name.as_str(), b.as_ref().into())).collect(),
            changed: content.changed.iter().map(|(n, g)| (n.0.as_str(), g.0)).collect(),
            recovery: content.recovery.as_ref(),
            beyond: &content.beyond,
        }
    }
}

impl<'a> From<&'a Bridge> for BridgeEntry<'a> {
    fn from(bridge: &'a Bridge) -> Self {
        let services = bridge.wishes.values();
        BridgeEntry {
            owner: &bridge.owner,
            generation: bridge.generation,
            inside: &bridge.inside,
            peers: match &bridge.beyond.peers {
                Some(raw) => PeersEntry::Raw(raw),
                None => PeersEntry::Known(&bridge.peers),
            },
            services: services.map(|wish| (wish.generation, &wish.sent)).collect(),
            beyond: &bridge.beyond.members,
        }
    }
}

impl From<WishEntry> for Wish {
    fn from(entry: WishEntry) -> Self {
        let services = entry.services.into_iter().map(|entry| Arc::new(entry.into())).collect();
        Wish { generation: Generation(entry.generation), services, ..Wish::default() }
    }
}

impl From<&Wish> for WishEntry {
    fn from(wish: &Wish) -> Self {
        let services = wish.services.iter().map(|service| service.as_ref().into()).collect();
        WishEntry { generation: wish.generation.0, services }
    }
}

impl From<ServiceEntry> for Service {
    fn from(entry: ServiceEntry) -> Self {
        let backend = |(address, weight)| Backend { address, weight };
        Service {
            name: ServiceName(entry.name),
            vips: entry.vips,
            secondary_vips: entry.secondary_vips,
            port: entry.port,
            protocol: match entry.protocol {
                ProtocolEntry::Tcp => Protocol::Tcp,
                ProtocolEntry::Udp => Protocol::Udp,
                ProtocolEntry::Sctp => Protocol::Sctp,
            },
            backends: entry.backends.into_iter().map(backend).collect(),
            health: entry.health.map(HealthCheck::from),
            on_down: match entry.on_down {
                OnDownEntry::Drain => OnDown::Drain,
                OnDownEntry::Reset => OnDown::Reset,
            },
            no_backend: match entry.no_backend {
                NoBackendEntry::Reject => NoBackend::Reject,
                NoBackendEntry::Drop => NoBackend::Drop,
            },
            idle_timeout: Duration::from_millis(entry.idle_timeout_ms),
            source_ranges: canonical_prefixes(entry.source_ranges),
            affinity: entry.affinity_ms.map(Duration::from_millis),
            full_nat: canonical_prefixes(entry.full_nat),
            nat64: entry.nat64,
            route: RouteAttributes {
                local_pref: entry.route.local_pref,
                med: entry.route.med,
                communities: entry.route.communities,
                large_communities: entry.route.large_communities,
                prepend: entry.route.prepend,
            },
            // What a bridge wished is kept as it was sent.
            is_configured: true,
        }
    }
}

impl From<&Service> for ServiceEntry {
    fn from(service: &Service) -> Self {
        ServiceEntry {
            name: service.name.0.clone(),
            vips: service.vips.clone(),
            secondary_vips: service.secondary_vips.clone(),
            port: service.port,
            protocol: match service.protocol {
                Protocol::Tcp => ProtocolEntry::Tcp,
                Protocol::Udp => ProtocolEntry::Udp,
                Protocol::Sctp => ProtocolEntry::Sctp,
            },
            backends: service.backends.iter().map(|b| (b.address, b.weight)).collect(),
            health: service.health.as_ref().map(HealthEntry::from),
            on_down: match service.on_down {
                OnDown::Drain => OnDownEntry::Drain,
                OnDown::Reset => OnDownEntry::Reset,
            },
            no_backend: match service.no_backend {
                NoBackend::Reject => NoBackendEntry::Reject,
                NoBackend::Drop => NoBackendEntry::Drop,
            },
            idle_timeout_ms: milliseconds(service.idle_timeout),
            source_ranges: service.source_ranges.to_vec(),
            affinity_ms: service.affinity.map(milliseconds),
            full_nat: service.full_nat.to_vec(),
            nat64: service.nat64,
            route: RouteEntry {
                local_pref: service.route.local_pref,
                med: service.route.med,
                communities: service.route.communities.clone(),
                large_communities: service.route.large_communities.clone(),
                prepend: service.route.prepend,
            },
        }
    }
}

impl From<HealthEntry> for HealthCheck {
    fn from(entry: HealthEntry) -> Self {
        let probe = match entry.probe {
            ProbeEntry::TcpConnect => Probe::TcpConnect,
            ProbeEntry::HttpGet { path, host, status: (first, last) } => {
                Probe::HttpGet { path, host, status: StatusRange { first, last } }
            }
        };
        HealthCheck {
            probe,
            interval: Duration::from_millis(entry.interval_ms),
            timeout: Duration::from_millis(entry.timeout_ms),
            rise: entry.rise,
            fall: entry.fall,
            port: entry.port,
        }
    }
}

impl From<&HealthCheck> for HealthEntry {
    fn from(check: &HealthCheck) -> Self {
        let probe = match &check.probe {
            Probe::TcpConnect => ProbeEntry::TcpConnect,
            Probe::HttpGet { path, host, status } => ProbeEntry::HttpGet {
                path: path.clone(),
                host: host.clone(),
                status: (status.first, status.last),
            },
        };
        HealthEntry {
            probe,
            interval_ms: milliseconds(check.interval),
            timeout_ms: milliseconds(check.timeout),
            rise: check.rise,
            fall: check.fall,
            port: check.port,
        }
    }
}
