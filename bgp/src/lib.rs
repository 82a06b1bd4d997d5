//! BGP sessions on TCP around the pure core: the handle the reconciler calls.
//!
//! The announced set is given as a whole and diffed per peer. Nothing is imported (RFC 8212).

use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;

/// The speaker: who we are and whom we talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerConfig {
    pub asn: u32,
    pub router_id: Ipv4Addr,
    /// Addresses to accept sessions on; empty for active-only.
    pub listen: Vec<SocketAddr>,
    pub peers: Vec<PeerConfig>,
    /// RFC 4724: seconds the peers may keep our routes over a restart; zero turns the capability off.
    pub graceful_restart: Duration,
}

/// One configured peer; its address is its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    pub address: IpAddr,
    pub port: u16,
    pub asn: u32,
    pub local_address: Option<IpAddr>,
    /// Never dial, only accept.
    pub passive: bool,
    pub hold_time: Duration,
    pub connect_retry: Duration,
    /// Next hops to send where the session's own address is of the other family.
    pub next_hop_v4: Option<Ipv4Addr>,
    pub next_hop_v6: Option<std::net::Ipv6Addr>,
}

/// Attributes of an announced prefix beyond the mandatory ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteAttributes {
    pub med: Option<u32>,
    /// Sent to iBGP peers only; 100 when absent.
    pub local_pref: Option<u32>,
    /// RFC 1997, high 16 bits first.
    pub communities: Vec<u32>,
    /// RFC 8092.
    pub large_communities: Vec<[u32; 3]>,
    /// How many extra times our AS is prepended.
    pub prepend: u8,
}

/// The whole announced set.
pub type Announced = BTreeMap<IpNet, RouteAttributes>;

/// RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

/// What is known of one peer; published at each change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub address: IpAddr,
    pub asn: u32,
    pub state: PeerState,
    /// Wall clock of the last change of `state` into or out of Established.
    pub since: std::time::SystemTime,
    pub local_address: Option<SocketAddr>,
    pub router_id: Option<Ipv4Addr>,
    pub hold_time: Option<Duration>,
    /// Names as in the RFCs' titles: "multiprotocol ipv4-unicast", "4-octet AS", …
    pub capabilities: Vec<String>,
    /// Prefixes we have announced to this peer and not withdrawn.
    pub announced: u64,
    /// Prefixes the peer announced to us (counted, never installed).
    pub received: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    pub flaps: u64,
    /// The last reason the session went down, in words, with code and subcode.
    pub last_error: Option<String>,
}

/// Placeholder error, replaced by one enum per operation.
#[derive(Debug, thiserror::Error)]
#[error("bgp")]
pub struct Error;

/// Handle to the speaker's tasks.
pub struct Speaker {
    _private: (),
}

impl Speaker {
    /// Binds the listeners and starts a task per peer. `initial` is complete: its End-of-RIB follows at once.
    /// `restarted` says that forwarding state survived (RFC 4724 R and F bits on the first session of each peer).
    pub async fn start(_config: SpeakerConfig, _initial: Announced, _restarted: bool) -> Result<Self, Error> { todo!() }
    /// Peers that did not change keep their session; a bad configuration changes nothing.
    pub async fn configure(&self, _config: SpeakerConfig) -> Result<(), Error> { todo!() }
    /// The whole set; the latest wins, each peer is sent the difference.
    pub fn announce(&self, _routes: Announced) { todo!() }
    pub fn announced(&self) -> Announced { todo!() }
    pub fn peers(&self) -> watch::Receiver<Vec<PeerStatus>> { todo!() }
    /// Withdraws everything, sends Cease/administrative shutdown with `reason` (RFC 9003) and ends.
    pub async fn shutdown(self, _reason: &str) { todo!() }
}
