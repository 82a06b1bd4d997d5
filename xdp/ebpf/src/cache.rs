//! The flow cache: direct-mapped, one part per CPU and family, overwritten on collision.

use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::flow::{Action, CacheEntryV4, CacheEntryV6, Direction, NextHop, cache_tag};
use sluice_xdp_abi::hash::{flow_hash, pair, unpair};
use sluice_xdp_abi::limits::MAX_BACKENDS;

use crate::cpu::Cpu;
use crate::maps::{CACHE_SLOTS, CACHE_V4, CACHE_V6};
use crate::packet::Packet;
use crate::rewrite::deltas;

/// What a cache entry is found by.
pub struct CacheKey {
    pub is_v4: bool,
    pub source: [u64; 2],
    pub destination: [u64; 2],
    pub ports: u32,
    pub protocol: u8,
    pub hash: u64,
}

/// What a packet of this key becomes.
pub struct Rewrite<'a> {
    pub direction: Direction,
    pub source: Address,
    pub destination: Address,
    pub source_port_be: u16,
    pub destination_port_be: u16,
    pub backend: u32,
    pub next_hop: &'a NextHop,
    /// False for a flow that is closing: its ports may soon be another flow's, so its packets ask the flow table.
    pub is_kept: bool,
}

/// An entry of either family.
pub enum Entry {
    V4(&'static CacheEntryV4),
    V6(&'static CacheEntryV6),
}

// === impl CacheKey ===

impl CacheKey {
    #[inline(always)]
    pub fn of(packet: &Packet) -> Self {
        let Packet { is_v4, source, destination, ports, protocol, .. } = *packet;
        let hash = flow_hash(&source, &destination, ports, protocol);
        Self { is_v4, source, destination, ports, protocol, hash }
    }

    /// What the packet's answer from this endpoint will be found by.
    #[inline(always)]
    pub fn of_reply(packet: &Packet, source: [u64; 2], source_port_be: u16) -> Self {
        let ports = u32::from(source_port_be) | u32::from(packet.source_port_be()) << 16;
        let hash = flow_hash(&source, &packet.source, ports, packet.protocol);
        let Packet { is_v4, protocol, .. } = *packet;
        Self { is_v4, source, destination: packet.source, ports, protocol, hash }
    }

    /// The entry, when it is this flow's, of this epoch, and not due for a visit to the flow table.
    #[inline(always)]
    pub fn find(&self, cpu: &Cpu) -> Option<Entry> {
        let tag = cache_tag(self.protocol, cpu.control.epoch);
        let (differs, entry, action) = if self.is_v4 {
            // SAFETY: this CPU's part.
            let entry = unsafe { &*self.slot_v4(cpu)? };
            let differs = (entry.source ^ last_word(&self.source))
                | (entry.destination ^ last_word(&self.destination))
                | (entry.ports ^ self.ports)
                | (entry.tag ^ tag);
            (u64::from(differs), Entry::V4(entry), &entry.action)
        } else {
            // SAFETY: this CPU's part.
            let entry = unsafe { &*self.slot_v6(cpu)? };
            let ([s0, s1], [d0, d1]) = (entry.source, entry.destination);
            let ([p0, p1], [q0, q1]) = (self.source, self.destination);
            let differs = (s0 ^ p0) | (s1 ^ p1) | (d0 ^ q0) | (d1 ^ q1);
            let differs = differs | u64::from((entry.ports ^ self.ports) | (entry.tag ^ tag));
            (differs, Entry::V6(entry), &entry.action)
        };
        if differs != 0 {
            return None;
        }
        let age = cpu.tick().wrapping_sub(action.refreshed_tick);
        if age >= cpu.control.refresh_ticks { None } else { Some(entry) }
    }

    /// Overwrites the slot. The old tenant's packets find their flow in the table again.
    #[inline(always)]
    pub fn fill(&self, cpu: &Cpu, rewrite: &Rewrite<'_>) -> Option<Entry> {
        let action = self.action(cpu, rewrite);
        // No packet looks for the tag 0.
        let tag = if rewrite.is_kept { cache_tag(self.protocol, cpu.control.epoch) } else { 0 };
        if self.is_v4 {
            // SAFETY: this CPU's part.
            let entry = unsafe { &mut *self.slot_v4(cpu)? };
            entry.source = last_word(&self.source);
            entry.destination = last_word(&self.destination);
            entry.ports = self.ports;
            entry.tag = tag;
            entry.action = action;
            entry.addresses = [rewrite.source.last_word(), rewrite.destination.last_word()];
            Some(Entry::V4(entry))
        } else {
            // SAFETY: this CPU's part.
            let entry = unsafe { &mut *self.slot_v6(cpu)? };
            entry.source = self.source;
            entry.destination = self.destination;
            entry.ports = self.ports;
            entry.tag = tag;
            entry.action = action;
            entry.addresses = [pair(&rewrite.source), pair(&rewrite.destination)];
            Some(Entry::V6(entry))
        }
    }

    #[inline(always)]
    fn action(&self, cpu: &Cpu, rewrite: &Rewrite<'_>) -> Action {
        let ports =
            u32::from(rewrite.source_port_be) | u32::from(rewrite.destination_port_be) << 16;
        let (l3_delta, l4_delta) = deltas(
            [
                (unpair(&self.source), rewrite.source),
                (unpair(&self.destination), rewrite.destination),
            ],
            (self.ports, ports),
        );
        Action {
            refreshed_tick: cpu.tick(),
            traffic_index: traffic_index(cpu, rewrite.backend),
            next_hop: *rewrite.next_hop,
            ports,
            l3_delta,
            l4_delta,
            direction: rewrite.direction as u32,
            reserved: 0,
        }
    }

    #[inline(always)]
    fn slot_v4(&self, cpu: &Cpu) -> Option<*mut CacheEntryV4> {
        CACHE_V4.get_ptr_mut(self.slot(cpu, CACHE_SLOTS.load()))
    }

    #[inline(always)]
    fn slot_v6(&self, cpu: &Cpu) -> Option<*mut CacheEntryV6> {
        CACHE_V6.get_ptr_mut(self.slot(cpu, CACHE_SLOTS.load() / 2))
    }

    #[inline(always)]
    fn slot(&self, cpu: &Cpu, slots: u32) -> u32 {
        cpu.index.wrapping_mul(slots).wrapping_add(self.hash as u32 & slots.wrapping_sub(1))
    }
}

/// An IPv4 address of a pair.
#[inline(always)]
fn last_word(pair: &[u64; 2]) -> u32 {
    let [_, last] = *pair;
    (last >> 32) as u32
}

/// Where this CPU counts for a backend.
#[inline(always)]
pub fn traffic_index(cpu: &Cpu, backend: u32) -> u32 {
    cpu.index.wrapping_mul(MAX_BACKENDS).wrapping_add(backend)
}
