//! Next hops of a session: its own address for its own family, and for the other one what is configured or found on
//! the same interface.

use crate::config::PeerConfig;
use ipnet::IpNet;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use sluice_bgp_core::wire::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What UPDATEs of one connection say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NextHops {
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

/// An address of an interface, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    interface: String,
    loopback: bool,
    address: IpAddr,
    /// A mask of all ones: more likely a service address than the router's neighbour.
    host: bool,
    network: IpNet,
}

// === impl NextHops ===

impl NextHops {
    /// For a connection whose own end is `local`.
    pub(crate) fn of(config: &PeerConfig, local: IpAddr) -> Self {
        let mut next_hops = Self { v4: config.next_hop_v4, v6: config.next_hop_v6 };
        match local {
            // A session in 169.254/16 is a link with no other addresses, as clouds and routers without numbers have it: the
            // peer is on that link and reaches us there. Nothing else is ever chosen from that range.
            IpAddr::V4(v4) if v4.is_link_local() => next_hops.v4 = next_hops.v4.or(Some(v4)),
            // RFC 2545 §2: the next hop is a global address, a link-local one only comes along. Peers ignore routes
            // towards 127.0.0.1 and ::1 (RFC 4271 §6.3).
            local if !is_global(local) => {}
            IpAddr::V4(v4) => next_hops.v4 = next_hops.v4.or(Some(v4)),
            IpAddr::V6(v6) => next_hops.v6 = next_hops.v6.or(Some(v6)),
        }
        if next_hops.v4.is_none() || next_hops.v6.is_none() {
            // One netlink dump per connection, microseconds; never while a session runs.
            let candidates = candidates();
            next_hops.v4 = next_hops.v4.or_else(|| match neighbour(&candidates, local, true) {
                Some(IpAddr::V4(v4)) => Some(v4),
                _ => None,
            });
            next_hops.v6 = next_hops.v6.or_else(|| match neighbour(&candidates, local, false) {
                Some(IpAddr::V6(v6)) => Some(v6),
                _ => None,
            });
        }
        next_hops
    }

    /// Families that routes can be announced in.
    pub(crate) fn families(&self) -> Vec<Family> {
        let v4 = self.v4.map(|_| Family::IPV4_UNICAST);
        let v6 = self.v6.map(|_| Family::IPV6_UNICAST);
        v4.into_iter().chain(v6).collect()
    }

    /// Why a family is missing, and what to do.
    pub(crate) fn problems(&self, local: IpAddr) -> Vec<String> {
        let missing = [
            (self.v4.is_none(), Family::IPV4_UNICAST, "next-hop-ipv4"),
            (self.v6.is_none(), Family::IPV6_UNICAST, "next-hop-ipv6"),
        ];
        let text = |family: Family, key: &str| {
            format!(
                "{family} is not negotiated: the interface of {local} has no address that can be its next hop; add one, \
                 or set {key} for this peer"
            )
        };
        missing
            .iter()
            .filter(|(gone, ..)| *gone)
            .map(|(_, family, key)| text(*family, key))
            .collect()
    }
}

/// An address of the wanted family on the interface that has `local`. Nothing on a loopback interface: what is there
/// besides 127.0.0.1 and ::1 are service addresses.
fn neighbour(candidates: &[Candidate], local: IpAddr, v4: bool) -> Option<IpAddr> {
    let interface = candidates.iter().find(|c| c.address == local && !c.loopback)?;
    candidates
        .iter()
        .filter(|c| c.interface == interface.interface)
        .filter(|c| c.address.is_ipv4() == v4 && is_global(c.address))
        .min_by_key(|c| c.host)
        .map(|c| c.address)
}

/// Whether the address is on a network of one of our interfaces.
pub(crate) fn is_on_link(peer: IpAddr) -> bool {
    candidates().iter().any(|ours| ours.network.contains(&peer))
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback() && !v4.is_unspecified(),
        IpAddr::V6(v6) => {
            !v6.is_unicast_link_local()
                && !v6.is_loopback()
                && !v6.is_unspecified()
                && !v6.is_multicast()
        }
    }
}

