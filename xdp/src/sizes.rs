//! How large the tables are: the machine and the options decide.

use aya::maps::MapInfo;
use nix::sys::sysinfo::sysinfo;
use sluice_xdp_abi::flow::{CacheEntryV4, CacheEntryV6, Flow, FlowKey};
use sluice_xdp_abi::{limits, names};

use crate::error::OpenError;
use crate::types::Options;

/// What the kernel adds to an entry of a hash map with an order of use.
const NODE_BYTES: usize = 64;
/// What the system, the daemon and the tables of a fixed size take. Of the rest, flows take at most half.
const SYSTEM_BYTES: u64 = 192 << 20;

/// Entries of the tables that are not of a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) cpus: u32,
    pub(crate) flows: u32,
    /// Of one CPU.
    pub(crate) cache_slots: u32,
}

// === impl Sizes ===

impl Sizes {
    /// Those of the pinned tables when they are adopted, else what is asked for.
    pub(crate) fn choose(options: &Options, adopted: bool) -> Result<Self, OpenError> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| OpenError::Cpus(error))?;
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        let wanted = options.max_flows.map(|flows| flows.max(limits::MIN_MAX_FLOWS));
        if !adopted {
            return Ok(match wanted {
                Some(flows) => Self::of(flows, cpus),
                // Where the memory's size is not told, the machine is none of the small ones.
                None => sysinfo().map_or(Self::of(limits::DEFAULT_MAX_FLOWS, cpus), |system| {
                    Self::fitting(system.ram_total(), cpus)
                }),
            });
        }
        let entries = |name: &str| {
            MapInfo::from_pin(options.pin_dir.join(name)).map_or(0, |info| info.max_entries())
        };
        let (pinned_flows, cache) = (entries(names::FLOWS), entries(names::CACHE_V4));
        if let Some(wanted) = wanted
            && pinned_flows != wanted
        {
            tracing::warn!(
                wanted,
                kept = pinned_flows,
                "the adopted flow table keeps its size until the data plane is removed"
            );
        }
        Ok(Self { cpus, flows: pinned_flows, cache_slots: cache / cpus.max(1) })
    }

    fn of(flows: u32, cpus: u32) -> Self {
        Self { cpus, flows, cache_slots: cache_slots(flows, cpus) }
    }

    /// The default, or as much as fits beside the system into a machine with this memory.
    fn fitting(memory_bytes: u64, cpus: u32) -> Self {
        let mut flows = limits::DEFAULT_MAX_FLOWS;
        while flows > limits::MIN_MAX_FLOWS
            && Self::of(flows, cpus).bytes() > memory_bytes.saturating_sub(SYSTEM_BYTES) / 2
        {
            flows /= 2;
        }
        Self::of(flows, cpus)
    }

    /// Entries of the table of unconfirmed flows.
    pub(crate) fn unconfirmed(self) -> u32 {
        (self.flows / limits::UNCONFIRMED_SHARE).max(limits::MIN_MAX_FLOWS)
    }

    /// Memory that flows and their caches take from the start.
    fn bytes(self) -> u64 {
        let flow = size_of::<FlowKey>() + size_of::<Flow>() + NODE_BYTES;
        let flows = u64::from(self.flows) + u64::from(self.unconfirmed());
        let slot = size_of::<CacheEntryV4>() + size_of::<CacheEntryV6>() / 2;
        let slots = u64::from(self.cpus) * u64::from(self.cache_slots);
        flows * flow as u64 + slots * slot as u64
    }
}

/// Twice what one CPU holds when receive queues spread the flows evenly, for both directions; a power of two.
fn cache_slots(flows: u32, cpus: u32) -> u32 {
    let wanted = (flows / cpus.max(1)).saturating_mul(4);
    let wanted = wanted.clamp(limits::MIN_CACHE_SLOTS, limits::MAX_CACHE_SLOTS);
    wanted.checked_next_power_of_two().unwrap_or(limits::MAX_CACHE_SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_sizes_are_powers_of_two_within_limits() {
        for (flows, cpus, slots) in
            [(4096, 64, 4096), (1 << 20, 2, 262_144), (u32::MAX, 1, 262_144), (50_000, 4, 65_536)]
        {
            assert_eq!(cache_slots(flows, cpus), slots, "{flows} flows, {cpus} CPUs");
        }
    }

    #[test]
    fn small_machines_remember_fewer_flows() {
        for (memory_mib, cpus, flows) in [
            (192, 2, 4096),
            (215, 2, 16_384),
            (463, 2, 262_144),
            (1024, 2, 1_048_576),
            (2048, 8, 1_048_576),
            (1 << 20, 256, 1_048_576),
            (0, 2, 4096),
        ] {
            let sizes = Sizes::fitting(memory_mib << 20, cpus);
            assert_eq!(sizes.flows, flows, "{memory_mib} MiB, {cpus} CPUs: {}", sizes.bytes());
        }
    }
}
