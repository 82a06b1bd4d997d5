//! The vocabulary of the data plane's users.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// Transport protocol of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

/// What a client addresses: the key of everything the data plane balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The virtual address.
    pub vip: IpAddr,
    /// The port clients use.
    pub port: u16,
    /// Over which transport.
    pub protocol: Protocol,
}

/// One backend of a frontend. `weight` 0 means draining: existing flows stay, no new ones arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// Of the frontend's family, or IPv4 behind an IPv6 frontend (NAT64).
    pub address: SocketAddr,
    /// Share of new flows, relative to the other backends.
    pub weight: u16,
}

/// What happens to a new flow when no backend has weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBackend {
    /// TCP RST, SCTP ABORT, ICMP port unreachable: the client knows at once.
    Reject,
    /// Silence.
    Drop,
}

/// Everything the data plane holds for one frontend. Flows whose backend is absent are picked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// In any order; read back by address, without duplicates. Lists of prefixes below are read back truncated, sorted
    /// and without duplicates.
    pub backends: Vec<Backend>,
    /// Policy while no backend has weight.
    pub no_backend: NoBackend,
    /// Kept in whole seconds, at least one.
    pub idle_timeout: Duration,
    /// Clients that may open flows; empty allows everybody. A family without a prefix in a list that has some is refused
    /// altogether. When the list changes, a flow of a client outside the new one ends at that client's next packet.
    /// Echo requests are a VIP's and not a service's, and are answered to everybody.
    pub source_ranges: Vec<IpNet>,
    /// A client address keeps its backend for this long after its last new flow, towards this frontend (kube-proxy
    /// remembers by service port as well). A backend without weight, or gone, is not kept to. Whole seconds, at least
    /// one.
    pub affinity: Option<Duration>,
    /// Clients whose source is replaced by the VIP, so that answers come back through us; `0.0.0.0/0` and `::/0` mean
    /// all. Flows keep the way they began with.
    pub full_nat: Vec<IpNet>,
    /// The ports alone decide the backend of a new flow of SCTP without affinity. Over the same backends all of a
    /// client's addresses and all frontends of one port so lead to the same one.
    pub multihomed: bool,
}

/// Where a frame to a backend goes; resolved ahead of traffic by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// Egress interface.
    pub link_index: u32,
    /// The egress interface's own.
    pub source_mac: [u8; 6],
    /// The neighbour's.
    pub destination_mac: [u8; 6],
}

/// A router: the link and the neighbour's address.
pub type Router = (u32, IpAddr);

/// Where packets to clients of one prefix go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nowhere that can be followed: no route, one that rejects, one through a tunnel.
    Unknown,
    /// An address of this host.
    Local,
    /// A network of this link.
    Link(u32),
    /// Through one of these, the first [`MAX_HOPS_PER_WAY`](sluice_xdp_abi::limits::MAX_HOPS_PER_WAY).
    Routers(Vec<Router>),
}

/// What the host's routes say about clients; the longest prefix is meant. Without any, the kernel is asked for each flow,
/// which answers while it forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Routes.
    pub prefixes: BTreeMap<IpNet, Way>,
    /// Routers that are known.
    pub routers: BTreeMap<Router, NextHop>,
}

/// How XDP may be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachPolicy {
    /// Native, and generic where the driver cannot.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// Behind the driver, for any link.
    Generic,
}

/// How XDP is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the kernel's receive path, slower.
    Generic,
}

/// Where pins live and how large the tables are.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory on a bpffs, ours alone; bpffs is mounted at its parent when there is none. Pins live as long as that
    /// mount, so in a namespace of its own mount it from outside.
    pub pin_dir: PathBuf,
    /// Size of the table of confirmed flows, beside which an eighth as many unconfirmed ones have room; raised to
    /// [`MIN_MAX_FLOWS`](sluice_xdp_abi::limits::MIN_MAX_FLOWS) when smaller. Unless said, [`DEFAULT_MAX_FLOWS`](sluice_xdp_abi::limits::DEFAULT_MAX_FLOWS) or what half of the memory beyond
    /// 192 MiB holds. An adopted table keeps its size.
    pub max_flows: Option<u32>,
    /// For links attached from now on.
    pub attach: AttachPolicy,
    /// The source that IPv4 backends of an IPv6 frontend see, with ports up to
    /// [`MAX_NAT64_PORT`](sluice_xdp_abi::limits::MAX_NAT64_PORT). An address of this host's own, which the backends
    /// answer to; without one such frontends are refused. Flows under another source than before break.
    pub nat64_source: Option<Ipv4Addr>,
}

/// Packets and bytes, summed over CPUs, since the maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Octets of whole frames.
    pub bytes: u64,
}

/// Counters of one frontend or backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// From clients.
    pub to_backends: Traffic,
    /// From backends.
    pub to_clients: Traffic,
    /// Flows that began.
    pub new_flows: u64,
}

/// One reading of every counter.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What went through each frontend, removed backends included.
    pub frontends: BTreeMap<Frontend, Counters>,
    /// What each backend of each frontend had, since it was added.
    pub backends: BTreeMap<(Frontend, SocketAddr), Counters>,
    /// Reason name (snake case, stable, used as a metric label) and packets.
    pub drops: Vec<(&'static str, u64)>,
    /// Left to the kernel.
    pub passed: Traffic,
    /// In both flow tables at the last sweep.
    pub flows: u64,
    /// Room of both flow tables.
    pub max_flows: u32,
}

// === impl Counters ===

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.to_backends += other.to_backends;
        self.to_clients += other.to_clients;
        self.new_flows += other.new_flows;
    }
}

// === impl Traffic ===

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}
