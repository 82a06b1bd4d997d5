//! Services: what clients address and who answers.

use crate::health::{HealthCheck, Target};
use crate::observed::RouteAttributes;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

/// Address family of a VIP and of the backends behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a client addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The virtual address.
    pub vip: IpAddr,
    /// Destination port.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// A service's name, unique on the appliance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(pub String);

/// One backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Where its server listens.
    pub address: SocketAddr,
    /// 0 drains: existing flows stay, no new ones arrive.
    pub weight: u16,
}

/// What happens to a new flow when no backend is usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoBackend {
    /// TCP RST, SCTP ABORT or ICMP port unreachable: the client knows at once.
    #[default]
    Reject,
    /// Silence.
    Drop,
}

/// What becomes of the flows of a backend that its health check finds down.
///
/// Those of a backend that nobody wants any longer, or that there is no way to, are picked again in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnDown {
    /// They stay with it, and it gets no new ones: a probe that failed does not mean that its connections have.
    Drain,
    /// They are picked again; a connection ends with that, because another backend does not know it.
    #[default]
    Reset,
}

/// One balanced service: every address × port × protocol is a frontend over the backends of the VIP's family, or under NAT64
/// over those of IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique on the appliance.
    pub name: ServiceName,
    /// Virtual addresses of both families.
    pub vips: Vec<IpAddr>,
    /// Further addresses that clients of SCTP reach the same backend at; owned, announced and programmed as the others.
    pub secondary_vips: Vec<IpAddr>,
    /// Port of every frontend.
    pub port: u16,
    /// Protocol of every frontend.
    pub protocol: Protocol,
    /// Backends of both families.
    pub backends: Vec<Backend>,
    /// None: backends are always usable.
    pub health: Option<HealthCheck>,
    /// What becomes of the flows of a backend that is found down.
    pub on_down: OnDown,
    /// What new flows meet when nobody is usable.
    pub no_backend: NoBackend,
    /// A flow without packets for this long is forgotten.
    pub idle_timeout: Duration,
    /// Client prefixes that may connect, sorted; empty allows everybody. Shared with every program made of it.
    pub source_ranges: Arc<[IpNet]>,
    /// A client address keeps its backend for this long after its last new flow.
    pub affinity: Option<Duration>,
    /// Clients in these prefixes are shown to the backends as the VIP, so that answers come back here; sorted.
    pub full_nat: Arc<[IpNet]>,
    /// IPv6 VIPs are balanced over the IPv4 backends, which see an address of the appliance.
    pub nat64: bool,
    /// What its VIPs are announced with.
    pub route: RouteAttributes,
    /// The operator's own word, in the configuration file: where it and a source want one address, it has it.
    pub is_configured: bool,
}

/// What the data plane holds for one frontend: the outcome of a service and its backends' health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// In canonical order. Absent: its flows are picked again. Weight 0: its flows stay.
    pub backends: Vec<Backend>,
    /// What new flows meet when no backend has weight.
    pub no_backend: NoBackend,
    /// A flow without packets for this long is forgotten.
    pub idle_timeout: Duration,
    /// Client prefixes that may connect, sorted; empty allows everybody.
    pub source_ranges: Arc<[IpNet]>,
    /// A client address keeps its backend for this long after its last new flow.
    pub affinity: Option<Duration>,
    /// Clients in these prefixes are shown to the backends as the VIP; sorted.
    pub full_nat: Arc<[IpNet]>,
    /// A client's port alone decides its backend: whichever of its addresses it sends from, and to whichever of ours.
    pub multihomed: bool,
}

// === impl Protocol ===

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

// === impl OnDown ===

impl OnDown {
    /// What is right for a protocol unless somebody says otherwise. A connection ends by itself when its server has gone,
    /// and lasts when only the probe failed. Of UDP neither side would see that nobody answers any more, and a client that
    /// keeps its port (a resolver, a sender of logs) would send to a dead backend without end.
    pub fn usual(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp | Protocol::Sctp => OnDown::Drain,
            Protocol::Udp => OnDown::Reset,
        }
    }
}

// === impl Family ===

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

