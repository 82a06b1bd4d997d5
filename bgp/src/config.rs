//! What the operator wants, and whether it can be.

use crate::error::ConfigProblem;
use sluice_bgp_core::fsm;
use sluice_bgp_core::wire::{Asn, HoldTime};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The speaker: who we are and whom we talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// Our AS; not 0 (RFC 7607).
    pub asn: u32,
    /// BGP identifier, unique among the speakers of our AS; not 0.0.0.0 (RFC 6286).
    pub router_id: Ipv4Addr,
    /// Addresses to accept sessions on; empty for active-only.
    pub listen: Vec<SocketAddr>,
    /// Whom to talk to; nobody else is accepted.
    pub peers: Vec<PeerConfig>,
    /// RFC 4724: seconds the peers may keep our routes over a restart; zero turns the capability off.
    pub graceful_restart: Duration,
}

/// One configured peer; its address is its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where it is dialled, and where it dials from.
    pub address: IpAddr,
    /// Where it listens, 179 by RFC 4271.
    pub port: u16,
    /// The AS it must be in.
    pub asn: u32,
    /// Where we dial from; the kernel chooses when absent.
    pub local_address: Option<IpAddr>,
    /// Never dial, only accept.
    pub passive: bool,
    /// Proposed hold time in whole seconds; zero for never, otherwise at least 3 s (RFC 4271 §4.2).
    pub hold_time: Duration,
    /// The longest wait between two attempts, and the time one may take.
    pub connect_retry: Duration,
    /// Next hop of IPv4 routes; by default the session's own address, or one of the same interface.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// Next hop of IPv6 routes; by default the session's own address, or one of the same interface.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// How many hops away the peer may be: the TTL of what it is sent. Unless given, 1 for a peer of another AS on a network
    /// of ours, otherwise the system's.
    pub multihop: Option<u8>,
    /// RFC 5082: send with TTL 255, and take only what was sent so and came over no more hops than `multihop`, or 1.
    pub ttl_security: bool,
}

/// Times that nobody configures; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How long a new connection may stay without an OPEN.
    pub open_hold: Duration,
    /// How long after a session came up another connection of the peer is no restart of it.
    pub simultaneous_open: Duration,
    /// How long a peer may take nothing of what we write (RFC 9687), at least twice the hold time.
    pub send_hold: Duration,
    /// Between two changes of the status that only count something: a second is what a page shows, and who watches has
    /// better things to do than to follow a busy peer.
    pub counts_every: Duration,
    /// How long the last messages of a connection may take to get out: after that it is closed whatever was sent.
    pub linger: Duration,
}

// === impl Tuning ===

impl Default for Tuning {
    fn default() -> Self {
        Self {
            open_hold: fsm::OPEN_HOLD_DEFAULT,
            simultaneous_open: fsm::SIMULTANEOUS_OPEN_DEFAULT,
            send_hold: fsm::SEND_HOLD_DEFAULT,
            counts_every: Duration::from_secs(1),
            linger: Duration::from_secs(1),
        }
    }
}

// === impl SpeakerConfig ===

impl SpeakerConfig {
    /// All problems at once.
    pub(crate) fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        if self.asn == 0 {
            problems.push(ConfigProblem::Asn);
        }
        if self.router_id.is_unspecified() {
            problems.push(ConfigProblem::RouterId);
        }
        if self.graceful_restart.as_secs() > u64::from(fsm::RESTART_TIME_MAX_S) {
            problems.push(ConfigProblem::RestartTime(self.graceful_restart));
        }
        let mut addresses = BTreeSet::new();
        for peer in &self.peers {
            if !addresses.insert(peer.address) {
                problems.push(ConfigProblem::DuplicatePeer(peer.address));
            }
            peer.collect_problems(&mut problems);
        }
        problems
    }

    /// Of one peer, for the state machine; `None` if there are [`SpeakerConfig::problems`].
    pub(crate) fn fsm(&self, peer: &PeerConfig, tuning: &Tuning) -> Option<fsm::Config> {
        let mut config = fsm::Config::new(Asn::new(self.asn)?, self.router_id, Asn::new(peer.asn)?);
        config.passive = peer.passive;
        config.hold_time = peer.fsm_hold_time()?;
        config.connect_retry = peer.connect_retry;
        config.open_hold = tuning.open_hold;
        config.simultaneous_open = tuning.simultaneous_open;
        config.send_hold = tuning.send_hold;
        config.restart_time_s =
            u16::try_from(self.graceful_restart.as_secs()).ok().filter(|secs| *secs > 0);
        Some(config)
    }

    /// What all peers share; if it changes, all sessions start anew.
    pub(crate) fn identity(&self) -> (u32, Ipv4Addr, Duration) {
        (self.asn, self.router_id, self.graceful_restart)
    }
}

// === impl PeerConfig ===

impl PeerConfig {
    fn fsm_hold_time(&self) -> Option<HoldTime> {
        HoldTime::new(u16::try_from(self.hold_time.as_secs()).ok()?).ok()
    }

    fn collect_problems(&self, problems: &mut Vec<ConfigProblem>) {
        let peer = self.address;
        if self.asn == 0 {
            problems.push(ConfigProblem::PeerAsn(peer));
        }
        if is_unusable(peer) {
            problems.push(ConfigProblem::PeerAddress(peer));
        }
        if self.port == 0 {
            problems.push(ConfigProblem::PeerPort(peer));
        }
        if self.fsm_hold_time().is_none() {
            problems.push(ConfigProblem::HoldTime(peer, self.hold_time));
        }
        if self.multihop == Some(0) {
            problems.push(ConfigProblem::Multihop(peer));
        }
        if self.connect_retry.is_zero() {
            problems.push(ConfigProblem::ConnectRetry(peer));
        }
        if let Some(local) = self.local_address
            && local.is_ipv4() != peer.is_ipv4()
        {
            problems.push(ConfigProblem::LocalAddress(peer, local));
        }
        let next_hops = [self.next_hop_v4.map(IpAddr::V4), self.next_hop_v6.map(IpAddr::V6)];
        for next_hop in next_hops.into_iter().flatten().filter(|address| is_unusable(*address)) {
            problems.push(ConfigProblem::NextHop(peer, next_hop));
        }
    }
}

/// No host can be there, or not one that can be named without an interface.
fn is_unusable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    address.is_unspecified() || address.is_multicast() || link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_together() {
        let peer = PeerConfig {
            address: "fe80::1".parse().unwrap(),
            port: 0,
            asn: 0,
            local_address: Some("10.0.0.1".parse().unwrap()),
            passive: false,
            hold_time: Duration::from_secs(2),
            connect_retry: Duration::ZERO,
            next_hop_v4: Some(Ipv4Addr::UNSPECIFIED),
            next_hop_v6: None,
            multihop: Some(0),
            ttl_security: false,
        };
        let config = SpeakerConfig {
            asn: 0,
            router_id: Ipv4Addr::UNSPECIFIED,
            listen: vec![],
            peers: vec![peer.clone(), peer],
            graceful_restart: Duration::from_secs(5000),
        };
        let problems = config.problems();
        // Three of the speaker, the duplicate, and eight of each peer.
        assert_eq!(problems.len(), 3 + 1 + 2 * 8, "{problems:#?}");
        assert!(config.fsm(&config.peers[0], &Tuning::default()).is_none());
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(texts[3].starts_with("peer fe80::1: "), "{texts:#?}");
    }
}
