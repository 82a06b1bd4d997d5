//! Names of the program and its maps: symbols in the object, files in the pin directory.

/// The XDP program.
pub const PROGRAM: &str = "sluice";
/// The one it hands packets under NAT64 over to.
pub const TRANSLATOR: &str = "translator";
/// The one it hands packets of SCTP over to.
pub const ASSOCIATIONS: &str = "associations";
/// The one it hands questions for MACs over to.
pub const NEIGHBOURS: &str = "neighbours";
/// The one it hands replies of no known flow over to.
pub const FORGOTTEN: &str = "forgotten";
/// All of them.
pub const PROGRAMS: [&str; 5] = [PROGRAM, TRANSLATOR, ASSOCIATIONS, NEIGHBOURS, FORGOTTEN];

/// [`Control`](crate::program::Control), one entry.
pub const CONTROL: &str = "CONTROL";
/// [`Filter`](crate::filter::Filter), one entry.
pub const FILTER: &str = "FILTER";
/// Owned VIPs: [`Address`](crate::address::Address) → `u32`, unused.
pub const VIPS: &str = "VIPS";
/// [`ServiceKey`](crate::program::ServiceKey) → [`Service`](crate::program::Service).
pub const SERVICES: &str = "SERVICES";
/// Service identifier → [`ServiceKey`](crate::program::ServiceKey).
pub const FRONTENDS: &str = "FRONTENDS";
/// Table number → [`MaglevTable`](crate::program::MaglevTable).
pub const TABLES: &str = "TABLES";
/// Backend identifier → [`Backend`](crate::program::Backend).
pub const BACKENDS: &str = "BACKENDS";
/// Backend identifier → [`NextHop`](crate::flow::NextHop).
pub const NEXT_HOPS: &str = "NEXT_HOPS";
/// [`EndpointKey`](crate::program::EndpointKey) → [`Endpoint`](crate::program::Endpoint).
pub const ENDPOINTS: &str = "ENDPOINTS";
/// [`PrefixKey`](crate::prefix::PrefixKey) behind its length in bits → `u32`, unused.
pub const PREFIXES: &str = "PREFIXES";
/// [`PrefixKey`](crate::prefix::PrefixKey) of the list [`WAYS_LIST`](crate::way::WAYS_LIST) behind its length in bits →
/// [`Way`](crate::way::Way).
pub const WAYS: &str = "WAYS";
/// Number of a router → [`NextHop`](crate::flow::NextHop).
pub const ROUTERS: &str = "ROUTERS";
/// [`AffinityKey`](crate::affinity::AffinityKey) → [`Affinity`](crate::affinity::Affinity).
pub const AFFINITIES: &str = "AFFINITIES";
/// [`NatKey`](crate::nat::NatKey) → [`FlowKey`](crate::flow::FlowKey).
pub const NATS: &str = "NATS";
/// Attached links: interface index → `u64`, the link's MAC in its first six octets; 0 without one.
pub const LINKS: &str = "LINKS";
/// Flows whose backend and client have both proven to be there: [`FlowKey`](crate::flow::FlowKey) →
/// [`Flow`](crate::flow::Flow).
pub const FLOWS: &str = "FLOWS";
/// The others, which come from anybody and must not push those out: as [`FLOWS`].
pub const UNCONFIRMED: &str = "UNCONFIRMED";
/// `cpu × slots + slot` → [`CacheEntryV4`](crate::flow::CacheEntryV4).
pub const CACHE_V4: &str = "CACHE_V4";
/// `cpu × slots / 2 + slot` → [`CacheEntryV6`](crate::flow::CacheEntryV6).
pub const CACHE_V6: &str = "CACHE_V6";
/// CPU → [`CpuState`](crate::counter::CpuState).
pub const CPUS: &str = "CPUS";
/// `cpu × MAX_BACKENDS + backend` → [`Traffic`](crate::counter::Traffic).
pub const TRAFFIC: &str = "TRAFFIC";
/// Service identifier → [`Traffic`](crate::counter::Traffic) of backends it no longer has; user space's own.
pub const RETIRED: &str = "RETIRED";
/// Programs to hand packets over to, by [`TRANSLATOR_PLACE`], [`ASSOCIATIONS_PLACE`], [`NEIGHBOURS_PLACE`] and
/// [`FORGOTTEN_PLACE`].
pub const SUCCESSORS: &str = "SUCCESSORS";

/// Where [`TRANSLATOR`] is in [`SUCCESSORS`].
pub const TRANSLATOR_PLACE: u32 = 0;
/// Where [`ASSOCIATIONS`] is.
pub const ASSOCIATIONS_PLACE: u32 = 1;
/// Where [`NEIGHBOURS`] is.
pub const NEIGHBOURS_PLACE: u32 = 2;
/// Where [`FORGOTTEN`] is.
pub const FORGOTTEN_PLACE: u32 = 3;

/// Every map, in no order.
pub const MAPS: [&str; 23] = [
    CONTROL,
    FILTER,
    VIPS,
    SERVICES,
    FRONTENDS,
    TABLES,
    BACKENDS,
    NEXT_HOPS,
    ENDPOINTS,
    PREFIXES,
    WAYS,
    ROUTERS,
    AFFINITIES,
    NATS,
    LINKS,
    FLOWS,
    UNCONFIRMED,
    CACHE_V4,
    CACHE_V6,
    CPUS,
    TRAFFIC,
    RETIRED,
    SUCCESSORS,
];

/// A constant of the program: slots in one CPU's IPv4 cache, a power of two. The IPv6 cache has half as many.
pub const CACHE_SLOTS: &str = "CACHE_SLOTS";
