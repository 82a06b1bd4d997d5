//! Other programs, which packets are handed over to: each has a stack and a verifier's budget of its own.

use sluice_xdp_abi::drop_reason::DropReason;
pub use sluice_xdp_abi::names::{
    ASSOCIATIONS_PLACE as ASSOCIATIONS, FORGOTTEN_PLACE as FORGOTTEN,
    NEIGHBOURS_PLACE as NEIGHBOURS, TRANSLATOR_PLACE as TRANSLATOR,
};

use crate::cpu::Cpu;
use crate::maps::SUCCESSORS;

/// Ends this program's run with that of another one; comes back only without it. The packet must not be read afterwards:
/// for the verifier of many kernels (6.12 among them) a tail call invalidates what is known of it.
#[inline(always)]
pub fn try_hand_over(cpu: &Cpu, to: u32) {
    // SAFETY: what this run has open is memory of maps; nothing needs to be dropped.
    unsafe { SUCCESSORS.tail_call(cpu.context, to) };
}

/// Ends this program's run with that of another one.
#[inline(always)]
pub fn hand_over(cpu: &Cpu, to: u32) -> u32 {
    try_hand_over(cpu, to);
    // Only without the other program, which the loader sees to.
    cpu.drop(DropReason::Untranslatable)
}
