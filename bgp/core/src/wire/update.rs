//! UPDATE as a value (RFC 4271 §4.3, RFC 4760), and what was wrong with it (RFC 7606).

use super::attributes::Attributes;
use super::ids::Family;
use super::notification::Notification;
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Routes announced and withdrawn.
///
/// From the decoder, the RFC 7606 actions have already been taken: after a treat-as-withdraw the prefixes are in
/// `unreach`, discarded attributes are absent, and `errors` is there to be logged and counted. Only
/// [`Action::AfiSafiDisable`] is left to the session. Withdraws come before announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Announced prefixes; at most one classic and one multiprotocol entry in a message.
    pub reach: Vec<Reach>,
    /// Withdrawn prefixes.
    pub unreach: Vec<Unreach>,
    /// What is said of everything in `reach`.
    pub attributes: Attributes,
    /// What was wrong, in the order found.
    pub errors: Vec<AttributeError>,
    /// The family whose initial routes are now complete (RFC 4724 §2); then the rest is empty.
    pub end_of_rib: Option<Family>,
}

/// Announced prefixes with their next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Where in the message they are.
    pub form: Form,
    /// Where their traffic goes.
    pub next_hop: NextHop,
    /// Host bits are zero.
    pub prefixes: Prefixes,
}

/// Withdrawn prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreach {
    /// Where in the message they are.
    pub form: Form,
    /// Host bits are zero.
    pub prefixes: Prefixes,
}

/// The two places for prefixes in an UPDATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The fields of RFC 4271; IPv4 only.
    Classic,
    /// MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760).
    Multiprotocol,
}

/// Prefixes of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefixes {
    /// IPv4 unicast.
    V4(Vec<Ipv4Net>),
    /// IPv6 unicast.
    V6(Vec<Ipv6Net>),
}

/// Where traffic for a prefix goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// Four octets.
    V4(Ipv4Addr),
    /// 16 octets, or 32 with the link-local address of the same router (RFC 2545 §3).
    V6 {
        /// Global address.
        global: Ipv6Addr,
        /// On a shared link, its address there.
        link_local: Option<Ipv6Addr>,
    },
}

/// What to do about an error in an UPDATE, mildest first (RFC 7606 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The attribute is ignored.
    AttributeDiscard,
    /// The announced prefixes are withdrawn.
    TreatAsWithdraw,
    /// The family is ignored for the rest of the session, and its routes go.
    AfiSafiDisable,
    /// The session ends with the notification.
    SessionReset,
}

/// One error in an UPDATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeError {
    /// IANA path attribute type, where the error is in one.
    pub attribute: Option<u8>,
    /// What to do; done by the decoder up to [`Action::TreatAsWithdraw`].
    pub action: Action,
    /// For [`Action::AfiSafiDisable`]: which family.
    pub family: Option<Family>,
    /// What RFC 4271 §6.3 would have us send; only sent for [`Action::SessionReset`].
    pub notification: Notification,
    /// In words.
    pub reason: &'static str,
}

// === impl Update ===

impl Update {
    /// The marker that a family's initial routes are complete (RFC 4724 §2).
    pub fn end_of_rib(family: Family) -> Self {
        Self { end_of_rib: Some(family), ..Self::default() }
    }

    /// The worst of [`Update::errors`].
    pub fn action(&self) -> Option<Action> {
        self.errors.iter().map(|e| e.action).max()
    }
}

// === impl Prefixes ===

impl Prefixes {
    /// Which family they are of.
    pub fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::IPV4_UNICAST,
            Self::V6(_) => Family::IPV6_UNICAST,
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::V4(v) => v.len(),
            Self::V6(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = ipnet::IpNet> + '_ {
        let (v4, v6): (&[Ipv4Net], &[Ipv6Net]) = match self {
            Self::V4(v) => (v, &[]),
            Self::V6(v) => (&[], v),
        };
        v4.iter().copied().map(Into::into).chain(v6.iter().copied().map(Into::into))
    }
}
