//! The flow cache: direct-mapped, one part per CPU, overwritten on collision.

use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::flow::{CacheEntry, Direction, NextHop, cache_tag};
use sluice_xdp_abi::hash::flow_hash;
use sluice_xdp_abi::limits::MAX_BACKENDS;

use crate::cpu::Cpu;
use crate::maps::{CACHE, CACHE_SLOTS};
use crate::packet::Packet;
use crate::rewrite::deltas;

/// What a cache entry is found by.
pub struct CacheKey {
    pub source: [u64; 2],
    pub destination: [u64; 2],
    pub ports: u32,
    pub protocol: u8,
    pub hash: u64,
}

/// What a packet of this key becomes.
pub struct Rewrite {
    pub direction: Direction,
    pub address: Address,
    pub port_be: u16,
    pub backend: u32,
    pub next_hop: NextHop,
}

// === impl CacheKey ===

impl CacheKey {
    #[inline(always)]
    pub fn new(source: [u64; 2], destination: [u64; 2], ports: u32, protocol: u8) -> Self {
        let hash = flow_hash(&source, &destination, ports, protocol);
        Self { source, destination, ports, protocol, hash }
    }

    #[inline(always)]
    pub fn of(packet: &Packet) -> Self {
        Self::new(packet.source, packet.destination, packet.ports, packet.protocol)
    }

    #[inline(always)]
    fn slot(&self, cpu: &Cpu) -> Option<*mut CacheEntry> {
        let slots = CACHE_SLOTS.load();
        CACHE
            .get_ptr_mut(cpu.index.wrapping_mul(slots).wrapping_add(self.hash as u32 & (slots - 1)))
    }

    /// The entry, when it is this flow's, of this epoch, and not due for a visit to the flow table.
    #[inline(always)]
    pub fn find(&self, cpu: &Cpu) -> Option<&'static CacheEntry> {
        // SAFETY: this CPU's part.
        let entry = unsafe { &*self.slot(cpu)? };
        let [s0, s1] = entry.source;
        let [d0, d1] = entry.destination;
        let [p0, p1] = self.source;
        let [q0, q1] = self.destination;
        let differs = (s0 ^ p0) | (s1 ^ p1) | (d0 ^ q0) | (d1 ^ q1);
        let tag = cache_tag(self.ports, self.protocol, cpu.control.epoch);
        if differs | (entry.tag ^ tag) != 0 {
            return None;
        }
        let age = cpu.tick().wrapping_sub(entry.refreshed_tick);
        if age >= cpu.control.refresh_ticks { None } else { Some(entry) }
    }

    /// Overwrites the slot. The old tenant's packets find their flow in the table again.
    #[inline(always)]
    pub fn fill(&self, cpu: &Cpu, rewrite: &Rewrite) -> Option<&'static CacheEntry> {
        let (old, old_port_be) = match rewrite.direction {
            Direction::ToBackend => (&self.destination, (self.ports >> 16) as u16),
            Direction::ToClient => (&self.source, self.ports as u16),
        };
        let (l3_delta, l4_delta) = deltas(old, old_port_be, &rewrite.address, rewrite.port_be);
        // SAFETY: this CPU's part.
        let entry = unsafe { &mut *self.slot(cpu)? };
        entry.source = self.source;
        entry.destination = self.destination;
        entry.tag = cache_tag(self.ports, self.protocol, cpu.control.epoch);
        entry.refreshed_tick = cpu.tick();
        entry.traffic_index = traffic_index(cpu, rewrite.backend);
        entry.next_hop = rewrite.next_hop;
        entry.address = rewrite.address;
        entry.port_be = rewrite.port_be;
        entry.direction = rewrite.direction as u16;
        entry.l3_delta = l3_delta;
        entry.l4_delta = l4_delta;
        Some(entry)
    }
}

/// Where this CPU counts for a backend.
#[inline(always)]
pub fn traffic_index(cpu: &Cpu, backend: u32) -> u32 {
    cpu.index.wrapping_mul(MAX_BACKENDS).wrapping_add(backend)
}
