//! The session state machine (RFC 4271 §8).
//!
//! [`Fsm`] is one connection: `handle(input, now)`, [`Fsm::tick`], [`Fsm::poll_output`], [`Fsm::next_deadline`],
//! [`Fsm::state`]. [`Peer`] is one configured peer with up to three of them, one dialled and two accepted; it
//! resolves collisions (§6.8) and decides when to dial again. Callers use `Peer`.
//!
//! Where this differs from the RFC's text: an attempt that fails always ends in Idle, and the wait before the next one
//! (IdleHoldTimer of DampPeerOscillations and ConnectRetryTimer in one) belongs to the peer, which keeps listening
//! meanwhile. DelayOpen does not exist.

mod config;
mod connection;
mod event;
mod open;
mod peer;
mod state;
mod timers;
mod transition;

#[cfg(test)]
mod tests;

pub use config::{
    Config, OPEN_HOLD_DEFAULT, RESTART_TIME_MAX_S, SEND_HOLD_DEFAULT, SIMULTANEOUS_OPEN_DEFAULT,
};
pub use connection::{Fsm, Role};
pub use event::{Down, Input, Output, Reason, Writes};
pub use open::RestartFlags;
pub use peer::Peer;
pub use state::{State, StateName};
pub use timers::{Jitter, Timer};
