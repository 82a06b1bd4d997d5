//! The in-cluster half of Sluice: watches Services, allocates addresses, tells every appliance what to balance, and
//! writes back what they report. It never touches packets.
//!
//! Objects flow one way: [`watch`] → [`index`] → [`push`] → appliances → [`status`] → objects. [`run`] is the loop that
//! carries them; only the holder of the [`lease`] acts.

pub mod cli;
pub mod crd;
pub mod http;
pub mod index;
pub mod lease;
pub mod metrics;
pub mod push;
pub mod run;
pub mod status;
pub mod uninstall;
pub mod watch;
