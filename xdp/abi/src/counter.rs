//! Counters. Each CPU has its own copy, at an index, in a plain array: looking it up needs no helper on any kernel.

use crate::drop_reason::DropReason;

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
    /// RST, port unreachable and echo replies sent.
    pub answers: u64,
    /// The gate of new flows.
    pub flow_gate: Gate,
    /// The gate of ICMP errors.
    pub icmp_gate: Gate,
    /// Where a number goes to be forgotten by the verifier; meaningless.
    pub scratch: u64,
    /// Zero.
    pub reserved: [u64; 8],
    /// Packets dropped, by [`DropReason`].
    pub drops: [u64; DROP_SLOTS],
}
crate::assert_size!(CpuState = 384);

/// So many a tick, on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Gate {
    /// The low half of the tick (jiffy) the count belongs to.
    pub tick: u32,
    /// Taken in this tick.
    pub taken: u32,
}
crate::assert_size!(Gate = 8);

// === impl Gate ===

impl Gate {
    /// Takes one at `tick`; false when `limit` were taken already.
    #[inline(always)]
    pub fn take(&mut self, tick: u32, limit: u32) -> bool {
        if self.tick != tick {
            *self = Self { tick, taken: 0 };
        }
        if self.taken >= limit {
            return false;
        }
        self.taken += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_gives_its_limit_each_tick() {
        let mut gate = Gate::default();
        assert_eq!([gate.take(5, 2), gate.take(5, 2), gate.take(5, 2)], [true, true, false]);
        assert!(gate.take(6, 2));
        assert!(!gate.take(7, 0));
    }
}
