//! A flow's life: what the packets of both sides say about it.
//!
//! Anybody can send what a client sends, and make a backend answer: a SYN is answered with SYN-ACK, a stray segment with
//! RST. So a flow is confirmed, and only then kept where floods do not reach it, by what a sender of forged packets
//! cannot bring about:
//!
//! - TCP: the client acknowledges what the backend's SYN-ACK said, or the backend sends a segment that is neither SYN
//!   nor RST, which only a side with a connection does;
//! - SCTP: the backend sends a packet that is neither INIT ACK nor ABORT nor SHUTDOWN COMPLETE, as after a cookie of its
//!   own came back;
//! - UDP: the client sends after the backend has answered. UDP has nothing better.
//!
//! Nor do forged packets end a flow. A FIN counts for its side, and both sides must have sent one. A RST of the backend's
//! is believed. One of the client's must lie where the client was last seen to be in its sequence, and is taken back by
//! what either side sends afterwards: a backend answers a reset at the wrong place of its window with an ACK (RFC 5961
//! section 3.2), a client whose connection is alive goes on. Packets from the cache pass unseen, so the sequence is as
//! old as the last visit to the table. The end of an association is taken back by its backend alone, since its tag is
//! not known here.

use crate::flow::{Flow, FlowState};
use crate::limits::{
    CLOSING_TIMEOUT_S, HANDSHAKE_WINDOW, OPENING_TIMEOUT_S, RESET_AHEAD, RESET_BEHIND,
    UNANSWERED_TIMEOUT_S,
};

/// TCP's flags (RFC 9293 section 3.1). Of SCTP: SHUTDOWN COMPLETE.
pub const FIN: u8 = 0x01;
/// Of SCTP: INIT and INIT ACK.
pub const SYN: u8 = 0x02;
/// Of SCTP: ABORT.
pub const RST: u8 = 0x04;
/// Of TCP alone.
pub const ACK: u8 = 0x10;

/// The backend has sent something.
pub const ANSWERED: u16 = 1;
/// The client has sent a FIN.
pub const CLIENT_FIN: u16 = 2;
/// The backend has sent a FIN.
pub const BACKEND_FIN: u16 = 4;
/// Closing for nothing but what the client has sent.
pub const CLIENT_RESET: u16 = 8;
/// The backend has gone on with another connection of the same client's port, through another VIP.
pub const CONTESTED: u16 = 16;

const BOTH_FINS: u16 = CLIENT_FIN | BACKEND_FIN;

/// How a protocol's packets are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// What a packet says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// Of which protocol it is.
    pub transport: Transport,
    /// [`FIN`], [`SYN`], [`RST`], [`ACK`]; none of UDP.
    pub flags: u8,
    /// Of TCP: the sequence number.
    pub sequence: u32,
    /// Of TCP: the acknowledgment number, with [`ACK`].
    pub acknowledgment: u32,
}

// === impl Flow ===

impl Flow {
    /// Takes the first packet in, which is the client's.
    #[inline(always)]
    pub fn begin(&mut self, signs: &Signs) {
        let flags = signs.flags;
        let is_tcp = matches!(signs.transport, Transport::Tcp);
        self.state = if flags & RST != 0 || !is_tcp && flags & FIN != 0 {
            FlowState::Closing
        } else if flags & (SYN | FIN) == SYN {
            FlowState::Opening
        } else {
            FlowState::Established
        } as u16;
        self.seen = if is_tcp && flags & FIN != 0 { CLIENT_FIN } else { 0 };
        self.sequence = signs.sequence;
    }

    /// Takes a packet of the client's in; true when it confirms the flow.
    #[inline(always)]
    pub fn sent_by_client(&mut self, signs: &Signs) -> bool {
        let flags = signs.flags;
        let is_opening = self.state == FlowState::Opening as u16;
        match signs.transport {
            Transport::Udp => return self.seen & ANSWERED != 0,
            Transport::Sctp => {
                if flags & (FIN | RST) != 0 {
                    self.reset_by_client();
                } else if is_opening && flags & SYN == 0 {
                    self.state = FlowState::Established as u16;
                }
                return false;
            }
            Transport::Tcp => {}
        }
        if flags & RST != 0 {
            if is_opening || self.is_plausible(signs.sequence) {
                self.reset_by_client();
            }
            return false;
        }
        if flags & SYN != 0 {
            return false;
        }
        let is_handshake = is_opening && self.seen & ANSWERED != 0 && flags & ACK != 0;
        let confirms =
            is_handshake && signs.acknowledgment.wrapping_sub(self.sequence) < HANDSHAKE_WINDOW;
        if is_opening {
            self.state = FlowState::Established as u16;
        }
        if flags & FIN != 0 {
            self.seen |= CLIENT_FIN;
        }
        self.go_on();
        // Not wherever a forged segment says; what the backend acknowledges leads on.
        if is_opening || self.is_plausible(signs.sequence) {
            self.sequence = signs.sequence;
        }
        confirms
    }

