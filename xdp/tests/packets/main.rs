//! What becomes of a packet: description, packet in, verdict, packet out.
//!
//! Every packet runs through the real program with real maps, once, by `BPF_PROG_TEST_RUN`. Each test
//! has mount and network namespaces of its own, so tests run side by side and leave nothing behind.
//! Needs root.
#![expect(
    unreachable_pub,
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests: a panic is the report, every frame is one we built, and meddling takes system calls"
)]

mod adoption;
mod affinity;
mod bed;
mod change;
mod floods;
mod forward;
mod full_nat;
mod lives;
mod malformed;
mod meddling;
mod nat64;
mod nat64_sizes;
mod neighbours;
mod ports;
mod random;
mod refuse;
mod return_path;
mod sctp;
mod sctp_ends;
mod sctp_paths;
mod sources;
mod stateless;
mod ways;
mod wire;
