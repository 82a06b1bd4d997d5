//! The way out: addresses, port, sums, MACs, counters.

use aya_ebpf::bindings::xdp_action::XDP_TX;
use aya_ebpf::helpers::bpf_redirect;
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::checksum::{Delta, update};
use sluice_xdp_abi::crc32c;
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::flow::{Action, CacheEntryV4, CacheEntryV6, Direction};

use crate::cache::Entry;
use crate::cpu::{Cpu, Runs};
use crate::maps::TRAFFIC;
use crate::memory::{load, store};
use crate::packet::{ETH_LEN, IPV4_LEN, IPV6_LEN, Packet, SCTP, SCTP_LEN, TCP, TCP_LEN, UDP_LEN};

const TO_BACKEND: u32 = Direction::ToBackend as u32;

/// Sends a packet of a known flow on: everything it needs is in the entry.
#[inline(always)]
pub fn send(cpu: &Cpu, packet: &Packet, entry: &Entry) -> u32 {
    match entry {
        Entry::V4(entry) => send_v4(cpu, packet, entry),
        Entry::V6(entry) => send_v6(cpu, packet, entry),
    }
}

#[inline(always)]
fn send_v4(cpu: &Cpu, packet: &Packet, entry: &CacheEntryV4) -> u32 {
    let l3 = packet.data + ETH_LEN;
    if l3 + IPV4_LEN > packet.end {
        return cpu.drop(DropReason::Malformed);
    }
    // SAFETY: compared above.
    let (ttl, sum): (u8, u16) = unsafe { (load(l3 + 8), load(l3 + 10)) };
    if ttl <= 1 {
        return cpu.drop(DropReason::TtlExpired);
    }
    // SAFETY: compared above.
    unsafe {
        store(l3 + 8, ttl - 1);
        store(l3 + 10, update(sum, entry.action.l3_delta));
        store(l3 + 12, entry.addresses);
    }
    finish(cpu, packet, &entry.action)
}

#[inline(always)]
fn send_v6(cpu: &Cpu, packet: &Packet, entry: &CacheEntryV6) -> u32 {
    let l3 = packet.data + ETH_LEN;
    if l3 + IPV6_LEN > packet.end {
        return cpu.drop(DropReason::Malformed);
    }
    // SAFETY: compared above.
    let hop_limit: u8 = unsafe { load(l3 + 7) };
    if hop_limit <= 1 {
        return cpu.drop(DropReason::TtlExpired);
    }
    // SAFETY: compared above.
    unsafe {
        store(l3 + 7, hop_limit - 1);
        store(l3 + 8, entry.addresses);
    }
    finish(cpu, packet, &entry.action)
}

/// What both families share: transport header, counters, MACs, the way out.
#[inline(always)]
fn finish(cpu: &Cpu, packet: &Packet, action: &Action) -> u32 {
    if !transport(cpu, packet, action.ports, action.l4_delta) {
        return cpu.drop(DropReason::Malformed);
    }
    count(action.traffic_index, action.direction == TO_BACKEND, packet.len());
    // SAFETY: the first 34 octets are in the frame since `parse`.
    unsafe { store(packet.data, action.next_hop.macs) };
    out(cpu, action.next_hop.link_index)
}

/// Ports and sum of the transport header; false when it does not fit, which `parse` has excluded.
#[inline(always)]
pub fn transport(cpu: &Cpu, packet: &Packet, ports: u32, l4_delta: u16) -> bool {
    let (l4, end) = (packet.l4, packet.end);
    if cpu.runs != Runs::First && packet.protocol == SCTP {
        return association(cpu, packet, ports);
    }
    if packet.protocol == TCP {
        if l4 + TCP_LEN > end {
            return false;
        }
        // SAFETY: compared above.
        unsafe {
            let sum: u16 = load(l4 + 16);
            store(l4 + 16, update(sum, l4_delta));
            store(l4, ports);
        }
    } else {
        if l4 + UDP_LEN > end {
            return false;
        }
        // SAFETY: compared above.
        unsafe {
            let sum: u16 = load(l4 + 6);
            // RFC 768: zero means the sender made no sum, and a sum that comes out as zero is sent as all ones.
            if sum != 0 {
                let sum = update(sum, l4_delta);
                store(l4 + 6, if sum == 0 { 0xffff } else { sum });
            }
            store(l4, ports);
        }
    }
    true
}

/// Ports and sum of SCTP, which has no pseudo header: nothing changes when the ports do not.
#[inline(always)]
fn association(cpu: &Cpu, packet: &Packet, ports: u32) -> bool {
    let l4 = packet.l4;
    if l4 + SCTP_LEN > packet.end {
        return false;
    }
    if packet.ports != ports {
        // The compiler knows how long a packet is and leaves out what keeps within the tables; the verifier does not.
        let len = cpu.forget(packet.l4_len as u64) as usize;
        let change = crc32c::change(packet.ports ^ ports, len);
        // SAFETY: compared above.
        unsafe {
            let sum: u32 = load(l4 + 8);
            store(l4 + 8, sum ^ change);
            store(l4, ports);
        }
    }
    true
}

#[inline(always)]
pub fn count(traffic_index: u32, is_to_backend: bool, len: u64) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(traffic_index) {
        // SAFETY: this CPU's own element.
        let traffic = unsafe { &mut *traffic };
        if is_to_backend {
            traffic.to_backend_packets += 1;
            traffic.to_backend_bytes += len;
        } else {
            traffic.to_client_packets += 1;
            traffic.to_client_bytes += len;
        }
    }
}

/// Transmits where the packet came from, else redirects.
#[inline(always)]
pub fn out(cpu: &Cpu, link_index: u32) -> u32 {
    if link_index == cpu.ingress() {
        return XDP_TX;
    }
    // SAFETY: a plain helper call.
    unsafe { bpf_redirect(link_index, 0) as u32 }
}

/// What replacing each first address by its second, and the first ports by the second, adds to the IPv4 header's sum (its
/// decremented TTL included) and to the transport's, whose pseudo header holds the addresses.
#[inline(always)]
pub fn deltas(addresses: [(Address, Address); 2], ports: (u32, u32)) -> (u16, u16) {
    let mut sum = Delta::ZERO;
    for (old, new) in addresses {
        let [a, b, c, d] = old.words;
        let [e, f, g, h] = new.words;
        sum = sum.word32(a, e).word32(b, f).word32(c, g).word32(d, h);
    }
    // The TTL is the first octet of its 16-bit word: one less is, as it lies in memory, the word minus 1.
    let l3 = sum.word16(1, 0).fold();
    let l4 = sum.word32(ports.0, ports.1).fold();
    (l3, l4)
}
