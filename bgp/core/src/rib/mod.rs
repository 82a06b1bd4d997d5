//! What is announced to a peer, and what it announced to us (RFC 4271 §3.2).
//!
//! [`AdjRibOut`] is given whole sets and writes the difference; [`AdjRibIn`] counts. Nothing a peer announces is ever
//! used (RFC 8212: no import without a policy, and there is none).

mod inbound;
mod outbound;
mod refresh;
mod route;

#[cfg(test)]
mod tests;

pub use inbound::{AdjRibIn, MAX_RECEIVED_PER_FAMILY};
pub use outbound::{AdjRibOut, Target};
pub use refresh::{REFRESH_PAUSE, Refreshes};
pub use route::{Announced, DEFAULT_LOCAL_PREF, RouteAttributes};