    /// Takes a packet of the backend's in; true when it confirms the flow.
    #[inline(always)]
    pub fn sent_by_backend(&mut self, signs: &Signs) -> bool {
        let flags = signs.flags;
        let is_tcp = matches!(signs.transport, Transport::Tcp);
        if flags & RST != 0 || !is_tcp && flags & FIN != 0 {
            self.state = FlowState::Closing as u16;
            self.seen &= !CLIENT_RESET;
            return false;
        }
        self.seen |= ANSWERED;
        self.seen &= !CONTESTED;
        if matches!(signs.transport, Transport::Udp) {
            return false;
        }
        let is_opening = self.state == FlowState::Opening as u16;
        if flags & SYN != 0 {
            // A connection begins, perhaps on the ports of one that nobody saw end.
            self.seen &= !(BOTH_FINS | CLIENT_RESET);
            if is_opening {
                self.sequence = signs.sequence.wrapping_add(1);
            }
            return false;
        }
        if is_opening {
            self.state = FlowState::Established as u16;
        }
        if flags & FIN != 0 {
            self.seen |= BACKEND_FIN;
        }
        self.go_on();
        if flags & ACK != 0 {
            self.sequence = signs.acknowledgment;
        }
        true
    }

    /// Takes in a packet of the backend's that may be another flow's with the same client's port. Where it is this one's,
    /// [`sent_by_backend`](Self::sent_by_backend) follows.
    #[inline(always)]
    pub fn may_be_passed_over(&mut self, flags: u8) {
        if self.state == FlowState::Opening as u16 && flags & (SYN | RST) == 0 {
            self.seen |= CONTESTED;
        }
    }

    /// Whether this packet of the client's asks again for a connection that the backend takes for another one.
    #[inline(always)]
    pub const fn is_in_vain(&self, flags: u8) -> bool {
        self.state == FlowState::Opening as u16 && flags & SYN != 0 && self.seen & CONTESTED != 0
    }

    /// A segment that resets nothing: the connection is over when both sides have closed it, and was not reset.
    #[inline(always)]
    fn go_on(&mut self) {
        if self.seen & BOTH_FINS == BOTH_FINS {
            self.state = FlowState::Closing as u16;
        } else if self.seen & CLIENT_RESET != 0 {
            self.state = FlowState::Established as u16;
        }
        self.seen &= !CLIENT_RESET;
    }

    #[inline(always)]
    fn reset_by_client(&mut self) {
        if self.state != FlowState::Closing as u16 {
            self.state = FlowState::Closing as u16;
            self.seen |= CLIENT_RESET;
        }
    }

    /// Whether the client may be here in its sequence.
    #[inline(always)]
    fn is_plausible(&self, sequence: u32) -> bool {
        let from = self.sequence.wrapping_sub(RESET_BEHIND);
        sequence.wrapping_sub(from) <= RESET_BEHIND + RESET_AHEAD
    }

    /// Seconds without a packet after which the flow is over.
    #[inline(always)]
    pub const fn timeout_s(&self) -> u32 {
        let idle = self.idle_timeout_s;
        let limit = if self.state == FlowState::Opening as u16 {
            OPENING_TIMEOUT_S
        } else if self.state == FlowState::Closing as u16 {
            CLOSING_TIMEOUT_S
        } else if self.seen & ANSWERED == 0 {
            UNANSWERED_TIMEOUT_S
        } else {
            idle
        };
        if limit < idle { limit } else { idle }
    }

    /// Whether the flow is over at `now_ns` of the same clock.
    #[inline(always)]
    pub const fn is_expired(&self, now_ns: u64) -> bool {
        age_ns(self.last_seen_ns, now_ns) > self.timeout_s() as u64 * 1_000_000_000
    }
}

/// Nanoseconds from one reading of a clock to another one; 0 when the other was a tick ahead, on its CPU.
#[inline(always)]
pub const fn age_ns(then_ns: u64, now_ns: u64) -> u64 {
    let age = now_ns.wrapping_sub(then_ns);
    // A clock that counts nanoseconds since the start gets nowhere near half its range.
    if age > u64::MAX / 2 { 0 } else { age }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
