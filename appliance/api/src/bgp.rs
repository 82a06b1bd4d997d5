//! The BGP speaker, its peers and what is announced to them.

use crate::spelled;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The BGP speaker itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BgpSpeaker {
    /// Local autonomous system.
    #[schema(example = 64512)]
    pub asn: u32,
    /// BGP identifier.
    #[schema(example = "10.0.0.2")]
    pub router_id: String,
    /// RFC 4724 restart time sent to peers; 0 when graceful restart is off.
    pub graceful_restart_seconds: u64,
}

/// States of RFC 4271 §8.2.2, spelled as there.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
pub enum BgpState {
    /// Refuses connections; waits for the next start.
    #[default]
    Idle,
    /// Waits for its own TCP connection.
    Connect,
    /// Waits for the peer's connection or the next attempt.
    Active,
    /// OPEN sent.
    OpenSent,
    /// OPEN accepted; waits for the peer's KEEPALIVE.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

spelled!(BgpState {
    Idle => "Idle",
    Connect => "Connect",
    Active => "Active",
    OpenSent => "OpenSent",
    OpenConfirm => "OpenConfirm",
    Established => "Established",
});

/// One configured peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BgpPeer {
    /// IP address; the peer's identity.
    #[schema(example = "10.0.0.1")]
    pub address: String,
    /// Configured autonomous system of the peer.
    #[schema(example = 64513)]
    pub asn: u32,
    /// State of the session.
    pub state: BgpState,
    /// When the session last came up or went down, RFC 3339.
    pub since: String,
    /// The peer's BGP identifier, once it sent an OPEN.
    pub router_id: Option<String>,
    /// Our end of the session, with port.
    pub local_address: Option<String>,
    /// Negotiated hold time; absent until negotiated, 0 means never.
    pub hold_time_seconds: Option<u64>,
    /// Capabilities in use, in the words of their RFCs ("multiprotocol ipv4-unicast", "4-octet AS").
    pub capabilities: Vec<String>,
    /// Capabilities that we sent.
    #[serde(default)]
    pub capabilities_sent: Vec<String>,
    /// Capabilities that the peer sent.
    #[serde(default)]
    pub capabilities_received: Vec<String>,
    /// Prefixes announced to it and not withdrawn.
    pub announced: u64,
    /// Prefixes it announced to us; counted, never installed.
    pub received: u64,
    /// Messages received in all sessions.
    pub messages_in: u64,
    /// Messages sent in all sessions.
    pub messages_out: u64,
    /// How often an established session was lost.
    pub flaps: u64,
    /// Why the session last went down or did not come up, in words, with code and subcode.
    pub last_error: Option<String>,
    /// The last error of each kind; further attempts do not hide why a session was lost, or what the peer's operator wrote.
    #[serde(default)]
    pub errors: Vec<BgpError>,
}

/// What kind of an error ended a connection with a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BgpErrorKind {
    /// Why an established session was lost; also listed as one of the others.
    #[default]
    Lost,
    /// The peer's NOTIFICATION, with the text of its operator.
    Received,
    /// Our NOTIFICATION.
    Sent,
    /// A connection that could not be made, or broke.
    Transport,
}

spelled!(BgpErrorKind {
    Lost => "lost",
    Received => "received",
    Sent => "sent",
    Transport => "transport",
});

/// The last error of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BgpError {
    /// Which kind.
    pub kind: BgpErrorKind,
    /// When, RFC 3339.
    pub at: String,
    /// In words, with code and subcode.
    pub text: String,
}

/// One announced prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BgpRoute {
    /// Prefix in CIDR notation.
    #[schema(example = "203.0.113.10/32")]
    pub prefix: String,
    /// Services on the VIP, by name.
    pub services: Vec<String>,
    /// MULTI_EXIT_DISC, when one is sent.
    pub med: Option<u32>,
    /// LOCAL_PREF, when one is sent (iBGP peers only).
    pub local_pref: Option<u32>,
    /// Communities of RFC 1997 (`64512:100`) and RFC 8092 (`64512:1:2`).
    pub communities: Vec<String>,
    /// Peers it is announced to, by address.
    pub peers: Vec<String>,
}
