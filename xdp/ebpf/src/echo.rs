//! Ping to an owned VIP, answered here, so that it works while the kernel's stack is kept away from the VIP.

use sluice_xdp_abi::checksum::{Delta, update};
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::hash::unpair;

use crate::cpu::Cpu;
use crate::header::{may_answer, swap_macs};
use crate::memory::{load, store};
use crate::packet::{ETH_LEN, ICMP_LEN, IPV4_LEN, IPV6_LEN, Packet};

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
const TTL: u8 = 64;

/// Answers an echo request; `None` for what the kernel needs to know its neighbours by.
#[inline(always)]
pub fn echo(cpu: &Cpu, packet: &Packet) -> Option<u32> {
    let l4 = packet.l4;
    if l4 + ICMP_LEN > packet.end {
        return Some(cpu.drop(DropReason::Malformed));
    }
    // SAFETY: compared above.
    let kind: u8 = unsafe { load(l4) };
    // Multicast listener and neighbour discovery: RFC 2710, RFC 3810 (143), RFC 4861.
    if !packet.is_v4 && matches!(kind, 130..=137 | 143) {
        return None;
    }
    let (request, reply) =
        if packet.is_v4 { (ECHO_REQUEST, ECHO_REPLY) } else { (ECHO_REQUEST_V6, ECHO_REPLY_V6) };
    if kind != request || !may_answer(packet) {
        return Some(cpu.drop(DropReason::Icmp));
    }
    let l3 = packet.data + ETH_LEN;
    if !swap_addresses(packet, l3) {
        return Some(cpu.drop(DropReason::Malformed));
    }
    // SAFETY: the first 34 octets are in the frame since `parse`; l4 was compared above.
    unsafe {
        store(packet.data, swap_macs(load(packet.data)));
        // Type and code are one 16-bit word of the sum; the type is its first octet in memory, so its low one here.
        let sum: u16 = load(l4 + 2);
        let delta = Delta::ZERO.word16(u16::from(request), u16::from(reply)).fold();
        store(l4, reply);
        store(l4 + 2, update(sum, delta));
    }
    Some(cpu.answer())
}

/// Source and destination change places, which no sum notices, and the TTL starts anew.
#[inline(always)]
fn swap_addresses(packet: &Packet, l3: usize) -> bool {
    let (source, destination) = (unpair(&packet.source), unpair(&packet.destination));
    if packet.is_v4 {
        if l3 + IPV4_LEN > packet.end {
            return false;
        }
        // SAFETY: compared above.
        unsafe {
            let (ttl, sum): (u8, u16) = (load(l3 + 8), load(l3 + 10));
            let delta = Delta::ZERO.word16(u16::from(ttl), u16::from(TTL)).fold();
            store(l3 + 8, TTL);
            store(l3 + 10, update(sum, delta));
            store(l3 + 12, destination.last_word());
            store(l3 + 16, source.last_word());
        }
    } else {
        if l3 + IPV6_LEN > packet.end {
            return false;
        }
        // SAFETY: compared above.
        unsafe {
            store(l3 + 7, TTL);
            store(l3 + 8, destination);
            store(l3 + 24, source);
        }
    }
    true
}
