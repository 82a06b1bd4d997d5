//! The maps, by the names that `sluice_xdp_abi::names` gives user space.
//!
//! Sizes that depend on the machine or on the configuration (`FLOWS`, `UNCONFIRMED`, `CACHE_*`, `CPUS`, `TRAFFIC`) are set
//! by the loader.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray};
use aya_ebpf::macros::btf_map;
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::affinity::{Affinity, AffinityKey};
use sluice_xdp_abi::counter::{CpuState, Traffic};
use sluice_xdp_abi::filter::Filter;
use sluice_xdp_abi::flow::{CacheEntryV4, CacheEntryV6, FlowKey, NextHop};
use sluice_xdp_abi::limits::{
    MAX_AFFINITIES, MAX_BACKENDS, MAX_LINKS, MAX_NAT_FLOWS, MAX_PREFIXES, MAX_ROUTERS,
    MAX_SERVICES, MAX_TABLES, MAX_VIPS, MAX_WAYS, MIN_CACHE_SLOTS,
};
use sluice_xdp_abi::nat::NatKey;
use sluice_xdp_abi::prefix::PrefixKey;
use sluice_xdp_abi::program::{
    Backend, Control, Endpoint, EndpointKey, MaglevTable, Service, ServiceKey,
};
use sluice_xdp_abi::way::Way;

use crate::flows::Table;
use crate::ways::Question;

/// Hash maps small in practice are not preallocated: they take what they hold.
const NO_PREALLOC: usize = aya_ebpf::bindings::BPF_F_NO_PREALLOC as usize;

/// Page-aligned values: an element of 64 octets then is one cache line. Otherwise it begins 56 octets into one, behind
/// the kernel's header, and costs two.
const ALIGNED: usize = aya_ebpf::bindings::BPF_F_MMAPABLE as usize;

/// Slots of one CPU's part of `CACHE_V4`, a power of two; set by the loader. `CACHE_V6` has half as many.
#[unsafe(no_mangle)]
pub static CACHE_SLOTS: Global<u32> = Global::new(MIN_CACHE_SLOTS);

#[btf_map]
pub static CONTROL: Array<Control, 1> = Array::new();
#[btf_map]
pub static FILTER: Array<Filter, 1> = Array::new();
#[btf_map]
pub static VIPS: HashMap<Address, u32, { MAX_VIPS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static SERVICES: HashMap<ServiceKey, Service, { MAX_SERVICES as usize }, NO_PREALLOC> =
    HashMap::new();
#[btf_map]
pub static FRONTENDS: Array<ServiceKey, { MAX_SERVICES as usize }> = Array::new();
#[btf_map]
pub static TABLES: Array<MaglevTable, { MAX_TABLES as usize }> = Array::new();
#[btf_map]
pub static BACKENDS: Array<Backend, { MAX_BACKENDS as usize }> = Array::new();
#[btf_map]
pub static NEXT_HOPS: Array<NextHop, { MAX_BACKENDS as usize }> = Array::new();
#[btf_map]
pub static ENDPOINTS: HashMap<EndpointKey, Endpoint, { MAX_BACKENDS as usize }, NO_PREALLOC> =
    HashMap::new();
#[btf_map]
pub static PREFIXES: LpmTrie<PrefixKey, u32, { MAX_PREFIXES as usize }> = LpmTrie::new();
#[btf_map]
pub static WAYS: LpmTrie<PrefixKey, Way, { MAX_WAYS as usize }> = LpmTrie::new();
#[btf_map]
pub static ROUTERS: Array<NextHop, { MAX_ROUTERS as usize }> = Array::new();
/// The program's own; it is not pinned and nobody else knows it.
#[btf_map]
pub static QUESTION: PerCpuArray<Question, 1> = PerCpuArray::new();
#[btf_map]
pub static AFFINITIES: LruHashMap<AffinityKey, Affinity, { MAX_AFFINITIES as usize }> =
    LruHashMap::new();
#[btf_map]
pub static NATS: HashMap<NatKey, FlowKey, { MAX_NAT_FLOWS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static LINKS: HashMap<u32, u64, { MAX_LINKS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static FLOWS: Table = LruHashMap::new();
#[btf_map]
pub static UNCONFIRMED: Table = LruHashMap::new();
#[btf_map]
pub static CACHE_V4: Array<CacheEntryV4, { MIN_CACHE_SLOTS as usize }, ALIGNED> = Array::new();
#[btf_map]
pub static CACHE_V6: Array<CacheEntryV6, { MIN_CACHE_SLOTS as usize / 2 }, ALIGNED> = Array::new();
#[btf_map]
pub static CPUS: Array<CpuState, 1, ALIGNED> = Array::new();
#[btf_map]
pub static TRAFFIC: Array<Traffic, { MAX_BACKENDS as usize }, ALIGNED> = Array::new();
#[btf_map]
pub static RETIRED: Array<Traffic, { MAX_SERVICES as usize }> = Array::new();
#[btf_map]
pub static SUCCESSORS: ProgramArray<4> = ProgramArray::new();
