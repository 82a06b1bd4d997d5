//! Active refusal: the client of a VIP learns at once that nobody is there.

use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use sluice_xdp_abi::checksum::fold;
use sluice_xdp_abi::drop_reason::DropReason;

use crate::abort::abort;
use crate::cpu::{Cpu, Runs};
use crate::header::{
    answer_header_len, may_answer, pseudo_header_sum, total, write_answer_headers,
};
use crate::memory::{load, store};
use crate::packet::{ACK, ETH_LEN, FIN, Packet, RST, SYN, TCP, TCP_LEN};
use crate::unreachable::port_unreachable;

/// Refuses a TCP segment, a UDP datagram or a packet of SCTP, and counts why it was not balanced.
#[inline(always)]
pub fn reject(cpu: &Cpu, packet: &Packet, reason: DropReason) -> u32 {
    if !may_answer(packet) {
        return cpu.drop(reason);
    }
    if cpu.runs == Runs::Associations {
        abort(cpu, packet, reason)
    } else if packet.protocol == TCP {
        reset(cpu, packet, reason)
    } else {
        port_unreachable(cpu, packet, reason)
    }
}

/// Turns the segment into its reset, RFC 9293 section 3.10.7.1 (state CLOSED).
#[inline(always)]
fn reset(cpu: &Cpu, packet: &Packet, reason: DropReason) -> u32 {
    let (data, l4) = (packet.data, packet.l4);
    let answer_l4 = data + ETH_LEN + answer_header_len(packet);
    // "An incoming segment containing a RST is discarded."
    if packet.flags & RST != 0 || l4 + TCP_LEN > packet.end || answer_l4 + TCP_LEN > packet.end {
        return cpu.drop(reason);
    }
    // SAFETY: compared above.
    let (macs, sequence_be, acknowledgment_be, header_words) =
        unsafe { (load(data), load::<u32>(l4 + 4), load::<u32>(l4 + 8), load(l4 + 12)) };
    // "If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>. If the ACK bit
    // is on, <SEQ=SEG.ACK><CTL=RST>."
    let (sequence_be, acknowledgment_be, flags) = if packet.flags & ACK != 0 {
        (acknowledgment_be, 0, RST)
    } else {
        let next = u32::from_be(sequence_be).wrapping_add(segment_len(packet, header_words));
        (0, next.to_be(), RST | ACK)
    };
    let ports = packet.ports.rotate_left(16);
    // Header length in 32-bit words in the upper half of the first octet, flags in the second, no window.
    let control = u32::from_ne_bytes([(TCP_LEN as u8 / 4) << 4, flags, 0, 0]);
    let words = [ports, sequence_be, acknowledgment_be, control];
    let sum = !fold(total(&words) + pseudo_header_sum(packet, TCP, TCP_LEN as u16));
    // SAFETY: compared above: the answer's headers end at answer_l4 + 20.
    unsafe {
        write_answer_headers(data, macs, packet, TCP, TCP_LEN as u16);
        store(answer_l4, words);
        store(answer_l4 + 16, u32::from(sum));
    }
    let excess = (packet.end - (answer_l4 + TCP_LEN)) as i32;
    // SAFETY: a plain helper call; no pointer into the frame is used after it.
    if unsafe { bpf_xdp_adjust_tail(cpu.context.ctx, -excess) } != 0 {
        return cpu.drop(reason);
    }
    cpu.count_drop(reason);
    cpu.answer()
}

/// SEG.LEN: the octets of data, counting SYN and FIN (RFC 9293 section 3.3.1).
#[inline(always)]
fn segment_len(packet: &Packet, header_words: u8) -> u32 {
    let header_len = usize::from(header_words >> 4) * 4;
    let data_len = packet.l4_len.saturating_sub(header_len);
    let syn = u32::from(packet.flags & SYN != 0);
    let fin = u32::from(packet.flags & FIN != 0);
    data_len as u32 + syn + fin
}
