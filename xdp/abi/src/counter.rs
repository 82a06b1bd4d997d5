//! Counters. Each CPU has its own copy, at an index, in a plain array: looking it up needs no helper on any kernel.

use crate::drop_reason::DropReason;
use crate::handover::Handover;
use crate::limits::GATE_BURST_TICKS;

/// What one CPU moved for one backend. A cache line, so that CPUs do not disturb each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Traffic {
    /// Packets from clients.
    pub to_backend_packets: u64,
    /// Bytes from clients, of whole frames.
    pub to_backend_bytes: u64,
    /// Packets from the backend.
    pub to_client_packets: u64,
    /// Bytes from the backend, of whole frames.
    pub to_client_bytes: u64,
    /// Flows that began here.
    pub new_flows: u64,
    /// Zero.
    pub reserved: [u64; 3],
}
crate::assert_size!(Traffic = 64);

/// Room for reasons to come without moving a byte.
pub const DROP_SLOTS: usize = 32;
const _: () = assert!(DropReason::ALL.len() <= DROP_SLOTS);

/// What one CPU counts for itself, and its gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CpuState {
    /// Packets left to the kernel.
    pub passed_packets: u64,
    /// Bytes left to the kernel.
    pub passed_bytes: u64,
    /// Flows that the gate kept out of the flow table.
    pub gated_flows: u64,
    /// Flows the table refused (no memory).
    pub failed_flows: u64,
    /// RST, ABORT, port unreachable and echo replies sent.
    pub answers: u64,
    /// The gate of new flows.
    pub flow_gate: Gate,
    /// The gate of ICMP errors.
    pub icmp_gate: Gate,
    /// Where a number goes to be forgotten by the verifier; meaningless.
    pub scratch: u64,
    /// For the program that translates this packet (NAT64).
    pub handover: Handover,
    /// Zero.
    pub reserved: [u64; 2],
    /// Packets dropped, by [`DropReason`].
    pub drops: [u64; DROP_SLOTS],
}
crate::assert_size!(CpuState = 384);

/// So many a tick on average, on one CPU, and [`GATE_BURST_TICKS`] times as many at once after a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Gate {
    /// The low half of the tick (jiffy) when `tokens` was last raised.
    pub tick: u32,
    /// What may be taken.
    pub tokens: u32,
}
crate::assert_size!(Gate = 8);

// === impl Gate ===

impl Gate {
    /// Takes one token at `tick`; false when none is left.
    #[inline(always)]
    pub fn take(&mut self, tick: u32, tokens_per_tick: u32) -> bool {
        if self.tick != tick {
            let elapsed = tick.wrapping_sub(self.tick) as u64;
            let burst = tokens_per_tick as u64 * GATE_BURST_TICKS as u64;
            let tokens = self.tokens as u64 + elapsed * tokens_per_tick as u64;
            let limit = if burst < u32::MAX as u64 { burst } else { u32::MAX as u64 };
            let tokens = if tokens < limit { tokens } else { limit };
            #[expect(clippy::cast_possible_truncation, reason = "below the limit")]
            let tokens = tokens as u32;
            *self = Self { tick, tokens };
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_gives_its_rate_and_a_burst_after_a_pause() {
        let mut gate = Gate::default();
        let taken = |gate: &mut Gate, tick| (0..1000).filter(|_| gate.take(tick, 2)).count();
        assert_eq!(taken(&mut gate, 100), 2 * GATE_BURST_TICKS as usize);
        assert_eq!([taken(&mut gate, 101), taken(&mut gate, 104)], [2, 6]);
        assert_eq!(taken(&mut gate, 1_000_000), 2 * GATE_BURST_TICKS as usize);
        // The tick count wraps.
        gate.tick = u32::MAX;
        assert_eq!(taken(&mut gate, 0), 2);
    }

    #[test]
    fn a_gate_can_be_shut_or_open_for_good() {
        assert!(!Gate::default().take(7, 0));
        let mut open = Gate::default();
        assert!((0..100).all(|tick| open.take(tick + 1, u32::MAX)));
    }
}
