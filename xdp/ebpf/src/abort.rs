//! Active refusal of SCTP: an ABORT, as a host answers packets "out of the blue", RFC 9260 section 8.4.

use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use sluice_xdp_abi::crc32c;
use sluice_xdp_abi::drop_reason::DropReason;

use crate::chunks::{ABORT, CHUNK_LEN, COOKIE_ACK, ERROR, INIT, SHUTDOWN_ACK, SHUTDOWN_COMPLETE};
use crate::cpu::Cpu;
use crate::header::{answer_header_len, write_answer_headers};
use crate::memory::{load, store};
use crate::packet::{ETH_LEN, FIN, Packet, RST, SCTP, SCTP_LEN};

const ANSWER_LEN: usize = SCTP_LEN + CHUNK_LEN;
/// The chunk with its fixed part, section 3.3.2; the tag of the sender is its second word.
const INIT_LEN: usize = 20;
/// The tag in the answer is that of the packet, since there is no association to know another.
const REFLECTED: u8 = 1;

/// Turns the packet into its refusal.
#[inline(always)]
pub fn abort(cpu: &Cpu, packet: &Packet, reason: DropReason) -> u32 {
    let data = packet.data;
    let answer_l4 = data + ETH_LEN + answer_header_len(packet);
    let Some((tag, chunk)) = answer(packet) else {
        return cpu.drop(reason);
    };
    if answer_l4 + ANSWER_LEN > packet.end {
        return cpu.drop(reason);
    }
    let words = [packet.ports.rotate_left(16), tag, 0, chunk];
    let [ports, tag, _, chunk] = words;
    let words = [ports, tag, crc32c::sum(&words), chunk];
    // SAFETY: the first 34 octets are in the frame since `parse`, and the answer ends where compared above.
    unsafe {
        write_answer_headers(data, load(data), packet, SCTP, ANSWER_LEN as u16);
        store(answer_l4, words);
    }
    let excess = (packet.end - (answer_l4 + ANSWER_LEN)) as i32;
    // SAFETY: a plain helper call; no pointer into the frame is used after it.
    if unsafe { bpf_xdp_adjust_tail(cpu.context.ctx, -excess) } != 0 {
        return cpu.drop(reason);
    }
    cpu.count_drop(reason);
    cpu.answer()
}

/// The answer's verification tag and chunk, as they are to lie in the packet; `None` for what is never answered.
#[inline(always)]
fn answer(packet: &Packet) -> Option<(u32, u32)> {
    let l4 = packet.l4;
    // Neither ABORT nor SHUTDOWN COMPLETE: two boxes would answer each other for ever.
    if packet.flags & (RST | FIN) != 0 || l4 + ANSWER_LEN > packet.end {
        return None;
    }
    // SAFETY: compared above.
    let (tag, kind, len_be): (u32, u8, u16) =
        unsafe { (load(l4 + 4), load(l4 + SCTP_LEN), load(l4 + SCTP_LEN + 2)) };
    let chunk = |kind, flags| u32::from_ne_bytes([kind, flags, 0, CHUNK_LEN as u8]);
    if kind == INIT {
        let is_whole = usize::from(u16::from_be(len_be)) >= INIT_LEN
            && packet.l4_len >= SCTP_LEN + INIT_LEN
            && l4 + SCTP_LEN + INIT_LEN <= packet.end;
        // Section 8.5.1 A: the packet of an INIT has the tag zero. Section 3.3.2: the tag in it is another.
        if !is_whole || tag != 0 {
            return None;
        }
        // SAFETY: compared above.
        let initiate_tag: u32 = unsafe { load(l4 + SCTP_LEN + CHUNK_LEN) };
        return if initiate_tag == 0 { None } else { Some((initiate_tag, chunk(ABORT, 0))) };
    }
    match kind {
        _ if tag == 0 || usize::from(u16::from_be(len_be)) < CHUNK_LEN => None,
        // Not told apart from a stale cookie's.
        COOKIE_ACK | ERROR => None,
        SHUTDOWN_ACK => Some((tag, chunk(SHUTDOWN_COMPLETE, REFLECTED))),
        _ => Some((tag, chunk(ABORT, REFLECTED))),
    }
}
