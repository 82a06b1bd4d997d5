//! The ledger's file: JSON, replaced as a whole. The types of the file are its own; the vocabulary knows no serde.

use super::Content;
use crate::sources::{Bridge, Wish};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sluice_api::{WantedPeer, WantedService};
use sluice_model::{
    Backend, Generation, HealthCheck, NoBackend, Probe, Protocol, RouteAttributes, Service,
    ServiceName, StatusRange, canonical_prefixes,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Of the layout that is written.
const FORMAT: u32 = 5;

/// Layouts that are read. The first knew neither source ranges, affinity, full NAT nor routes, the second no bridges, the
/// third no NAT64, the fourth no SCTP; all have defaults.
const READABLE: std::ops::RangeInclusive<u32> = 1..=FORMAT;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("cannot read it")]
    Io(#[source] io::Error),
    #[error("{0}")]
    Garbled(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerFile {
    format: u32,
    revision: u64,
    sources: BTreeMap<String, WishEntry>,
    #[serde(default)]
    bridges: BTreeMap<String, BridgeEntry>,
    changed: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WishEntry {
    generation: u64,
    services: Vec<ServiceEntry>,
}

/// A bridge's words as they were sent: what was made of them follows from the program that reads them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BridgeEntry {
    owner: String,
    generation: u64,
    inside: Vec<String>,
    peers: Vec<WantedPeer>,
    /// Each with the generation that last changed it.
    services: Vec<(u64, WantedService)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceEntry {
    name: String,
    vips: Vec<IpAddr>,
    #[serde(default)]
    secondary_vips: Vec<IpAddr>,
    port: u16,
    protocol: ProtocolEntry,
    backends: Vec<(SocketAddr, u16)>,
    health: Option<HealthEntry>,
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
#[serde(deny_unknown_fields)]
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// Reads the file; an absent one is empty.
pub(super) fn read(path: &Path, nat64_source: Option<Ipv4Addr>) -> Result<Content, ReadError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        Err(error) => return Err(ReadError::Io(error)),
    };
    let file: LedgerFile =
        serde_json::from_slice(&bytes).map_err(|error| ReadError::Garbled(error.to_string()))?;
    if !READABLE.contains(&file.format) {
        let format = file.format;
        return Err(ReadError::Garbled(format!(
            "format {format} is newer than {FORMAT}, which is known here"
        )));
    }
    file.into_content(nat64_source).map_err(ReadError::Garbled)
}

/// Replaces the file so that at every moment, also after a power cut, the old one or the new one is there.
pub(super) fn write(path: &Path, content: &Content) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(&LedgerFile::from(content))?;
    bytes.push(b'\n');
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let fresh = path.with_extension("json.new");
    let mut file = File::create(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    // The rename itself is only safe once the directory is.
    File::open(directory)?.sync_all()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// === from and into the vocabulary ===

/// The configuration file among the sources.
const CONFIG: &str = "config";

impl LedgerFile {
    /// What a bridge's words come to depends on the address there is for NAT64.
    fn into_content(mut self, nat64_source: Option<Ipv4Addr>) -> Result<Content, String> {
        let config = self.sources.remove(CONFIG).map(Wish::from).unwrap_or_default();
        if let Some((other, _)) = self.sources.first_key_value() {
            return Err(format!("{other} is not a source"));
        }
        let bridge = |(name, entry): (String, BridgeEntry)| {
            let BridgeEntry { owner, generation, inside, peers, services } = entry;
            let kept = Bridge::kept(owner, generation, inside, peers, services, nat64_source)?;
            Ok((name, Arc::new(kept)))
        };
        let generations = self.changed.into_iter();
        Ok(Content {
            revision: Generation(self.revision),
            config,
            bridges: self.bridges.into_iter().map(bridge).collect::<Result<_, String>>()?,
            changed: generations.map(|(n, g)| (ServiceName(n), Generation(g))).collect(),
        })
    }
}

impl From<&Content> for LedgerFile {
    fn from(content: &Content) -> Self {
        let bridges = content.bridges.iter();
        LedgerFile {
            format: FORMAT,
            revision: content.revision.0,
            sources: BTreeMap::from([(CONFIG.to_owned(), WishEntry::from(&content.config))]),
            bridges: bridges.map(|(name, b)| (name.clone(), b.as_ref().into())).collect(),
            changed: content.changed.iter().map(|(n, g)| (n.0.clone(), g.0)).collect(),
        }
    }
}

impl From<&Bridge> for BridgeEntry {
    fn from(bridge: &Bridge) -> Self {
        let services = bridge.wishes.values();
        BridgeEntry {
            owner: bridge.owner.clone(),
            generation: bridge.generation,
            inside: bridge.inside.clone(),
            peers: bridge.peers.clone(),
            services: services.map(|wish| (wish.generation, wish.wanted.clone())).collect(),
        }
    }
}

impl From<WishEntry> for Wish {
    fn from(entry: WishEntry) -> Self {
        let services = entry.services.into_iter().map(|entry| Arc::new(entry.into())).collect();
        Wish { generation: Generation(entry.generation), services }
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
