//! The vocabulary of the appliance: what should be, what is, and the words both share.
//!
//! No IO, no serde, no clock, no randomness. Constructors bring values into one canonical form, so that equality
//! means "nothing to do": backends are sorted and unique, a frontend belongs to exactly one service.

mod desired;
mod health;
mod held;
mod limits;
mod observed;
mod reserved;
mod service;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use desired::{Clash, Desired, Generation};
pub use health::{Health, HealthCheck, PROBE_INTERVAL, Probe, StatusRange, Target, Verdict};
pub use held::{HELD, held, is_held, keep_unclaimed};
pub use limits::{MAX_BACKENDS_PER_FRONTEND, MAX_FRONTENDS_PER_BACKEND, Surplus};
pub use observed::{Observed, RouteAttributes, host_prefix};
pub use reserved::{Class, Holder, HostAddress, Prefixes, Reserved, Rule, Violation, reasons};
pub use service::{
    Backend, Family, Frontend, NoBackend, OnDown, Program, Protocol, Service, ServiceName,
    canonical_backends, canonical_prefixes,
};
