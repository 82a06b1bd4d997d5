//! Sources: who may say what should be, and what becomes of it. The contract of a bridge with each appliance.
//!
//! A source is one cluster (`PUT /api/v1/sources/{source}`, then `PATCH` with what changed). Its generation grows with
//! every change: `PUT` with a lower one is refused, the same one with other content too, and a `PATCH` must name the
//! generation it builds on. What a source wished last stays in force until it wishes otherwise, whoever restarts.
//!
//! # Versions
//!
//! Bridges and appliances are upgraded at different times, in either order. [`CONTRACT`] counts; a report says which one the
//! appliance understands. The rules that keep both sides working:
//!
//! - New members are optional, and their absence means what it meant before. Nothing is removed, renamed or given another
//!   type or meaning: that would be `/api/v2`.
//! - An appliance that does not know a member serves the rest, keeps the member as it was sent, and lists it as `ignored`
//!   in its report. After its own update it reads what it has kept.
//! - Ignoring a member must never open what its author has closed. So a service lists such members by name in `requires`
//!   (`"requires": ["deny_ranges"]`): an appliance that does not know one of them leaves that service out and says why.
//! - A service whose members have values that the appliance does not know (a further protocol) is left out alone.
//! - Who reads a report ignores members that it does not know, and takes a value that it does not know for the default one.
//! - Texts have at most 2048 bytes and no control characters or controls of bidirectional text, an owner has 128 characters
//!   of ASCII at most, a name 253. A service that breaks this is left out alone; a message whose owner or names break it
//!   is refused.

use crate::{BgpState, Protocol, ServiceState};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// The version of this contract; it grows when members are added. 1 refused whatever it did not know.
pub const CONTRACT: u32 = 3;

/// Everything a source wants; the body of `PUT /api/v1/sources/{source}`. Services that are absent are removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceState {
    /// Who stands behind the source, for example the UID of the cluster. A source belongs to the first owner that
    /// writes to it; another one is refused with 409 until an operator deletes the source.
    pub owner: String,
    /// Higher than any before. A bridge takes the high 32 bits from its Lease's transitions, so that a new leader
    /// outranks the old one, and counts in the low ones.
    pub generation: u64,
    /// Prefixes of clients whose answers would not come back through the appliance, because they live beside the
    /// backends (pods and nodes of the cluster): the backend sees the VIP in place of their address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<String>,
    /// BGP peers, beside those of the configuration file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<WantedPeer>,
    /// Every service of the source.
    pub services: Vec<WantedService>,
}

/// What changed since `base`; the body of `PATCH /api/v1/sources/{source}`. 409 when `base` is not the generation the
/// appliance has: the source then sends everything with `PUT`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceChange {
    /// As in [`SourceState`].
    pub owner: String,
    /// The generation this builds on.
    pub base: u64,
    /// The generation after the change; higher than `base`.
    pub generation: u64,
    /// As in [`SourceState`]; absent when it has not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Vec<String>>,
    /// As in [`SourceState`]; absent when they have not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<WantedPeer>>,
    /// New services and changed ones, each complete.
    pub upsert: Vec<WantedService>,
    /// Names of services that are no longer wanted; unknown names are no error.
    pub remove: Vec<String>,
}

/// How many addresses an association may have besides that which the client began it at; what other balancers take too.
pub const MAX_SECONDARY_VIPS: usize = 3;

/// One wanted frontend per VIP: one port and protocol over one set of backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WantedService {
    /// Unique on the appliance over all sources.
    #[schema(example = "prod/default/web/80-tcp")]
    pub name: String,
    /// Addresses clients use, without prefix length, both families.
    pub vips: Vec<String>,
    /// Further addresses that clients of SCTP reach the same backend at, of the families of `vips`; at most 3. Such a
    /// service has neither affinity nor full NAT for everybody nor NAT64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary_vips: Vec<String>,
    /// Port clients use.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Who answers; the backends of a VIP are those of its family, see `nat64`.
    pub backends: Vec<WantedBackend>,
    /// Client prefixes that may connect; empty allows everybody. A family without a prefix in a list that is not empty
    /// is refused altogether.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_ranges: Vec<String>,
    /// Seconds for which a client address keeps its backend after its last new flow; absent for no affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u32>,
    /// The backends see the VIP in place of every client's address, so their answers need no way back of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full_nat: bool,
    /// IPv6 VIPs are balanced over the IPv4 backends, which see an address of the appliance in place of the client's.
    /// Refused by an appliance that has none for this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nat64: bool,
    /// How backends are asked whether they live; absent trusts the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<WantedHealth>,
    /// What becomes of the flows of a backend that the health check finds down; absent for `reset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_down: Option<OnDown>,
    /// Seconds without a packet after which a flow is forgotten; absent for the protocol's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<u32>,
    /// What its VIPs are announced with. Services that share a VIP must agree; the first by name decides.
    #[serde(default)]
    pub route: WantedRoute,
}

/// What becomes of the flows of a backend that a health check finds down. Those of one without a way are always picked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDown {
    /// They stay with it, and it gets no new ones.
    Drain,
    /// They are picked again, which ends a connection: another backend does not know it.
    Reset,
}

/// One backend of a wanted service.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
pub struct WantedBackend {
    /// IP address, without port.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Share of new flows, 0 to 255; 0 drains: its flows stay, no new ones arrive.
    pub weight: u16,
}

