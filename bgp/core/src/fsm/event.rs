//! What goes into a connection's state machine, what comes out, and why a connection ends.

use super::timers::Timer;
use crate::wire::notification::{cease, code};
use crate::wire::{DecodeError, Family, Message, Negotiated, Notification, Update};
use std::fmt;
use std::time::Duration;

/// What happens to a connection (the events of RFC 4271 §8.1, in our words).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Events 1 to 7: begin, by dialling or by waiting as the role says.
    Start,
    /// Events 2 and 8: end, with this for the peer.
    Stop(Notification),
    /// Events 9 to 11 and 29.
    Expired(Timer),
    /// Events 16 and 17: the transport is there, and these families have a next hop on it.
    Connected(Vec<Family>),
    /// Event 18: the dial failed, or the transport ended; why, in words.
    Disconnected(String),
    /// Event 23: the other connection to this peer is kept (RFC 4271 §6.8).
    CollisionLost,
    /// Events 19 and 25 to 27, and ROUTE-REFRESH (RFC 2918).
    Message(Message),
    /// Events 21, 22 and 28: bytes that are no message.
    Malformed(DecodeError),
    /// How our writes go (RFC 9687).
    Writes(Writes),
}

/// What the transport does with what we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Something waits and nothing was taken.
    Blocked,
    /// Something was taken and more waits.
    Moving,
    /// Nothing waits.
    Drained,
}

/// What a connection's state machine wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open the transport; a dial under way is given up.
    Dial,
    /// Send, behind what was sent before.
    Send(Message),
    /// End the transport, or the dial under way, after a bounded try to deliver what was sent.
    Close,
    /// The session is Established: routes may flow.
    Up(Box<Negotiated>),
    /// Routes from the peer.
    Update(Update),
    /// The peer wants our routes of this family again.
    Refresh(Family),
    /// The attempt or the session is over; always after `Close`.
    Down(Down),
}

/// The end of an attempt or of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// How long it was Established; `None` for an attempt that never was.
    pub uptime: Option<Duration>,
    /// Why.
    pub reason: Reason,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// We ended it and said so.
    Sent {
        /// What the peer was told.
        notification: Notification,
        /// More than code and subcode say; may be empty.
        detail: String,
    },
    /// The peer ended it and said so.
    Received(Notification),
    /// The transport ended or never came to be.
    Transport(String),
    /// The other connection to the same peer is kept.
    Collision,
    /// We ended it before anything was sent.
    Stopped,
}

// === impl Down ===

impl Down {
    /// An attempt that ended because another connection goes on, or because nothing was wanted: nobody's fault.
    pub fn is_no_fault(&self) -> bool {
        let by_peer = |n: &Notification| (n.code, n.subcode) == (code::CEASE, cease::COLLISION);
        self.uptime.is_none()
            && match &self.reason {
                Reason::Collision | Reason::Stopped => true,
                // The peer has resolved the collision before us.
                Reason::Received(notification) => by_peer(notification),
                Reason::Sent { .. } | Reason::Transport(_) => false,
            }
    }
}

// === impl Reason ===

/// For an operator: who, what, code and subcode.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent { notification, detail } if detail.is_empty() => {
                write!(f, "sent {notification}")
            }
            Self::Sent { notification, detail } => write!(f, "sent {notification}: {detail}"),
            Self::Received(notification) => match notification.hard_reset_cause() {
                Some(cause) => write!(f, "received {notification}, cause {cause}"),
                None => write!(f, "received {notification}"),
            },
            Self::Transport(why) => f.write_str(why),
            Self::Collision => f.write_str("the peer's other connection is kept"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}
