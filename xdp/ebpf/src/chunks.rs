//! Chunks of an SCTP packet, RFC 9260 section 3.2: what they do to an association, in the words that TCP has for it.

use sluice_xdp_abi::limits::MAX_CHUNKS;

use crate::cpu::Cpu;
use crate::memory::load;
use crate::packet::{FIN, Packet, RST, SCTP_LEN, SYN};

pub const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
pub const ABORT: u8 = 6;
pub const SHUTDOWN_ACK: u8 = 8;
pub const ERROR: u8 = 9;
pub const COOKIE_ACK: u8 = 11;
pub const SHUTDOWN_COMPLETE: u8 = 14;
const DATA: u8 = 0;
/// RFC 8260 section 2.1.
const I_DATA: u8 = 64;

/// Type, flags and length.
pub const CHUNK_LEN: usize = 4;
/// Control chunks come first and are short; this is far beyond what an association's end is found behind.
const OFFSET_MASK: usize = 0x3fff;

/// What a packet opens or closes: INIT and its answer are [`SYN`], ABORT is [`RST`], SHUTDOWN COMPLETE is [`FIN`].
///
/// INIT, INIT ACK and SHUTDOWN COMPLETE are alone in their packets. ABORT may stand behind other control chunks, and never
/// behind data (section 3.3.7). What makes no sense ends the search: whose association it is knows what to do about it.
#[inline(always)]
pub fn flags(cpu: &Cpu, packet: &Packet) -> u8 {
    let mut offset = SCTP_LEN;
    for _ in 0..MAX_CHUNKS {
        let chunk = packet.l4 + offset;
        if offset + CHUNK_LEN > packet.l4_len || chunk + CHUNK_LEN > packet.end {
            return 0;
        }
        // SAFETY: compared above.
        let (kind, len_be): (u8, u16) = unsafe { (load(chunk), load(chunk + 2)) };
        match kind {
            INIT | INIT_ACK => return SYN,
            ABORT => return RST,
            SHUTDOWN_COMPLETE => return FIN,
            DATA | I_DATA => return 0,
            _ => {}
        }
        let len = usize::from(u16::from_be(len_be));
        if len < CHUNK_LEN {
            return 0;
        }
        // A chunk is filled up to a multiple of four. The verifier need not follow every length there may be.
        offset = cpu.forget(((offset + len + 3) & !3) as u64) as usize & OFFSET_MASK;
    }
    0
}