/// A health check. Defaults are those of the configuration file. Over SCTP itself there is none, so one of a service of
/// SCTP names another port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WantedHealth {
    /// Request target of an HTTP GET, beginning with a slash; absent for a TCP connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_path: Option<String>,
    /// Probe this port instead of the backend's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Between the starts of two probes; default 2000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u32>,
    /// A probe that takes longer has failed; default 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// Consecutive failures until down; default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fall: Option<u8>,
}

/// BGP attributes of the routes to a service's VIPs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WantedRoute {
    /// LOCAL_PREF towards internal peers (RFC 4271 §5.1.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// MED (RFC 4271 §5.1.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// Communities, `ASN:VALUE` (RFC 1997) or `ASN:A:B` (large, RFC 8092).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
}

/// A BGP peer. The appliance's own AS number and identifier are in its configuration; a peer of the configuration file
/// with the same address takes precedence and is reported as a problem of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WantedPeer {
    /// Unique in the source.
    pub name: String,
    /// IP address, without port.
    pub address: String,
    /// AS number of the peer.
    pub asn: u32,
    /// TCP port; default 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Hold time to propose; 0 for none, else at least 3; default 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time_seconds: Option<u16>,
    /// Never dial, only accept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub passive: bool,
    /// Names of the appliances that are to peer; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub appliances: Vec<String>,
}

/// What became of a source's wishes; the answer to `PUT`, `PATCH` and `GET /api/v1/sources/{source}`.
///
/// `GET …?revision=N` answers when the report's revision is another one than N, or after 25 seconds with what it then
/// is, so that a bridge learns of a change at once without polling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceReport {
    /// Name of the appliance.
    pub appliance: String,
    /// The version of the contract that the appliance understands; 0 is one from before this member.
    #[serde(default)]
    #[schema(example = 2)]
    pub contract: u32,
    /// The source's name.
    pub source: String,
    /// Its owner.
    pub owner: String,
    /// The newest generation accepted.
    pub generation: u64,
    /// Changes with everything below; not ordered, and not kept over a restart of the daemon.
    pub revision: u64,
    /// What became of each service, by name.
    pub services: Vec<ServiceReport>,
    /// What became of each peer that names this appliance or none, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerReport>,
    /// Members beside those of services that the appliance does not know and ignores, as `peers[].bfd`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// What is held since the record of what is wanted was lost, see [`crate::Status::degraded`]; all empty when it is in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// What has happened to the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Sources that have not sent everything since.
    pub awaited: Vec<String>,
    /// Services that stand for what the kernel carries and no source has claimed, by name.
    pub services: Vec<String>,
}

/// One source in short, as the status shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceSummary {
    /// Its name.
    #[schema(example = "prod")]
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// The newest generation accepted.
    pub generation: u64,
    /// How many services it wants.
    pub services: u64,
    /// How many of them are not served as wanted; `GET /api/v1/sources/{source}` says why.
    pub problems: u64,
}

/// What became of one wanted peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerReport {
    /// Its name.
    pub name: String,
    /// State of the session.
    #[serde(deserialize_with = "or_default")]
    pub state: BgpState,
    /// Why there is no session, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What became of one wanted service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// Generation of the source that last changed it.
    pub generation: u64,
    /// The data plane holds exactly what is wanted.
    pub programmed: bool,
    /// Every VIP of it that finds a usable backend is announced to an established peer, or there is no BGP to announce it
    /// with. A service without a usable backend (`state` is `down`) announces nothing and is as it should be.
    pub announced: bool,
    /// What it can do for clients.
    #[serde(deserialize_with = "or_default")]
    pub state: ServiceState,
    /// Why it is not served as wanted, in words: a clash with another source, a limit, an address without a way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Members of it that the appliance does not know and ignores, as `backends[].zone`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// A value of a closed set that a later version may have made larger: one that is not known is the default.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value<T> {
        Known(T),
        Unknown(serde::de::IgnoredAny),
    }
    Ok(match Value::deserialize(from)? {
        Value::Known(value) => value,
        Value::Unknown(_) => T::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_a_newer_appliance_is_read() {
        let report = r#"{ "appliance": "a", "contract": 9, "source": "s", "owner": "o", "generation": 1, "revision": 2,
            "mood": "good", "ignored": ["x"], "peers": [{ "name": "p", "state": "Resting", "since": 1 }],
            "services": [{ "name": "w", "generation": 1, "programmed": true, "announced": true, "state": "warm", "zone": [] },
                { "name": "v", "generation": 1, "programmed": true, "announced": true, "state": "up" }] }"#;
        let report: SourceReport = serde_json::from_str(report).unwrap();
        assert_eq!((report.contract, report.peers[0].state), (9, BgpState::Idle));
        let states: Vec<_> = report.services.iter().map(|s| (s.programmed, s.state)).collect();
        assert_eq!(states, [(true, ServiceState::Unprogrammed), (true, ServiceState::Up)]);
    }

    #[test]
    fn the_report_of_an_older_appliance_is_read() {
        let report = r#"{ "appliance": "a", "source": "s", "owner": "o", "generation": 1, "revision": 2, "services": [] }"#;
        let report: SourceReport = serde_json::from_str(report).unwrap();
        assert_eq!((report.contract, report.ignored.len()), (0, 0));
    }
}
