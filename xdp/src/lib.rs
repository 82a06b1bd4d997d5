//! The data plane as the appliance sees it: load, attach, program, count.
//!
//! Only this crate knows BPF. It never talks to netlink, BGP or a configuration file: link indexes, next hops and
//! services are handed to it as values, whole sets at a time, and it makes the kernel's maps equal to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Transport protocol of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// What a client addresses: the key of everything the data plane balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub vip: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}

/// One backend of a frontend. `weight` 0 means draining: existing flows stay, no new ones arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    pub address: SocketAddr,
    pub weight: u16,
}

/// What happens to a new flow when no backend has weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBackend {
    /// TCP RST, ICMP port unreachable: the client knows at once.
    Reject,
    Drop,
}

/// Everything the data plane holds for one frontend. Flows whose backend is absent are picked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// In canonical order, without duplicates (the constructor's work).
    pub backends: Vec<Backend>,
    pub no_backend: NoBackend,
    pub idle_timeout: Duration,
}

/// Where a frame to a backend goes; resolved ahead of traffic by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    pub link_index: u32,
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
}

/// How XDP may be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachPolicy {
    /// Native, and generic where the driver cannot.
    #[default]
    Auto,
    Native,
    Generic,
}

/// How XDP is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    Native,
    Generic,
}

/// Where pins live and how large the tables are.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory on a bpffs, ours alone; bpffs is mounted there when it is not.
    pub pin_dir: PathBuf,
    pub max_flows: u32,
    pub attach: AttachPolicy,
}

/// Packets and bytes, summed over CPUs, since the maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}

/// Counters of one frontend or backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub to_backends: Traffic,
    pub to_clients: Traffic,
    pub new_flows: u64,
}

/// One reading of every counter.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub frontends: BTreeMap<Frontend, Counters>,
    pub backends: BTreeMap<(Frontend, SocketAddr), Counters>,
    /// Reason name (snake case, stable, used as a metric label) and packets.
    pub drops: Vec<(&'static str, u64)>,
    pub passed: Traffic,
    pub flows: u64,
}

/// A loaded program with its maps. Dropping it leaves everything pinned and running; [`DataPlane::remove`] does not.
pub struct DataPlane {
    _private: (),
}

/// Placeholder error, replaced by one enum per operation.
#[derive(Debug, thiserror::Error)]
#[error("xdp")]
pub struct Error;

impl DataPlane {
    /// Adopts the pinned maps and links when they are of this ABI version, else starts with empty ones.
    pub fn open(_options: &Options) -> Result<Self, Error> { todo!() }
    /// True when `open` found a running data plane and took it over.
    pub fn adopted(&self) -> bool { todo!() }
    /// Attaches to a link, or atomically replaces the program of an adopted attachment.
    pub fn attach(&mut self, _link_index: u32) -> Result<AttachMode, Error> { todo!() }
    pub fn detach(&mut self, _link_index: u32) -> Result<(), Error> { todo!() }
    /// Attached links by index.
    pub fn attached(&self) -> BTreeMap<u32, AttachMode> { todo!() }
    /// VIPs for which the kernel's stack must never answer.
    pub fn vips(&self) -> Result<BTreeSet<IpAddr>, Error> { todo!() }
    pub fn add_vip(&mut self, _vip: IpAddr) -> Result<(), Error> { todo!() }
    pub fn remove_vip(&mut self, _vip: IpAddr) -> Result<(), Error> { todo!() }
    /// What the maps hold, read back from the kernel.
    pub fn programs(&self) -> Result<BTreeMap<Frontend, Program>, Error> { todo!() }
    pub fn put_program(&mut self, _frontend: Frontend, _program: &Program) -> Result<(), Error> { todo!() }
    pub fn remove_program(&mut self, _frontend: &Frontend) -> Result<(), Error> { todo!() }
    /// The whole set of resolved next hops by backend address; one that is missing makes its packets drop, counted.
    pub fn set_next_hops(&mut self, _next_hops: &BTreeMap<IpAddr, NextHop>) -> Result<(), Error> { todo!() }
    pub fn snapshot(&self) -> Result<Snapshot, Error> { todo!() }
    /// Expires idle flows; called every few seconds by the daemon's loop. Returns the live count.
    pub fn sweep(&mut self) -> Result<u64, Error> { todo!() }
    /// Detaches from every link and removes every pin.
    pub fn remove(self) -> Result<(), Error> { todo!() }
}
