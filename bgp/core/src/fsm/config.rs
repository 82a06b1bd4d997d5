//! What a peer's state machine is told once.

use super::timers::Jitter;
use crate::wire::{Asn, HoldTime};
use std::net::Ipv4Addr;
use std::time::Duration;

/// RFC 4271 §8.2.2 suggests 4 minutes of patience for the peer's OPEN. A peer whose machine was replaced meanwhile is not
/// dialled for as long, and whoever opens connections without a word has them for as long.
pub const OPEN_HOLD_DEFAULT: Duration = Duration::from_secs(60);
/// A second connection so soon after the session came up is the loser of a simultaneous open whose SYN was slow; later
/// it is a peer that restarted (RFC 4724 §4.2).
pub const SIMULTANEOUS_OPEN_DEFAULT: Duration = Duration::from_secs(5);
/// RFC 9687 §3.2: 8 minutes, or twice the negotiated hold time if that is more.
pub const SEND_HOLD_DEFAULT: Duration = Duration::from_secs(480);
/// RFC 4724 §3: the restart time has 12 bits.
pub const RESTART_TIME_MAX_S: u16 = 4095;

/// One peer as the operator wants it, and who we are towards it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our AS.
    pub local_asn: Asn,
    /// Our BGP identifier; not 0.0.0.0 (RFC 6286 §2.1).
    pub router_id: Ipv4Addr,
    /// The AS the peer must be in.
    pub peer_asn: Asn,
    /// Never dial, only accept.
    pub passive: bool,
    /// What we propose; the smaller of both sides' counts.
    pub hold_time: HoldTime,
    /// How long a dial may take, and the longest wait between two attempts.
    pub connect_retry: Duration,
    /// How long we wait for an OPEN on a new connection.
    pub open_hold: Duration,
    /// How long after the session came up another connection belongs to the same open.
    pub simultaneous_open: Duration,
    /// How long the peer may take nothing of what we write (RFC 9687).
    pub send_hold: Duration,
    /// Seconds the peer may keep our routes over a restart, at most [`RESTART_TIME_MAX_S`]; `None` leaves the
    /// capability out (RFC 4724).
    pub restart_time_s: Option<u16>,
    /// Forwarding state survived the start of this process: R and F bits on the first session (RFC 4724 §4.1).
    pub restarted: bool,
    /// Where the jitter begins. Peers with different seeds do not march in step.
    pub seed: u64,
}

// === impl Config ===

impl Config {
    /// With RFC 4271's times and no graceful restart.
    pub fn new(local_asn: Asn, router_id: Ipv4Addr, peer_asn: Asn) -> Self {
        Self {
            local_asn,
            router_id,
            peer_asn,
            passive: false,
            hold_time: HoldTime::DEFAULT,
            connect_retry: Duration::from_secs(5),
            open_hold: OPEN_HOLD_DEFAULT,
            simultaneous_open: SIMULTANEOUS_OPEN_DEFAULT,
            send_hold: SEND_HOLD_DEFAULT,
            restart_time_s: None,
            restarted: false,
            seed: 0,
        }
    }

    /// Whether both sides are in one AS (iBGP).
    pub fn internal(&self) -> bool {
        self.local_asn == self.peer_asn
    }

    pub(super) fn jitter(&self) -> Jitter {
        Jitter::new(self.seed)
    }
}
