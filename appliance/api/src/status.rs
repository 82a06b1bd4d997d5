//! The appliance as a whole: status, links, rates and drops.

use crate::{BgpPeer, BgpRoute, BgpSpeaker, Service, SourceSummary, Vip, spelled};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything the appliance shows, taken at one moment; each endpoint is a part of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// The appliance as a whole.
    pub status: Status,
    /// Every service of the desired state, by name.
    pub services: Vec<Service>,
    /// Every VIP of the desired state and every one still on the link, by address.
    pub vips: Vec<Vip>,
    /// Configured peers, by address.
    pub peers: Vec<BgpPeer>,
    /// The announced set, by prefix.
    pub routes: Vec<BgpRoute>,
    /// Bridges that say what should be, by name.
    pub sources: Vec<SourceSummary>,
    /// Every drop reason the data plane knows, also those that never happened.
    pub drops: Vec<Drop>,
    /// One point a second, oldest first, at most 120.
    pub history: Vec<RatePoint>,
}

/// The appliance as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the daemon.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// Name of the appliance, from the configuration or the host name.
    #[schema(example = "edge-1")]
    pub name: String,
    /// When the daemon started, RFC 3339.
    #[schema(example = "2026-05-04T12:00:00Z")]
    pub started_at: String,
    /// Seconds since the daemon started.
    pub uptime_seconds: u64,
    /// Generation of the desired state.
    pub generation: u64,
    /// Generation of the state that is programmed; equal to `generation` when nothing is pending.
    pub programmed_generation: u64,
    /// True when a running data plane was taken over at start.
    pub adopted: bool,
    /// True when everything that is configured is at work; `/readyz` answers with it.
    pub ready: bool,
    /// True when the record of what is wanted was lost: what the kernel carried goes on until every source has said again
    /// what it wants. Not ready meanwhile.
    #[serde(default)]
    pub degraded: bool,
    /// Why not ready, and what else needs an operator's eye; one sentence each.
    pub problems: Vec<String>,
    /// Interfaces the data plane works on, by name.
    pub links: Vec<Link>,
    /// Live entries of the flow table.
    pub flows: u64,
    /// Room of the flow table, from the configuration; 0 when not known.
    pub max_flows: u64,
    /// Received packets that were not ours and went to the kernel.
    pub passed: Traffic,
    /// Rates over all services.
    pub rates: Rates,
    /// The BGP speaker; absent when `[bgp]` is not configured.
    pub bgp: Option<BgpSpeaker>,
}

/// One interface the data plane works on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Interface name.
    #[schema(example = "eth0")]
    pub name: String,
    /// Interface index in the kernel.
    pub index: u32,
    /// Administratively up and with carrier.
    pub up: bool,
    /// How the XDP program is attached.
    pub xdp: XdpMode,
    /// Driver of the NIC; absent when no XDP is attached, and for links that are no NIC's (veth, bridges).
    #[serde(default)]
    #[schema(example = "virtio_net")]
    pub driver: Option<String>,
    /// Queues that the NIC has, received or sent, whichever are fewer.
    #[serde(default)]
    pub queues: Option<u32>,
    /// Queues with which no CPU waits for another one to send by XDP; with fewer it is correct, and slower.
    #[serde(default)]
    pub queues_wanted: Option<u32>,
}

/// How the XDP program is attached to a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// In the driver: the fast way.
    Native,
    /// In the kernel's stack, after the buffer was allocated: correct, slower.
    Generic,
    /// Not attached: packets of this link are not balanced.
    #[default]
    Detached,
}

spelled!(XdpMode { Native => "native", Generic => "generic", Detached => "detached" });

/// Packets and bytes since the maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of whole frames.
    pub bytes: u64,
}

/// Rates over the last second. *In* is from clients to backends, *out* is from backends to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    /// Packets per second from clients to backends.
    pub packets_in: f64,
    /// Bytes per second from clients to backends.
    pub bytes_in: f64,
    /// Packets per second from backends to clients.
    pub packets_out: f64,
    /// Bytes per second from backends to clients.
    pub bytes_out: f64,
    /// New flows per second.
    pub new_flows: f64,
}

/// Counters since the maps were made. *In* is from clients to backends, *out* is from backends to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// Packets from clients to backends.
    pub packets_in: u64,
    /// Bytes from clients to backends.
    pub bytes_in: u64,
    /// Packets from backends to clients.
    pub packets_out: u64,
    /// Bytes from backends to clients.
    pub bytes_out: u64,
    /// Flows begun.
    pub new_flows: u64,
}

/// Packets the data plane dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Drop {
    /// Stable name, snake case; the metric's label.
    #[schema(example = "no_next_hop")]
    pub reason: String,
    /// Packets since the maps were made.
    pub packets: u64,
    /// Packets per second over the last second.
    pub rate: f64,
}

/// One second of history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RatePoint {
    /// Seconds since the epoch.
    pub at: u64,
    /// Rates over all services in that second.
    pub rates: Rates,
    /// Packets dropped in that second, over all reasons.
    pub drops: f64,
}
