//! The states of a connection; each carries what it earned.

use crate::wire::{Family, Negotiated, Open};
use std::fmt;

/// RFC 4271 §8.2.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is under way.
    Idle,
    /// The transport is being dialled.
    Connect,
    /// Waiting for the peer to dial.
    Active,
    /// Our OPEN is out.
    OpenSent(Open),
    /// Both OPENs fit together.
    OpenConfirm(Box<Negotiated>),
    /// Routes flow.
    Established(Box<Negotiated>),
}

/// A state without what it carries; the order is that of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// [`State::Idle`].
    Idle,
    /// [`State::Active`].
    Active,
    /// [`State::Connect`].
    Connect,
    /// [`State::OpenSent`].
    OpenSent,
    /// [`State::OpenConfirm`].
    OpenConfirm,
    /// [`State::Established`].
    Established,
}

// === impl State ===

impl State {
    /// Which one it is.
    pub fn name(&self) -> StateName {
        match self {
            Self::Idle => StateName::Idle,
            Self::Connect => StateName::Connect,
            Self::Active => StateName::Active,
            Self::OpenSent(_) => StateName::OpenSent,
            Self::OpenConfirm(_) => StateName::OpenConfirm,
            Self::Established(_) => StateName::Established,
        }
    }

    /// What both sides agreed on, as soon as they have.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        match self {
            Self::Idle | Self::Connect | Self::Active | Self::OpenSent(_) => None,
            Self::OpenConfirm(negotiated) | Self::Established(negotiated) => Some(negotiated),
        }
    }
}

/// The families that our own OPEN offers.
pub(super) fn offered(open: &Open) -> impl Iterator<Item = Family> + '_ {
    open.capabilities.iter().filter_map(|c| match c {
        crate::wire::Capability::Multiprotocol(family) => Some(*family),
        _ => None,
    })
}

// === impl StateName ===

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Active => "Active",
            Self::Connect => "Connect",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}
