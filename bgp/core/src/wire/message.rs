//! A message of any type, and the errors of decoding and encoding one.

use super::notification::Notification;
use super::open::Open;
use super::refresh::RouteRefresh;
use super::update::Update;

/// Any message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// RFC 4271 §4.2.
    Open(Open),
    /// RFC 4271 §4.3.
    Update(Update),
    /// RFC 4271 §4.5.
    Notification(Notification),
    /// RFC 4271 §4.4.
    KeepAlive,
    /// RFC 2918, RFC 7313.
    RouteRefresh(RouteRefresh),
}

/// Message types on the wire (RFC 4271 §4.1).
pub mod kind {
    /// [`super::Message::Open`].
    pub const OPEN: u8 = 1;
    /// [`super::Message::Update`].
    pub const UPDATE: u8 = 2;
    /// [`super::Message::Notification`].
    pub const NOTIFICATION: u8 = 3;
    /// [`super::Message::KeepAlive`].
    pub const KEEPALIVE: u8 = 4;
    /// [`super::Message::RouteRefresh`] (RFC 2918 §3).
    pub const ROUTE_REFRESH: u8 = 5;
}

/// A message that ends the session; `notification` is what to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DecodeError {
    /// What to tell the peer before closing.
    pub notification: Notification,
    /// In words, for the log.
    pub reason: &'static str,
}

/// A message that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Not even one prefix fits beside the attributes, or a message built by hand is too long (RFC 4271 §4.1).
    #[error("the message would have {len} octets, over the limit of 4096")]
    TooLong {
        /// How long it would be.
        len: usize,
    },
    /// An [`Update`] built by hand that no single message can say: two entries of one form, IPv6 in the classic
    /// form, or a next hop of the other family.
    #[error("no single UPDATE can carry these prefixes")]
    Shape,
}

// === impl Message ===

impl Message {
    /// The type on the wire, one of [`kind`].
    pub fn kind(&self) -> u8 {
        match self {
            Self::Open(_) => kind::OPEN,
            Self::Update(_) => kind::UPDATE,
            Self::Notification(_) => kind::NOTIFICATION,
            Self::KeepAlive => kind::KEEPALIVE,
            Self::RouteRefresh(_) => kind::ROUTE_REFRESH,
        }
    }
}
