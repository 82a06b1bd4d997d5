//! Full NAT: the client's source becomes the VIP, so that answers come back through us.

use crate::address::Address;
use crate::limits::MIN_NAT_PORT;

/// What a backend answers to: the other end of the connection as the backend sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct NatKey {
    /// The backend.
    pub backend: Address,
    /// The VIP, which the backend takes for the client.
    pub vip: Address,
    /// The backend's port.
    pub backend_port_be: u16,
    /// The source port given to the client.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u32,
}
crate::assert_size!(NatKey = 40);

/// Whose port it is. With VIP and protocol of the key this names the flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NatClient {
    /// The client.
    pub client: Address,
    /// The client's own port.
    pub client_port_be: u16,
    /// The VIP's port that the client addressed.
    pub vip_port_be: u16,
}
crate::assert_size!(NatClient = 20);

/// How many ports there are to give.
pub const NAT_PORTS: u32 = 65_536 - MIN_NAT_PORT as u32;

/// Near the golden section of [`NAT_PORTS`] and without a common factor, so that steps visit every port, far apart.
const STEP: u32 = 39_869;

// === impl NatClient ===

impl NatClient {
    /// Word by word: the derived comparison is a call on the kernel's side.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.client.words, other.client.words);
        let ports =
            (self.client_port_be ^ other.client_port_be) | (self.vip_port_be ^ other.vip_port_be);
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) | ports as u32 == 0
    }
}

/// The port to try in the `attempt`th place: the client's own first, so that most flows keep it, then others from a
/// point that the flow's hash chooses. A privileged port is not passed on: some servers trust it (RFC 6056 section 3.2
/// leaves those below 1024 out as well).
#[inline(always)]
pub const fn port(client_port: u16, hash: u64, attempt: u32) -> u16 {
    if attempt == 0 && client_port >= MIN_NAT_PORT {
        return client_port;
    }
    let start = ((hash >> 32) * NAT_PORTS as u64) >> 32;
    let offset = (start + attempt as u64 * STEP as u64) % NAT_PORTS as u64;
    #[expect(clippy::cast_possible_truncation, reason = "below 64,512 by the remainder")]
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
    fn owners_differ_in_any_part() {
        let owner =
            NatClient { client: Address::v4([10, 0, 0, 1]), client_port_be: 1, vip_port_be: 2 };
        assert!(owner.is(&owner));
        for other in [
            NatClient { client: Address::v4([10, 0, 0, 2]), ..owner },
            NatClient { client_port_be: 2, ..owner },
            NatClient { vip_port_be: 1, ..owner },
        ] {
            assert!(!owner.is(&other) && !other.is(&owner));
        }
    }
}
