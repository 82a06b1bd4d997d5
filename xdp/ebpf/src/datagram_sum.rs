//! The sum of a datagram whose sender made none (RFC 768), which IPv6 does not allow (RFC 8200 section 8.1): RFC 7915
//! section 4.5 has the translator make it.

use sluice_xdp_abi::checksum::fold;
use sluice_xdp_abi::limits::MAX_SUMMED_BYTES;

use crate::cpu::Cpu;
use crate::header::{pseudo_header_sum, total};
use crate::memory::{load, store};
use crate::packet::{Packet, UDP, UDP_LEN};

/// Octets summed at a time.
const CHUNK: usize = 32;
const WORD: usize = 2;

/// Puts the sum for the addresses that the packet has now into its UDP header; false when the datagram is longer than
/// its packet or too long to be summed.
#[inline(always)]
pub fn make(cpu: &Cpu, packet: &Packet) -> bool {
    let (l4, end) = (packet.l4, packet.end);
    if l4 + UDP_LEN > end {
        return false;
    }
    // SAFETY: compared above.
    let len = usize::from(u16::from_be(unsafe { load(l4 + 4) }));
    if len < UDP_LEN || len > packet.l4_len || len > MAX_SUMMED_BYTES {
        return false;
    }
    let mut sum = pseudo_header_sum(packet, UDP, len as u16);
    let mut offset = 0;
    for _ in 0..MAX_SUMMED_BYTES / CHUNK {
        let at = l4 + offset;
        if offset + CHUNK > len || at + CHUNK > end {
            break;
        }
        // SAFETY: compared above.
        let words: [u32; CHUNK / 4] = unsafe { load(at) };
        sum += total(&words);
        offset += CHUNK;
    }
    // From here on all ways through the loop look the same to the verifier.
    let offset = cpu.forget(offset as u64) as usize & MAX_SUMMED_BYTES;
    let (mut at, mut left) = (l4 + offset, len.wrapping_sub(offset));
    for _ in 0..CHUNK / WORD {
        if at + WORD > end || left < WORD {
            break;
        }
        // SAFETY: compared above.
        let word: u16 = unsafe { load(at) };
        sum += u64::from(word);
        at += WORD;
        left -= WORD;
    }
    if at < end && left == 1 {
        // SAFETY: compared above. An odd octet is followed by a zero for the sum, RFC 1071.
        let octet: u8 = unsafe { load(at) };
        sum += u64::from(octet);
    }
    let sum = !fold(sum);
    // SAFETY: compared above.
    unsafe { store(l4 + 6, if sum == 0 { 0xffff } else { sum }) };
    true
}
