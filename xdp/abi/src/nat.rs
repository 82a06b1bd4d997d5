//! Source ports: of full NAT, where the client's source becomes the VIP, and of NAT64, where it becomes an IPv4 address of
//! the appliance. Either way answers come back through us.
//!
//! The same table knows the associations of SCTP whose clients use several addresses: nobody's source is replaced, and so
//! the port is the client's own.

use crate::address::Address;
use crate::limits::{MAX_NAT64_PORT, MIN_NAT_PORT};

/// What a backend answers to: the other end of the connection as the backend sees it. Its value is the
/// [`FlowKey`](crate::flow::FlowKey) of the flow that has the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct NatKey {
    /// The backend.
    pub backend: Address,
    /// What the backend takes for the client: the VIP, or the source of NAT64; [`NO_SOURCE`] of an association.
    pub source: Address,
    /// The backend's port.
    pub backend_port_be: u16,
    /// The source port given to the client; of an association the client's.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u32,
}
crate::assert_size!(NatKey = 40);

/// The client itself, at any of its addresses.
pub const NO_SOURCE: Address = Address { words: [0; 4] };

/// How many ports full NAT has to give.
pub const NAT_PORTS: u32 = 65_536 - MIN_NAT_PORT as u32;

/// How many ports NAT64 has to give.
pub const NAT64_PORTS: u32 = MAX_NAT64_PORT as u32 + 1 - MIN_NAT_PORT as u32;

/// Near the golden section of the number of ports and without a common factor, so that steps visit every port, far apart.
const STEP: u32 = 39_869;
const STEP_64: u32 = 19_619;

/// The port to try in the `attempt`th place: the client's own first, so that most flows keep it, then others from a
/// point that the flow's hash chooses. A privileged port is not passed on: some servers trust it (RFC 6056 section 3.2
/// leaves those below 1024 out as well).
#[inline(always)]
pub const fn port(client_port: u16, hash: u64, attempt: u32) -> u16 {
    if attempt == 0 && client_port >= MIN_NAT_PORT {
        return client_port;
    }
    nth(hash, attempt, NAT_PORTS, STEP)
}

/// The port of NAT64 to try in the `attempt`th place. The client's own is not preferred: most clients' ports are among
/// those that the appliance's kernel gives to its own connections, which have the same source.
#[inline(always)]
pub const fn port_64(hash: u64, attempt: u32) -> u16 {
    nth(hash, attempt, NAT64_PORTS, STEP_64)
}

#[inline(always)]
const fn nth(hash: u64, attempt: u32, ports: u32, step: u32) -> u16 {
    let start = ((hash >> 32) * ports as u64) >> 32;
    let offset = (start + attempt as u64 * step as u64) % ports as u64;
    #[expect(clippy::cast_possible_truncation, reason = "at most 64,511 by the remainder")]
    let offset = offset as u16;
    MIN_NAT_PORT + offset
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_own_port_comes_first_unless_privileged() {
        assert_eq!(port(40_000, 7, 0), 40_000);
        assert_eq!(port(1024, 7, 0), 1024);
        assert!(port(1023, u64::MAX, 0) >= MIN_NAT_PORT);
        assert!(port(0, 0, 0) >= MIN_NAT_PORT);
    }

    #[test]
    fn attempts_visit_every_port_once() {
        for hash in [0, 0x1234_5678_9abc_def0, u64::MAX] {
            let ports: BTreeSet<u16> = (0..NAT_PORTS).map(|n| port(0, hash, n)).collect();
            assert_eq!(ports.len(), NAT_PORTS as usize);
            assert_eq!(ports.first(), Some(&MIN_NAT_PORT));
        }
    }

    #[test]
    fn ports_of_nat64_are_not_the_kernels() {
        for hash in [0, 0x1234_5678_9abc_def0, u64::MAX] {
            let ports: BTreeSet<u16> = (0..NAT64_PORTS).map(|n| port_64(hash, n)).collect();
            assert_eq!(ports.len(), NAT64_PORTS as usize);
            assert_eq!(ports.first(), Some(&MIN_NAT_PORT));
            assert_eq!(ports.last(), Some(&MAX_NAT64_PORT));
        }
    }
}