// === impl Frontend ===

impl Frontend {
    /// Every frontend a VIP can have; ordered maps by frontend hold those of one VIP side by side.
    pub fn all_of(vip: IpAddr) -> RangeInclusive<Frontend> {
        let first = Frontend { vip, port: 0, protocol: Protocol::Tcp };
        first..=Frontend { vip, port: u16::MAX, protocol: Protocol::Sctp }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.vip, self.port), self.protocol)
    }
}

// === impl ServiceName ===

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Backend ===

/// Sorted by address, one entry for each: any two appliances that hold the same backends hold them in the same order,
/// which is what lets them agree on a choice without talking. Of two entries for one address the heavier stays.
pub fn canonical_backends(backends: impl IntoIterator<Item = Backend>) -> Vec<Backend> {
    let mut by_address = BTreeMap::new();
    for backend in backends {
        let weight = by_address.entry(backend.address).or_insert(backend.weight);
        *weight = backend.weight.max(*weight);
    }
    by_address.into_iter().map(|(address, weight)| Backend { address, weight }).collect()
}

/// Without host bits, sorted and unique: two notations of one set are one value.
pub fn canonical_prefixes(prefixes: impl IntoIterator<Item = IpNet>) -> Arc<[IpNet]> {
    let mut prefixes: Vec<IpNet> = prefixes.into_iter().map(|prefix| prefix.trunc()).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes.into()
}

/// True when each element is greater than the one before it.
fn ascends<T: PartialOrd>(mut items: impl Iterator<Item = T> + Clone) -> bool {
    let mut ahead = items.clone().skip(1);
    ahead.all(|next| items.next().is_some_and(|item| item < next))
}

// === impl Service ===

impl Service {
    /// The same service with VIPs, backends and prefixes sorted and unique.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        if self.is_canonical() {
            return self;
        }
        self.vips.sort_unstable();
        self.vips.dedup();
        let vips = &self.vips;
        self.secondary_vips.retain(|vip| !vips.contains(vip));
        self.secondary_vips.sort_unstable();
        self.secondary_vips.dedup();
        self.backends = canonical_backends(self.backends);
        self.source_ranges = canonical_prefixes(self.source_ranges.iter().copied());
        self.full_nat = canonical_prefixes(self.full_nat.iter().copied());
        self
    }

    /// True when [`Service::canonical`] would change nothing.
    pub fn is_canonical(&self) -> bool {
        let plain = |prefixes: &[IpNet]| {
            ascends(prefixes.iter()) && prefixes.iter().all(|prefix| *prefix == prefix.trunc())
        };
        ascends(self.vips.iter())
            && ascends(self.secondary_vips.iter())
            && !self.secondary_vips.iter().any(|vip| self.vips.contains(vip))
            && ascends(self.backends.iter().map(|backend| backend.address))
            && plain(&self.source_ranges)
            && plain(&self.full_nat)
    }

    /// Every address that clients use.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.vips.iter().chain(&self.secondary_vips).copied()
    }

    /// Every frontend of the service.
    pub fn frontends(&self) -> impl Iterator<Item = Frontend> + '_ {
        self.addresses().map(|vip| Frontend { vip, port: self.port, protocol: self.protocol })
    }

    /// True when packets of one client may come to several addresses.
    pub fn is_multihomed(&self) -> bool {
        !self.secondary_vips.is_empty()
    }

    /// The backends that a VIP of this family is balanced over.
    pub fn backends_of(&self, family: Family) -> impl Iterator<Item = &Backend> + '_ {
        let wanted = if self.nat64 { Family::V4 } else { family };
        self.backends.iter().filter(move |b| Family::of(b.address.ip()) == wanted)
    }

    /// What to probe to know a backend's health; none when the service has no check.
    pub fn target(&self, backend: &Backend) -> Option<Target> {
        self.health.as_ref().map(|check| Target::new(backend.address, check))
    }
}

// === impl Program ===

impl Program {
    /// True when a new flow finds a backend.
    pub fn serves(&self) -> bool {
        self.backends.iter().any(|backend| backend.weight > 0)
    }
}
