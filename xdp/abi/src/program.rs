//! Services and backends as the kernel program sees them.

use crate::address::Address;
use crate::limits::{MAGLEV_SLOTS, MAX_SERVICES_PER_ENDPOINT};

/// What user space tells the program; one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of whoever made the maps. First, so that any version can read it.
    pub abi_version: u32,
    /// Raised whenever anything a cache entry was made of may have changed.
    pub epoch: u32,
    /// Ticks (jiffies) after which a cached flow visits the flow table.
    pub refresh_ticks: u32,
    /// Insertions into the flow table per CPU and tick.
    pub new_flows_per_tick: u32,
    /// ICMP errors per CPU and tick.
    pub icmp_errors_per_tick: u32,
    /// The IPv4 address that clients of an IPv6 VIP have towards IPv4 backends, as it lies in a packet; 0 is none.
    pub nat64_source: u32,
    /// Zero.
    pub reserved: [u32; 2],
}
crate::assert_size!(Control = 32);

/// A frontend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct ServiceKey {
    /// The VIP.
    pub vip: Address,
    /// The VIP's port.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u16,
}
crate::assert_size!(ServiceKey = 20);

/// What a frontend does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Service {
    /// Index into `FRONTENDS` and `RETIRED`.
    pub id: u16,
    /// Index into `TABLES`, or [`NO_TABLE`] when no backend has weight.
    pub table: u16,
    /// A [`NoBackend`].
    pub no_backend: u16,
    /// A [`Spread`].
    pub spread: u16,
    /// Idle time-out of its flows.
    pub idle_timeout_s: u32,
    /// How long a client address keeps its backend after its last new flow; 0 is no affinity.
    pub affinity_s: u32,
    /// Prefixes of clients that may open flows; [`NO_LIST`](crate::prefix::NO_LIST) allows everybody.
    pub source_list: u16,
    /// Prefixes of clients whose source is replaced; [`NO_LIST`](crate::prefix::NO_LIST) is nobody's.
    pub full_nat_list: u16,
}
crate::assert_size!(Service = 20);

/// No backend has weight.
pub const NO_TABLE: u16 = u16::MAX;

/// What happens to a new flow when no backend has weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum NoBackend {
    /// RST, ABORT or port unreachable.
    Reject = 0,
    /// Silence.
    Drop = 1,
}

/// What decides the backend of a new flow, besides affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Spread {
    /// Addresses and ports.
    ByAll = 0,
    /// The ports alone: SCTP's clients that use several addresses, of theirs and of ours, stay with one backend.
    ByPorts = 1,
}

/// Backend identifiers by Maglev slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MaglevTable {
    /// The slots.
    pub slots: [u16; MAGLEV_SLOTS as usize],
    /// Zero; makes the size a multiple of eight.
    pub reserved: [u16; 3],
}
crate::assert_size!(MaglevTable = 8192);

/// A backend of one frontend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Backend {
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port_be: u16,
    /// Its service.
    pub service: u16,
    /// Raised when the entry is freed; flows remember it.
    pub generation: u32,
    /// Its weight, for whoever reads the maps back; the tables hold what it means.
    pub weight: u16,
    /// 1 when the entry is somebody's.
    pub used: u16,
}
crate::assert_size!(Backend = 28);

/// What a reply comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct EndpointKey {
    /// The backend's address.
    pub address: Address,
    /// The backend's port.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u16,
}
crate::assert_size!(EndpointKey = 20);

/// The services an endpoint works for. A reply belongs to the one that has a flow to its receiver: of several, a live
/// confirmed flow comes first, else the one that began last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Endpoint {
    /// How many of `services` count.
    pub count: u32,
    /// Service identifiers.
    pub services: [u16; MAX_SERVICES_PER_ENDPOINT],
}
crate::assert_size!(Endpoint = 64);
