//! The bootable image in QEMU: where it is, machines that run it, and the segment they share with a router and backends.
//!
//! Always in software (`-accel tcg`): a `/dev/kvm` that exists need not work, and a test must not depend on it.

mod artefacts;
pub mod guest;
mod machine;
mod qemu;
mod segment;

pub use artefacts::{Artefacts, seed};
pub use machine::{Firmware, Machine, Spec};
pub use segment::{Segment, Station};