fn candidates() -> Vec<Candidate> {
    match getifaddrs() {
        Ok(addresses) => addresses.filter_map(candidate).collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot list the addresses of this machine; next hops only as configured");
            Vec::new()
        }
    }
}

fn candidate(entry: InterfaceAddress) -> Option<Candidate> {
    let address = ip(entry.address.as_ref()?)?;
    let own = IpNet::with_netmask(address, ip(entry.netmask.as_ref()?)?).ok()?;
    // On a point-to-point link that is the other end; elsewhere the same field is the broadcast address.
    let is_point_to_point = entry.flags.contains(InterfaceFlags::IFF_POINTOPOINT);
    let other_end = entry.destination.as_ref().and_then(ip).filter(|_| is_point_to_point);
    let network = other_end.map_or(own, IpNet::from);
    Some(Candidate {
        loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        address,
        interface: entry.interface_name,
        host: own.prefix_len() == own.max_prefix_len(),
        network,
    })
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::time::Duration;

    fn on(interface: &str, address: &str, host: bool) -> Candidate {
        let (loopback, address) = (interface == "lo", address.parse().unwrap());
        let network = IpNet::from(address);
        Candidate { interface: interface.into(), loopback, address, host, network }
    }

    pub(crate) fn config() -> PeerConfig {
        PeerConfig {
            address: "127.0.0.2".parse().unwrap(),
            port: 179,
            asn: 1,
            local_address: None,
            passive: false,
            hold_time: Duration::from_secs(90),
            connect_retry: Duration::from_secs(5),
            next_hop_v4: None,
            next_hop_v6: None,
            multihop: None,
            ttl_security: false,
        }
    }

    #[test]
    fn the_other_family_comes_from_the_same_interface() {
        let table = [
            on("lo", "203.0.113.10", true),
            on("lo", "2001:db8:113::10", true),
            on("eth0", "10.0.0.2", false),
            on("eth0", "fe80::2", false),
            on("eth0", "2001:db8::99", true),
            on("eth0", "2001:db8::2", false),
            on("eth1", "10.0.1.2", false),
            on("eth1", "fe80::3", false),
        ];
        let find = |local: &str, v4| neighbour(&table, local.parse().unwrap(), v4);
        assert_eq!(find("10.0.0.2", false), "2001:db8::2".parse().ok());
        assert_eq!(find("2001:db8::2", true), "10.0.0.2".parse().ok());
        assert_eq!(find("10.0.1.2", false), None, "link-local only");
        assert_eq!(find("203.0.113.10", false), None, "never a service address of lo");
        assert_eq!(find("192.0.2.1", false), None, "unknown");
    }

    #[test]
    fn a_session_in_the_link_local_range_is_its_own_next_hop() {
        let local = Ipv4Addr::new(169, 254, 7, 2);
        let next_hops = NextHops::of(&config(), local.into());
        assert_eq!(next_hops, NextHops { v4: Some(local), v6: None });
        let table = [on("eth0", "2001:db8::2", false), on("eth0", "169.254.7.2", false)];
        let find = |local: &str, v4| neighbour(&table, local.parse().unwrap(), v4);
        assert_eq!(find("2001:db8::2", true), None, "not for a session over IPv6");
        assert_eq!(find("169.254.7.2", false), "2001:db8::2".parse().ok());
    }

    #[test]
    fn configured_next_hops_win_and_missing_ones_are_explained() {
        let mut config = PeerConfig { next_hop_v4: Some(Ipv4Addr::new(10, 9, 9, 9)), ..config() };
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let next_hops = NextHops::of(&config, local);
        assert_eq!(next_hops, NextHops { v4: Some(Ipv4Addr::new(10, 9, 9, 9)), v6: None });
        assert_eq!(next_hops.families(), [Family::IPV4_UNICAST]);
        let problems = next_hops.problems(local);
        assert_eq!(problems.len(), 1);
        assert_eq!(
            NextHops::of(&PeerConfig { next_hop_v4: None, ..config.clone() }, local),
            NextHops::default()
        );
        assert!(problems[0].contains("set next-hop-ipv6"), "{problems:?}");
        config.next_hop_v6 = Some(Ipv6Addr::LOCALHOST);
        assert!(NextHops::of(&config, local).problems(local).is_empty());
    }
}
