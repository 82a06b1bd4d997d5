//! BGP without IO (RFC 4271): wire format, session state machine, RIBs.
//!
//! Bytes, events and `now` go in; messages and timers come out. There is no socket, task, clock or random number
//! here, and no bytes from a peer can panic.

#![forbid(unsafe_code)]

pub mod fsm;
pub mod rib;
pub mod wire;
