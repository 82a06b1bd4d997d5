//! Addresses, links, neighbours and routes of this host: the only user of rtnetlink.
//!
//! VIPs are /32 and /128 addresses on `lo`, marked as ours by their address protocol (`IFA_PROTO`,
//! Linux 5.18 and newer); an address without the mark is never touched. Links, addresses, routes and
//! neighbours are dumped once and then followed through multicast groups; for a tracked set of
//! destinations the next hop is kept resolved ahead of traffic.
//!
//! This crate never decides which VIPs or backends exist, never adds or removes a route, a link or
//! a permanent neighbour, and never opens a socket other than `NETLINK_ROUTE`.
//!
//! The way of one change: `socket` receives it, `decode` gives it our types, `tables` holds
//! what the kernel holds, `track` (pure) turns it into resolutions and into the probes that are
//! due, and `driver` is the one loop around them.

mod address_table;
mod decode;
mod device;
mod driver;
mod epoch;
mod error;
mod handle;
mod kernel;
mod ours;
mod silence;
mod socket;
mod surroundings;
mod tables;
mod track;
mod types;
mod vip;
mod ways;

pub use device::Device;
pub use error::{
    AddVipError, AddressForError, RemoveVipError, RequestError, StartError, VipsError,
};
pub use handle::Netlink;
pub use ours::ADDRESS_PROTOCOL;
pub use types::{
    Addresses, Gateways, Link, NextHop, OtherAddress, Resolution, Router, Surroundings, Way, Ways,
    WaysUnknown,
};
pub use ways::{MAX_PREFIXES, MAX_ROUTERS};
