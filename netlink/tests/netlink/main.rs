//! The crate against a real kernel. Every test has network namespaces of its own, which vanish with
//! the threads that made them; root is needed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

mod converge;
mod follow;
mod neighbours;
mod routes;
mod support;
mod vips;
