//! The largest segment a SYN asks for, RFC 9293 section 3.7.1, lowered to what will fit.

use sluice_xdp_abi::checksum::{Delta, update};
use sluice_xdp_abi::limits::MAX_TCP_OPTIONS;

use crate::cpu::Cpu;
use crate::memory::{load, store};
use crate::packet::TCP_LEN;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
const SEGMENT_SIZE_LEN: usize = 4;
/// A TCP header has at most 60 octets.
const OFFSET_MASK: usize = 0x3f;

/// Lowers the option in the TCP header at `l4` to `limit`. A header without the option asks for less than any link has.
#[inline(always)]
pub fn limit(cpu: &Cpu, l4: usize, end: usize, limit: u16) {
    if l4 + TCP_LEN > end {
        return;
    }
    // SAFETY: compared above.
    let header_words: u8 = unsafe { load(l4 + 12) };
    let header_len = usize::from(header_words >> 4) * 4;
    let mut offset = TCP_LEN;
    for _ in 0..MAX_TCP_OPTIONS {
        if offset + SEGMENT_SIZE_LEN > header_len {
            return;
        }
        // Changes nothing after the comparison, except that the verifier need not follow every way here.
        offset = cpu.forget(offset as u64) as usize & OFFSET_MASK;
        let option = l4 + offset;
        if option + SEGMENT_SIZE_LEN > end {
            return;
        }
        // SAFETY: compared above.
        let (kind, len): (u8, u8) = unsafe { (load(option), load(option + 1)) };
        if kind == SEGMENT_SIZE && usize::from(len) == SEGMENT_SIZE_LEN {
            return lower(l4, option, offset, limit);
        }
        if kind == END || kind != NO_OPERATION && len < 2 {
            return;
        }
        offset += if kind == NO_OPERATION { 1 } else { usize::from(len) };
    }
}

#[inline(always)]
fn lower(l4: usize, option: usize, offset: usize, limit: u16) {
    // SAFETY: the caller compared the ends of the option and of the plain header.
    unsafe {
        let size_be: u16 = load(option + 2);
        if u16::from_be(size_be) <= limit {
            return;
        }
        let limit_be = limit.to_be();
        store(option + 2, limit_be);
        // An option may begin at an odd octet, and then lies across two words of the sum.
        let (old, new) = if offset & 1 == 0 {
            (size_be, limit_be)
        } else {
            (size_be.swap_bytes(), limit_be.swap_bytes())
        };
        let sum: u16 = load(l4 + 16);
        store(l4 + 16, update(sum, Delta::ZERO.word16(old, new).fold()));
    }
}
