//! REST types of `/api/v1`: the one contract shared by the daemon, the CLI, the status page and the bridge.
//!
//! No behaviour lives here. Times are RFC 3339 strings or seconds, rates are per second, addresses are text.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything the appliance shows, taken at one moment; each endpoint is a part of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    pub status: Status,
    pub services: Vec<Service>,
    pub vips: Vec<Vip>,
    pub peers: Vec<BgpPeer>,
    pub routes: Vec<BgpRoute>,
    pub drops: Vec<Drop>,
    /// One point a second, oldest first, at most 120.
    pub history: Vec<RatePoint>,
}

/// The appliance as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    pub name: String,
    pub started_at: String,
    pub uptime_seconds: u64,
    /// Generation of the desired state, and of the one that is programmed.
    pub generation: u64,
    pub programmed_generation: u64,
    /// True when a running data plane was taken over at start.
    pub adopted: bool,
    pub ready: bool,
    /// Why not ready, and what else needs an operator's eye.
    pub problems: Vec<String>,
    pub links: Vec<Link>,
    pub flows: u64,
    pub rates: Rates,
}

/// One interface the data plane works on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    pub name: String,
    pub index: u32,
    pub up: bool,
    /// `native`, `generic` or `detached`.
    pub xdp: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    pub packets_in: f64,
    pub bytes_in: f64,
    pub packets_out: f64,
    pub bytes_out: f64,
    pub new_flows: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub new_flows: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    pub name: String,
    pub vips: Vec<String>,
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `up` (a usable backend), `down`, `degraded` (some backends down), `unprogrammed`.
    pub state: String,
    pub generation: u64,
    pub programmed: bool,
    pub announced: bool,
    pub backends: Vec<Backend>,
    pub counters: Counters,
    pub rates: Rates,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Backend {
    pub service: String,
    pub address: String,
    pub port: u16,
    pub weight: u16,
    /// `up`, `down`, `unknown`, `unchecked`, `draining`.
    pub health: String,
    pub health_since: String,
    /// Last probe's failure in words, or the way that is missing ("no route to 10.1.0.9").
    pub reason: Option<String>,
    /// `resolved`, `resolving`, `unreachable`, `no-route`.
    pub next_hop: String,
    pub counters: Counters,
    pub rates: Rates,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Vip {
    pub address: String,
    pub on_link: bool,
    pub announced: bool,
    pub services: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BgpPeer {
    pub address: String,
    pub asn: u32,
    /// `Idle` … `Established`.
    pub state: String,
    pub since: String,
    pub router_id: Option<String>,
    pub local_address: Option<String>,
    pub hold_time_seconds: Option<u64>,
    pub capabilities: Vec<String>,
    pub announced: u64,
    pub received: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    pub flaps: u64,
    pub last_error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BgpRoute {
    pub prefix: String,
    pub services: Vec<String>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub communities: Vec<String>,
    /// Peers it is sent to, by address.
    pub peers: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drop {
    pub reason: String,
    pub packets: u64,
    pub rate: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RatePoint {
    /// Seconds since the epoch.
    pub at: u64,
    pub rates: Rates,
    pub drops: f64,
}
