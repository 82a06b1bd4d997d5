//! Addresses, links, neighbours and routes of this host: the only user of rtnetlink.
//!
//! VIPs are /32 and /128 addresses on `lo`, marked as ours by their address protocol (`IFA_PROTO`); an address
//! without the mark is never touched. This crate never decides which VIPs or backends exist.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    pub mtu: u32,
    /// Administratively up and with carrier.
    pub up: bool,
}

/// The resolved way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    pub link_index: u32,
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
}

/// What is known of the way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Resolved(NextHop),
    /// A route exists; the neighbour has not answered yet.
    Resolving { link_index: u32, gateway: IpAddr },
    /// The neighbour did not answer.
    Unreachable { link_index: u32, gateway: IpAddr },
    NoRoute,
}

/// Placeholder error, replaced by one enum per operation.
#[derive(Debug, thiserror::Error)]
#[error("netlink")]
pub struct Error;

/// Handle to the netlink task; clones share it, the last one dropped ends it.
#[derive(Clone)]
pub struct Netlink {
    _private: (),
}

impl Netlink {
    /// Opens the sockets, reads the first full state and keeps watching.
    pub async fn start() -> Result<Self, Error> { todo!() }
    pub fn links(&self) -> watch::Receiver<Arc<BTreeMap<u32, Link>>> { todo!() }
    /// Our VIPs on `lo`, read back from the kernel.
    pub async fn vips(&self) -> Result<BTreeSet<IpAddr>, Error> { todo!() }
    pub async fn add_vip(&self, _vip: IpAddr) -> Result<(), Error> { todo!() }
    pub async fn remove_vip(&self, _vip: IpAddr) -> Result<(), Error> { todo!() }
    /// The whole set of destinations whose next hops are kept resolved.
    pub fn track(&self, _destinations: BTreeSet<IpAddr>) { todo!() }
    pub fn resolutions(&self) -> watch::Receiver<Arc<BTreeMap<IpAddr, Resolution>>> { todo!() }
}
