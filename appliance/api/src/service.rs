//! Services, their backends and the VIPs they live on.

use crate::{Counters, Rates, spelled};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

spelled!(Protocol { Tcp => "tcp", Udp => "udp", Sctp => "sctp" });

/// What a service can do for its clients right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Programmed, every backend usable.
    Up,
    /// Programmed, some backends unusable.
    Degraded,
    /// Programmed, no usable backend: new clients are refused and the VIP is withdrawn.
    Down,
    /// Not in the data plane yet.
    #[default]
    Unprogrammed,
}

spelled!(ServiceState {
    Up => "up",
    Degraded => "degraded",
    Down => "down",
    Unprogrammed => "unprogrammed",
});

/// One balanced service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Unique on the appliance.
    #[schema(example = "web")]
    pub name: String,
    /// Addresses clients use, both families.
    pub vips: Vec<String>,
    /// Further addresses that clients of SCTP reach the same backend at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary_vips: Vec<String>,
    /// Port clients use.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// What it can do for clients right now.
    pub state: ServiceState,
    /// Generation of the desired state that last changed this service.
    pub generation: u64,
    /// True when the data plane holds exactly the desired service.
    pub programmed: bool,
    /// True when every VIP of it that should be announced is.
    pub announced: bool,
    /// Health check in words ("http GET /healthz every 1s"); absent when backends are not checked.
    pub check: Option<String>,
    /// Configured backends, by address and port.
    pub backends: Vec<Backend>,
    /// Counters over all its frontends.
    pub counters: Counters,
    /// Rates over all its frontends.
    pub rates: Rates,
}

/// Whether a backend may get new flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// The last probes succeeded.
    Up,
    /// The last probes failed: no new flows.
    Down,
    /// Not probed often enough to know.
    #[default]
    Unknown,
    /// The service has no health check: always usable.
    Unchecked,
    /// Weight 0: existing flows stay, no new ones arrive.
    Draining,
}

spelled!(Health {
    Up => "up",
    Down => "down",
    Unknown => "unknown",
    Unchecked => "unchecked",
    Draining => "draining",
});

/// What is known of the way to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NextHopState {
    /// Link and neighbour are known.
    Resolved,
    /// A route exists; the neighbour has not answered yet.
    #[default]
    Resolving,
    /// The neighbour does not answer.
    Unreachable,
    /// No route leads there.
    NoRoute,
}

spelled!(NextHopState {
    Resolved => "resolved",
    Resolving => "resolving",
    Unreachable => "unreachable",
    NoRoute => "no-route",
});

/// One backend of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Backend {
    /// The service it belongs to.
    pub service: String,
    /// IP address, without port.
    #[schema(example = "10.1.0.11")]
    pub address: String,
    /// Port of the backend.
    pub port: u16,
    /// Share of new flows relative to the other backends; 0 drains.
    pub weight: u16,
    /// Whether it may get new flows.
    pub health: Health,
    /// When `health` last changed, RFC 3339; empty when it never did.
    pub health_since: String,
    /// Last probe's failure in words, or the way that is missing ("no route to 10.1.0.9").
    pub reason: Option<String>,
    /// What is known of the way to it.
    pub next_hop: NextHopState,
    /// Counters over all frontends of the service.
    pub counters: Counters,
    /// Rates over all frontends of the service.
    pub rates: Rates,
}

/// One virtual IP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Vip {
    /// IP address.
    #[schema(example = "203.0.113.10")]
    pub address: String,
    /// True when it is on the loopback interface.
    pub on_link: bool,
    /// True when it is announced to at least one established peer.
    pub announced: bool,
    /// Services on it, by name.
    pub services: Vec<String>,
}
