//! Loading the program, on new maps or on those of a data plane that is running.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, Map, MapData, MapInfo};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_getres};
use sluice_xdp_abi::affinity::{Affinity, AffinityKey};
use sluice_xdp_abi::counter::{CpuState, Traffic};
use sluice_xdp_abi::filter::Filter;
use sluice_xdp_abi::flow::{CacheEntryV4, CacheEntryV6, Flow, FlowKey};
use sluice_xdp_abi::nat::NatKey;
use sluice_xdp_abi::prefix::PrefixKey;
use sluice_xdp_abi::program::{Backend, Control, Endpoint, EndpointKey, MaglevTable, Service};
use sluice_xdp_abi::way::Way;
use sluice_xdp_abi::{ABI_VERSION, limits, names};

use crate::error::OpenError;
use crate::index::Index;
use crate::maps::Maps;
use crate::pinned::Pinned;
use crate::shared::Shared;
use crate::sizes::Sizes;
use crate::types::Options;
use crate::{DataPlane, pins, successors, verify, ways};

/// The compiled kernel program.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-xdp.o"));

/// What the pin directory holds.
enum Found {
    Nothing,
    /// A data plane of this version.
    Ours,
    /// One that cannot be adopted, and why.
    Foreign(String),
}

// === impl DataPlane ===

impl DataPlane {
    /// Adopts the pinned maps and links when they are of this ABI version, else starts with empty ones. An adopted
    /// link runs the old program, on the same maps, until [`DataPlane::attach`] is called for it.
    ///
    /// # Errors
    /// Not root, a kernel without BPF, a pin directory that cannot be used.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        pins::prepare(&options.pin_dir)?;
        let adopted = match inspect(&options.pin_dir) {
            Found::Nothing => false,
            Found::Ours => true,
            Found::Foreign(reason) => {
                tracing::warn!(
                    pin_dir = %options.pin_dir.display(), reason,
                    "cannot adopt the data plane found here; starting with an empty one"
                );
                pins::clear(&options.pin_dir)?;
                false
            }
        };
        let sizes = Sizes::choose(options, adopted)?;
        let mut bpf = load(&options.pin_dir, &sizes)?;
        let maps = Maps::take(&mut bpf)?;
        let mut successors = successors::take(&mut bpf)?;
        successors::install(&mut bpf, &mut successors)?;
        let mut plane = Self {
            bpf,
            maps,
            successors,
            control: Control::default(),
            pin_dir: options.pin_dir.clone(),
            attach: options.attach,
            adopted,
            links: BTreeMap::new(),
            fallback: None,
            pinned: hold(&options.pin_dir)?,
            findings: Vec::new(),
            inspected_to: None,
            vips: BTreeSet::new(),
            filter: Box::new(Filter::EMPTY),
            is_filter_stale: false,
            index: Index::default(),
            next_hops: BTreeMap::new(),
            ways: ways::Held::default(),
            live_flows: 0,
            max_flows: sizes.flows.saturating_add(sizes.unconfirmed()),
        };
        plane.control = plane.maps.control.get(0)?;
        plane.take_over(options.nat64_source)?;
        tracing::info!(
            adopted,
            links = plane.links.len(),
            frontends = plane.index.services.len(),
            flows = sizes.flows,
            cache_slots = sizes.cache_slots,
            cpus = sizes.cpus,
            "data plane ready"
        );
        Ok(plane)
    }

    /// Reads back what the maps hold and writes what this version adds.
    fn take_over(&mut self, nat64_source: Option<Ipv4Addr>) -> Result<(), OpenError> {
        *self.filter = self.maps.filter.get(0)?;
        self.vips = self.read_vips()?;
        self.read_index()?;
        self.read_ways()?;
        self.read_links()?;
        self.rebuild_filter()?;
        let Control { epoch, .. } = self.control;
        self.control = control(epoch, nat64_source);
        self.flush_cache()?;
        Ok(())
    }
}

/// The limits per second and the refresh time, in ticks of this kernel.
fn control(epoch: u32, nat64_source: Option<Ipv4Addr>) -> Control {
    const NS_PER_S: u64 = 1_000_000_000;
    // The coarse clock advances once a tick, so its resolution is the tick's length. 4 ms is Debian's.
    let tick_ns = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .map_or(4_000_000, |length| u64::try_from(length.tv_nsec()).unwrap_or(4_000_000))
        .max(1);
    let per_tick = |per_second: u32| {
        u32::try_from(u64::from(per_second) * tick_ns / NS_PER_S).unwrap_or(u32::MAX).max(1)
    };
    let refresh_ns = u64::from(limits::REFRESH_MS) * 1_000_000;
    Control {
        abi_version: ABI_VERSION,
        epoch,
        refresh_ticks: u32::try_from(refresh_ns / tick_ns).unwrap_or(u32::MAX).max(1),
        new_flows_per_tick: per_tick(limits::NEW_FLOWS_PER_SECOND_PER_CPU),
        icmp_errors_per_tick: per_tick(limits::ICMP_ERRORS_PER_SECOND_PER_CPU),
        nat64_source: nat64_source.map_or(0, |source| u32::from_ne_bytes(source.octets())),
        ..Control::default()
    }
}

