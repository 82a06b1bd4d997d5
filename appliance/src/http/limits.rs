//! How much of the appliance the API may take: every number, and why.

use crate::descriptors;
use std::time::Duration;

/// A handshake takes two round trips; a client that needs longer has none.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);

/// From being accepted to a first request with credentials. Handshake and request of a client on a bad line take two
/// seconds; whoever needs longer may come again.
pub(super) const UNPROVED: Duration = Duration::from_secs(10);

/// For the head of a request, and for the silence before the next one. Longer than the interval of any monitor that keeps
/// its connection.
pub(super) const IDLE: Duration = Duration::from_secs(75);

/// For a whole body: the largest one over 10 Mbit/s.
pub(super) const BODY: Duration = Duration::from_secs(60);

/// Bytes of bodies in memory at once, over all requests: twice the largest body.
pub(super) const BODIES: usize = 128 << 20;

/// What was sent and not acknowledged for so long will not be: a reader who stopped reading is let go.
pub(super) const UNREAD: Duration = Duration::from_secs(30);

/// Header bytes of one request. Browsers and proxies send 8 KiB at most.
pub(super) const HEAD: usize = 16 << 10;

/// Connections of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Of callers that have shown who they are.
    pub(super) proved: usize,
    /// Of all others.
    pub(super) unproved: usize,
    /// Of all others, from one IPv4 address or IPv6 /64.
    pub(super) unproved_per_source: usize,
}

// === impl Limits ===

impl Limits {
    /// For one of the two listeners (plain and TLS); both together keep to the API's share of descriptors.
    fn of(share: usize) -> Self {
        let quarter = (share / 4).max(1);
        // One source leaves room for others, and a network behind one address has some.
        Limits { proved: quarter, unproved: quarter, unproved_per_source: (quarter / 4).max(1) }
    }

    /// For callers from anywhere.
    pub(super) fn outside() -> Self {
        Self::of(descriptors::api())
    }

    /// For this machine, where all callers have one address.
    pub(super) fn loopback() -> Self {
        let limits = Self::outside();
        Limits { unproved_per_source: limits.unproved, ..limits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_listeners_keep_to_the_share() {
        for share in [4, 256, 2048] {
            let limits = Limits::of(share);
            assert!(2 * (limits.proved + limits.unproved) <= share, "{limits:?}");
            assert!(limits.unproved_per_source <= limits.unproved);
        }
    }
}
