//! How far away a peer may be: the TTL of what it is sent, and the least TTL of what is taken from it.
//!
//! RFC 4271 leaves it open. A peer of another AS is next door as a rule, and a session that finds a way around through other
//! routers carries routes towards a link that is down: so it is sent with a TTL of 1 where the peer's address is on a network
//! of ours, and otherwise as far as `multihop` says. Peers in our own AS may be anywhere.

use crate::config::PeerConfig;
use nix::{libc, setsockopt_impl, sockopt_impl};
use socket2::SockRef;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;

sockopt_impl!(MinTtl, SetOnly, libc::IPPROTO_IP, libc::IP_MINTTL, i32);
sockopt_impl!(MinHopCount, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, i32);

/// RFC 5082 §3: nobody further away can make a packet arrive with this.
const MAX_TTL: u8 = 255;

/// For one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hops {
    /// None: the system's, 64 as a rule.
    sent: Option<u8>,
    /// None: any.
    least: Option<u8>,
}

// === impl Hops ===

impl Hops {
    /// `on_link`: the peer's address is on a network of one of our interfaces.
    pub(crate) fn of(peer: &PeerConfig, internal: bool, on_link: bool) -> Self {
        let most = peer.multihop.unwrap_or(1).max(1);
        if peer.ttl_security {
            return Self { sent: Some(MAX_TTL), least: Some(MAX_TTL - (most - 1)) };
        }
        let next_door = !internal && on_link;
        Self { sent: peer.multihop.or(next_door.then_some(1)), least: None }
    }

    /// What the operator should know of a peer that is neither next door nor said to be further away.
    pub(crate) fn problem(peer: &PeerConfig, internal: bool, on_link: bool) -> Option<String> {
        let unsaid = !internal && !on_link && peer.multihop.is_none() && !peer.ttl_security;
        unsaid.then(|| {
            format!(
                "{} is on no network of this machine, so the session crosses routers and is sent with the system's TTL; set \
                 multihop to the number of hops, or peer with the router next door",
                peer.address
            )
        })
    }

    /// For a connection to `peer`, before it is made where that can be.
    pub(crate) fn limit_sent(self, socket: &impl AsFd, peer: IpAddr) -> io::Result<()> {
        let Some(ttl) = self.sent else { return Ok(()) };
        match peer {
            IpAddr::V4(_) => SockRef::from(socket).set_ttl_v4(ttl.into()),
            IpAddr::V6(_) => SockRef::from(socket).set_unicast_hops_v6(ttl.into()),
        }
    }

    /// For an open connection: the answer to a dial comes from a listener that does not know yet who asks.
    pub(crate) fn limit_taken(self, socket: &impl AsFd, peer: IpAddr) -> io::Result<()> {
        use nix::sys::socket::setsockopt;
        let Some(least) = self.least.map(i32::from) else { return Ok(()) };
        match peer {
            IpAddr::V4(_) => Ok(setsockopt(socket, MinTtl, &least)?),
            IpAddr::V6(_) => Ok(setsockopt(socket, MinHopCount, &least)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::next_hop::tests::config;

    #[test]
    fn ttls() {
        let peer = |multihop, ttl_security| PeerConfig { multihop, ttl_security, ..config() };
        let table = [
            // multihop, ttl-security, internal, on link: sent, least, problem
            ((None, false, false, true), (Some(1), None, false)),
            ((None, false, false, false), (None, None, true)),
            ((None, false, true, true), (None, None, false)),
            ((None, false, true, false), (None, None, false)),
            ((Some(3), false, false, false), (Some(3), None, false)),
            ((Some(3), false, true, true), (Some(3), None, false)),
            ((None, true, false, true), (Some(255), Some(255), false)),
            ((Some(3), true, false, false), (Some(255), Some(253), false)),
            ((Some(255), true, false, false), (Some(255), Some(1), false)),
        ];
        for ((multihop, security, internal, on_link), (sent, least, problem)) in table {
            let peer = peer(multihop, security);
            let case = format!("{multihop:?} {security} {internal} {on_link}");
            assert_eq!(Hops::of(&peer, internal, on_link), Hops { sent, least }, "{case}");
            assert_eq!(Hops::problem(&peer, internal, on_link).is_some(), problem, "{case}");
        }
    }
}
