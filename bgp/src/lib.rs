//! BGP sessions on TCP around the pure core: the handle the reconciler calls.
//!
//! The announced set is given as a whole and diffed per peer. Nothing is imported (RFC 8212). One task per peer is one
//! event loop around [`sluice_bgp_core::fsm::Peer`]; this crate decides nothing that the core can decide, knows no
//! service, and touches nothing of the system but its own sockets.

mod config;
mod connection;
mod dial;
mod error;
mod listener;
mod next_hop;
mod peer;
mod session;
mod speaker;
mod status;

pub use config::{PeerConfig, SpeakerConfig, Tuning};
pub use error::{ConfigProblem, ConfigureError, StartError};
pub use sluice_bgp_core::rib::{Announced, RouteAttributes};
pub use speaker::Speaker;
pub use status::{PeerState, PeerStatus};
