//! BGP sessions on TCP around the pure core: the handle the reconciler calls.
//!
//! The announced set is given as a whole and diffed per peer. Nothing is imported (RFC 8212). One task per peer is one
//! event loop around [`sluice_bgp_core::fsm::Peer`]; this crate decides nothing that the core can decide, knows no
//! service, and touches nothing of the system but its own sockets and its one thread, which peers' bytes keep busy in
//! place of the caller's.

mod config;
mod connection;
mod dial;
mod error;
mod hops;
mod listener;
mod log_limit;
mod next_hop;
mod peer;
mod runtime;
mod session;
mod speaker;
mod status;

pub use config::{PeerConfig, SpeakerConfig, Tuning};
pub use error::{ConfigProblem, ConfigureError, StartError};
pub use sluice_bgp_core::rib::{Announced, RouteAttributes};
pub use speaker::Speaker;
pub use status::{LastErrors, PeerError, PeerState, PeerStatus};