fn inspect(pin_dir: &Path) -> Found {
    let control = pin_dir.join(names::CONTROL);
    if !control.exists() {
        return match pins::files(pin_dir) {
            Ok(files) if files.is_empty() => Found::Nothing,
            _ => Found::Foreign("it is incomplete".to_owned()),
        };
    }
    let version = MapData::from_pin(&control)
        .and_then(|data| Array::<_, Shared<Control>>::try_from(Map::Array(data)))
        .and_then(|map| map.get(&0, 0));
    match version {
        Ok(Shared(Control { abi_version: ABI_VERSION, .. })) => {}
        Ok(Shared(Control { abi_version, .. })) => {
            return Found::Foreign(format!("its version is {abi_version}, ours {ABI_VERSION}"));
        }
        Err(error) => return Found::Foreign(error.to_string()),
    }
    let misfit = names::MAPS.iter().find(|name| !fits(pin_dir, name));
    misfit.map_or(Found::Ours, |name| Found::Foreign(format!("its map {name} does not fit")))
}

/// Whether a pinned map has the layout of this version. The version number says so too; this catches the developer who
/// forgot to raise it.
fn fits(pin_dir: &Path, name: &str) -> bool {
    let value_size = match name {
        names::SERVICES => size_of::<Service>(),
        names::TABLES => size_of::<MaglevTable>(),
        names::BACKENDS => size_of::<Backend>(),
        names::ENDPOINTS => size_of::<Endpoint>(),
        names::FLOWS | names::UNCONFIRMED => size_of::<Flow>(),
        names::AFFINITIES => size_of::<Affinity>(),
        names::NATS => size_of::<FlowKey>(),
        names::CACHE_V4 => size_of::<CacheEntryV4>(),
        names::CACHE_V6 => size_of::<CacheEntryV6>(),
        names::CPUS => size_of::<CpuState>(),
        names::WAYS => size_of::<Way>(),
        names::LINKS => size_of::<u64>(),
        names::TRAFFIC | names::RETIRED => size_of::<Traffic>(),
        _ => 0,
    };
    let key_size = match name {
        names::FLOWS | names::UNCONFIRMED => size_of::<FlowKey>(),
        names::ENDPOINTS => size_of::<EndpointKey>(),
        names::PREFIXES | names::WAYS => size_of::<Key<PrefixKey>>(),
        names::AFFINITIES => size_of::<AffinityKey>(),
        names::NATS => size_of::<NatKey>(),
        _ => 0,
    };
    let is = |size: u32, wanted: usize| wanted == 0 || usize::try_from(size) == Ok(wanted);
    MapInfo::from_pin(pin_dir.join(name))
        .is_ok_and(|info| is(info.value_size(), value_size) && is(info.key_size(), key_size))
}

fn load(pin_dir: &Path, sizes: &Sizes) -> Result<Ebpf, OpenError> {
    let mut loader = EbpfLoader::new();
    for name in names::MAPS {
        loader.map_pin_path(name, pin_dir.join(name));
    }
    let mut bpf = loader
        .map_max_entries(names::FLOWS, sizes.flows)
        .map_max_entries(names::UNCONFIRMED, sizes.unconfirmed())
        .map_max_entries(names::CACHE_V4, sizes.cpus.saturating_mul(sizes.cache_slots))
        .map_max_entries(names::CACHE_V6, sizes.cpus.saturating_mul(sizes.cache_slots / 2))
        .map_max_entries(names::CPUS, sizes.cpus)
        .map_max_entries(names::TRAFFIC, sizes.cpus.saturating_mul(limits::MAX_BACKENDS))
        .override_global(names::CACHE_SLOTS, &sizes.cache_slots, true)
        .load(OBJECT)
        .map_err(|error| OpenError::Object(Box::new(error)))?;
    verify::all(&mut bpf)?;
    let program = program(&mut bpf, names::PROGRAM).ok_or(OpenError::Incomplete(names::PROGRAM))?;
    let path = pin_dir.join(names::PROGRAM);
    pins::unpin(&path)?;
    program
        .pin(&path)
        .map_err(|source| OpenError::PinProgram { path, source: Box::new(source) })?;
    Ok(bpf)
}

/// Descriptors of the maps and the program, which were pinned a moment ago.
fn hold(pin_dir: &Path) -> Result<Vec<Pinned>, OpenError> {
    let names = names::MAPS.iter().chain([&names::PROGRAM]);
    Ok(names.map(|name| Pinned::open(pin_dir.join(name))).collect::<Result<_, _>>()?)
}

/// One of the object's programs.
pub(crate) fn program<'a>(bpf: &'a mut Ebpf, name: &str) -> Option<&'a mut Xdp> {
    bpf.program_mut(name)?.try_into().ok()
}
