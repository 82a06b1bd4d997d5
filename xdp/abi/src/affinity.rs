//! Session affinity: which backend a client address had last, by frontend.

use crate::address::Address;
use crate::life::age_ns;

/// A client of a frontend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AffinityKey {
    /// The client, whatever its ports.
    pub client: Address,
    /// Service identifier.
    pub service: u32,
}
crate::assert_size!(AffinityKey = 20);

/// Where its last flow went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Affinity {
    /// When that flow began, CLOCK_MONOTONIC_COARSE.
    pub last_new_flow_ns: u64,
    /// Index into `BACKENDS`.
    pub backend: u32,
    /// The generation of that backend; another one there means it vanished, even if the service's number is reused.
    pub backend_generation: u32,
}
crate::assert_size!(Affinity = 16);

// === impl Affinity ===

impl Affinity {
    /// Whether it still binds at `now_ns` of the same clock.
    #[inline(always)]
    pub const fn binds(&self, now_ns: u64, timeout_s: u32) -> bool {
        age_ns(self.last_new_flow_ns, now_ns) <= timeout_s as u64 * 1_000_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_binds_up_to_its_time_out() {
        let affinity = Affinity { last_new_flow_ns: 5, ..Affinity::default() };
        assert!(affinity.binds(2_000_000_005, 2));
        assert!(!affinity.binds(2_000_000_006, 2));
        // Another CPU's clock may be a tick ahead.
        assert!(affinity.binds(0, 1));
    }
}
