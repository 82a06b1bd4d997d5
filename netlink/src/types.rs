//! What others see of links and next hops.

use crate::device::Device;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel interface index, unique in the namespace.
    pub index: u32,
    /// Interface name, at most 15 bytes.
    pub name: String,
    /// Ethernet address; all zero where the link has none of 6 bytes (`lo` has zeros itself).
    pub mac: [u8; 6],
    /// Bytes of payload, without the Ethernet header.
    pub mtu: u32,
    /// Administratively up and with carrier (`IFF_UP` and `IFF_LOWER_UP`).
    pub up: bool,
    /// Queues that the driver has made room for, received or sent, whichever are fewer: what `ethtool -l` calls the maximum.
    pub queues: u32,
    /// One end of a pair: its frames come straight from a sender on this host, as that one has left them.
    pub is_pair: bool,
    /// The device behind it.
    pub device: Option<Device>,
}

/// The resolved way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface the packet leaves by.
    pub link_index: u32,
    /// That interface's own address.
    pub source_mac: [u8; 6],
    /// The neighbour's address: the destination itself, or the gateway on the way to it.
    pub destination_mac: [u8; 6],
}

/// What is known of the way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The neighbour's MAC is known. It stays resolved while the kernel confirms the neighbour
    /// again, and until the kernel says that it failed.
    Resolved(NextHop),
    /// A route exists; the neighbour has not answered yet.
    Resolving {
        /// Interface the route leaves by.
        link_index: u32,
        /// The neighbour that is asked: a gateway, or the destination itself when on-link.
        gateway: IpAddr,
    },
    /// The neighbour did not answer, or the link is down. Asked again with backoff.
    Unreachable {
        /// Interface the route leaves by.
        link_index: u32,
        /// The neighbour that was asked: a gateway, or the destination itself when on-link.
        gateway: IpAddr,
    },
    /// The destination is an address of this host (or a broadcast or multicast address of it):
    /// there is no next hop, and it can be no backend.
    Local,
    /// The kernel has no route, or one that rejects (`unreachable`, `prohibit`, `blackhole`).
    NoRoute,
}

/// An address of this host that is no VIP of ours: the address with its network, and the link's index.
pub type OtherAddress = (IpNet, u32);

/// Next hops of the host's unicast routes, of any table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateways {
    /// Of default routes: routers.
    pub default: BTreeSet<IpAddr>,
    /// Of routes to some place: these may be servers, as nodes of a cluster are for their pods.
    pub other: BTreeSet<IpAddr>,
}

/// A router: the link and the neighbour's address.
pub type Router = (u32, IpAddr);

/// Where packets to the destinations of one prefix go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nowhere that can be followed: a route that rejects, through a tunnel, or for some packets only.
    Unknown,
    /// An address of this host, or a broadcast or multicast address of it.
    Local,
    /// A network of this link: each destination is its own neighbour.
    Link(u32),
    /// Through one of these.
    Routers(Vec<Router>),
}

/// Why ways are not followed though the kernel has routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaysUnknown {
    /// More routes or routers than are followed.
    TooMany,
    /// Rules of others choose among tables.
    OtherRules,
}

/// Where packets to anybody go; the longest prefix is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// By the kernel's main table.
    pub prefixes: Arc<BTreeMap<IpNet, Way>>,
    /// Why `prefixes` lacks what the kernel knows: all of it, or one family.
    pub unknown: Option<WaysUnknown>,
    /// The routers whose MAC is known, by a link that is up.
    pub routers: BTreeMap<Router, NextHop>,
}

/// Addresses that are in use here and are no VIPs of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Addresses of this host, on any link.
    pub addresses: BTreeSet<OtherAddress>,
    /// Next hops of its routes.
    pub gateways: Gateways,
}

/// The addresses of this host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Our VIPs on `lo`.
    pub vips: BTreeSet<IpAddr>,
    /// All others.
    pub others: BTreeSet<OtherAddress>,
}
