//! ICMP errors: port unreachable, RFC 792 and RFC 4443 section 3.1, and fragmentation needed, RFC 1191 section 4.

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use sluice_xdp_abi::checksum::fold;
use sluice_xdp_abi::drop_reason::DropReason;

use crate::cpu::Cpu;
use crate::header::{icmp_protocol, pseudo_header_sum, total, write_answer_headers};
use crate::memory::{load, store};
use crate::packet::{ETH_LEN, ICMP_LEN, IPV4_LEN, IPV6_LEN, Packet, UDP_LEN};

/// Destination unreachable, port unreachable: type and code as they lie in memory.
const V4: u16 = u16::from_ne_bytes([3, 3]);
const V6: u16 = u16::from_ne_bytes([1, 4]);
/// Destination unreachable, fragmentation needed.
const V4_TOO_BIG: u16 = u16::from_ne_bytes([3, 4]);
/// Octets of the transport header in a quote: ports, and what a TCP socket knows its segments by (RFC 792).
const QUOTED_L4: usize = UDP_LEN;

/// Answers with the packet's IP and UDP header quoted, which is all a socket needs to find itself. Packets with options
/// or extension headers get silence.
#[inline(always)]
pub fn port_unreachable(cpu: &Cpu, packet: &Packet, reason: DropReason) -> u32 {
    cpu.count_drop(reason);
    if !may_answer(cpu, packet) {
        return XDP_DROP;
    }
    let sent = if packet.is_v4 {
        answer::<IPV4_LEN, { (IPV4_LEN + QUOTED_L4) / 4 }>(cpu, packet, V4, 0)
    } else {
        answer::<IPV6_LEN, { (IPV6_LEN + QUOTED_L4) / 4 }>(cpu, packet, V6, 0)
    };
    if sent { cpu.answer() } else { XDP_DROP }
}

/// Tells the sender of an IPv4 packet how long it may be.
#[inline(always)]
pub fn fragmentation_needed(cpu: &Cpu, packet: &Packet, mtu: u16) -> u32 {
    cpu.count_drop(DropReason::TooBig);
    if !packet.is_v4 || !may_answer(cpu, packet) {
        return XDP_DROP;
    }
    let [high, low] = mtu.to_be_bytes();
    let rest = u32::from_ne_bytes([0, 0, high, low]);
    if answer::<IPV4_LEN, { (IPV4_LEN + QUOTED_L4) / 4 }>(cpu, packet, V4_TOO_BIG, rest) {
        cpu.answer()
    } else {
        XDP_DROP
    }
}

/// Whether the headers are as `answer` quotes them, and not too many errors have been sent.
#[inline(always)]
fn may_answer(cpu: &Cpu, packet: &Packet) -> bool {
    let header_len = if packet.is_v4 { IPV4_LEN } else { IPV6_LEN };
    let is_plain = packet.l4 == packet.data + ETH_LEN + header_len;
    let tick = cpu.tick();
    is_plain && cpu.state().icmp_gate.take(tick, cpu.control.icmp_errors_per_tick)
}

/// Cuts the packet after the first eight octets of its transport header, makes room in front, and writes the new headers
/// there. `QUOTED` is the length of what is quoted, in words; `rest` is what follows the sum, as it lies in memory.
#[inline(always)]
fn answer<const HEADER_LEN: usize, const QUOTED: usize>(
    cpu: &Cpu,
    packet: &Packet,
    type_and_code: u16,
    rest: u32,
) -> bool {
    // SAFETY: the first 34 octets are in the frame since `parse`.
    let macs: [u32; 3] = unsafe { load(packet.data) };
    let quoted_len = HEADER_LEN + QUOTED_L4;
    let excess = (packet.end - packet.data) as i32 - (ETH_LEN + quoted_len) as i32;
    // SAFETY: plain helper calls; the old pointers are not used after them.
    let failed = unsafe {
        bpf_xdp_adjust_tail(cpu.context.ctx, -excess) != 0
            || bpf_xdp_adjust_head(cpu.context.ctx, -((HEADER_LEN + ICMP_LEN) as i32)) != 0
    };
    let (data, end) = (cpu.context.data(), cpu.context.data_end());
    let icmp = data + ETH_LEN + HEADER_LEN;
    if failed || icmp + ICMP_LEN + quoted_len > end {
        return false;
    }
    let protocol = icmp_protocol(packet);
    let payload_len = (ICMP_LEN + quoted_len) as u16;
    // SAFETY: compared above.
    unsafe {
        let quoted: [u32; QUOTED] = load(icmp + ICMP_LEN);
        let sum = total(&quoted)
            + u64::from(type_and_code)
            + u64::from(rest)
            + pseudo_header_sum(packet, protocol, payload_len);
        store(icmp, type_and_code);
        store(icmp + 2, !fold(sum));
        store(icmp + 4, rest);
        write_answer_headers(data, macs, packet, protocol, payload_len);
    }
    true
}
