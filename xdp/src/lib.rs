//! The data plane as the appliance sees it: load, attach, program, count.
//!
//! Only this crate knows BPF. It never talks to netlink, BGP or a configuration file: link indexes, next hops and
//! services are handed to it as values, whole sets at a time, and it makes the kernel's maps equal to them.
//!
//! The maps in the kernel are the truth: they are pinned and outlive the process. What this crate keeps beside them
//! (identifiers, the last programs) is read back from them when a running data plane is adopted.

mod batch;
mod convert;
mod counters;
mod error;
mod findings;
mod ids;
mod index;
mod inspect;
mod links;
mod lists;
pub mod maglev;
mod maps;
mod next_hops;
mod open;
mod pinned;
mod pins;
mod prefixes;
mod programs;
mod read_back;
mod shared;
mod sizes;
mod successors;
mod sweep;
mod sys;
mod types;
mod verify;
mod vips;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use aya::Ebpf;
use sluice_xdp_abi::filter::Filter;
use sluice_xdp_abi::program::Control;

pub use error::{
    AttachError, DetachError, MapFailure, NextHopError, OpenError, PinError, ProgramError,
    RemoveError, Retry, SnapshotError, SweepError, VipError,
};
pub use findings::{Finding, Inspection};
pub use sluice_xdp_abi::limits::{
    MAX_BACKENDS_PER_SERVICE, MAX_NAT64_PORT, MAX_ROUTERS, MAX_SERVICES_PER_ENDPOINT, MAX_WAYS,
};
pub use types::{
    AttachMode, AttachPolicy, Backend, Counters, Frontend, NextHop, NoBackend, Options, Program,
    Protocol, Router, Snapshot, Traffic, Way, Ways,
};

/// A loaded program with its maps. Dropping it leaves everything pinned and running; [`DataPlane::remove`] does not.
pub struct DataPlane {
    bpf: Ebpf,
    maps: maps::Maps,
    successors: successors::Table,
    control: Control,
    pin_dir: PathBuf,
    attach: AttachPolicy,
    adopted: bool,
    links: BTreeMap<u32, links::Attachment>,
    fallback: Option<(u32, String)>,
    /// Every pinned map and the pinned program.
    pinned: Vec<pinned::Pinned>,
    /// What others did since the last inspection.
    findings: Vec<Finding>,
    /// How far the inspection of Maglev tables has come.
    inspected_to: Option<Frontend>,
    vips: BTreeSet<IpAddr>,
    /// As the kernel holds it.
    filter: Box<Filter>,
    /// It may have bits of what is gone.
    is_filter_stale: bool,
    index: index::Index,
    next_hops: BTreeMap<IpAddr, NextHop>,
    ways: ways::Held,
    live_flows: u64,
    max_flows: u32,
}

// === impl DataPlane ===

impl DataPlane {
    /// True when `open` found a running data plane and took it over.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Makes every cached flow look at the flow table, its backend and its routes again. For changes that the maps do
    /// not show: routes and neighbours towards clients.
    ///
    /// # Errors
    /// When the kernel refuses the map update.
    pub fn flush_cache(&mut self) -> Result<(), MapFailure> {
        self.control.epoch = sluice_xdp_abi::flow::next_epoch(self.control.epoch);
        self.maps.control.set(0, &self.control)
    }

    /// Sets how many new flows and ICMP errors a CPU may handle per tick. For measurements and tests.
    ///
    /// # Errors
    /// When the kernel refuses the map update.
    #[doc(hidden)]
    pub fn set_gates(
        &mut self,
        new_flows_per_tick: u32,
        icmp_errors_per_tick: u32,
    ) -> Result<(), MapFailure> {
        self.control.new_flows_per_tick = new_flows_per_tick;
        self.control.icmp_errors_per_tick = icmp_errors_per_tick;
        self.maps.control.set(0, &self.control)
    }
}
