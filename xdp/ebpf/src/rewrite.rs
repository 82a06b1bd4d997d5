//! The way out: addresses, port, sums, MACs, counters.

use aya_ebpf::bindings::xdp_action::XDP_TX;
use aya_ebpf::helpers::bpf_redirect;
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::checksum::{Delta, update};
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::flow::{CacheEntry, Direction};
use sluice_xdp_abi::hash::unpair;

use crate::cpu::Cpu;
use crate::maps::TRAFFIC;
use crate::memory::{load, store};
use crate::packet::{ETH_LEN, IPV4_LEN, IPV6_LEN, Packet, TCP, TCP_LEN, UDP_LEN};

const TO_BACKEND: u16 = Direction::ToBackend as u16;

/// Sends a packet of a known flow on: everything it needs is in the entry.
#[inline(always)]
pub fn send(cpu: &Cpu, packet: &Packet, entry: &CacheEntry) -> u32 {
    let l3 = packet.data + ETH_LEN;
    if packet.is_v4 {
        if l3 + IPV4_LEN > packet.end {
            return cpu.drop(DropReason::Malformed);
        }
        // SAFETY: compared above.
        let (ttl, sum): (u8, u16) = unsafe { (load(l3 + 8), load(l3 + 10)) };
        if ttl <= 1 {
            return cpu.drop(DropReason::TtlExpired);
        }
        let field = if entry.direction == TO_BACKEND { l3 + 16 } else { l3 + 12 };
        // SAFETY: compared above.
        unsafe {
            store(l3 + 8, ttl - 1);
            store(l3 + 10, update(sum, entry.l3_delta));
            store(field, entry.address.last_word());
        }
    } else {
        if l3 + IPV6_LEN > packet.end {
            return cpu.drop(DropReason::Malformed);
        }
        // SAFETY: compared above.
        let hop_limit: u8 = unsafe { load(l3 + 7) };
        if hop_limit <= 1 {
            return cpu.drop(DropReason::TtlExpired);
        }
        let field = if entry.direction == TO_BACKEND { l3 + 24 } else { l3 + 8 };
        // SAFETY: compared above.
        unsafe {
            store(l3 + 7, hop_limit - 1);
            store(field, entry.address);
        }
    }
    if !transport(packet, entry) {
        return cpu.drop(DropReason::Malformed);
    }
    count(packet, entry);
    // SAFETY: the first 34 octets are in the frame since `parse`.
    unsafe { store(packet.data, entry.next_hop.macs) };
    out(cpu, entry.next_hop.link_index)
}

/// Port and sum of the transport header; false when it does not fit, which `parse` has excluded.
#[inline(always)]
fn transport(packet: &Packet, entry: &CacheEntry) -> bool {
    let l4 = packet.l4;
    let port = if entry.direction == TO_BACKEND { l4 + 2 } else { l4 };
    if packet.protocol == TCP {
        if l4 + TCP_LEN > packet.end {
            return false;
        }
        // SAFETY: compared above.
        unsafe {
            let sum: u16 = load(l4 + 16);
            store(l4 + 16, update(sum, entry.l4_delta));
            store(port, entry.port_be);
        }
    } else {
        if l4 + UDP_LEN > packet.end {
            return false;
        }
        // SAFETY: compared above.
        unsafe {
            let sum: u16 = load(l4 + 6);
            // RFC 768: zero means the sender made no sum, and a sum that comes out as zero is sent as all ones.
            if sum != 0 {
                let sum = update(sum, entry.l4_delta);
                store(l4 + 6, if sum == 0 { 0xffff } else { sum });
            }
            store(port, entry.port_be);
        }
    }
    true
}

#[inline(always)]
fn count(packet: &Packet, entry: &CacheEntry) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(entry.traffic_index) {
        // SAFETY: this CPU's own element.
        let traffic = unsafe { &mut *traffic };
        if entry.direction == TO_BACKEND {
            traffic.to_backend_packets += 1;
            traffic.to_backend_bytes += packet.len();
        } else {
            traffic.to_client_packets += 1;
            traffic.to_client_bytes += packet.len();
        }
    }
}

/// Transmits where the packet came from, else redirects.
#[inline(always)]
fn out(cpu: &Cpu, link_index: u32) -> u32 {
    if link_index == cpu.ingress() {
        return XDP_TX;
    }
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(link_index, 0) as u32 }
}

/// What replacing `old_address`:`old_port` by `new_address`:`new_port` adds to the IPv4 header's sum (its decremented
/// TTL included) and to the transport's, whose pseudo header holds the address.
#[inline(always)]
pub fn deltas(old: &[u64; 2], old_port_be: u16, new: &Address, new_port_be: u16) -> (u16, u16) {
    let old = unpair(old);
    let mut address = Delta::ZERO;
    let [a, b, c, d] = old.words;
    let [e, f, g, h] = new.words;
    address = address.word32(a, e).word32(b, f).word32(c, g).word32(d, h);
    // The TTL is the first octet of its 16-bit word: one less is, as it lies in memory, the word minus 1.
    let l3 = address.word16(1, 0).fold();
    let l4 = address.word16(old_port_be, new_port_be).fold();
    (l3, l4)
}
