//! Between the vocabulary of std and the bytes of the ABI.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use sluice_xdp_abi as abi;
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::prefix::{LIST_BITS, MAPPED_BITS, PrefixKey};
use sluice_xdp_abi::program::{EndpointKey, ServiceKey};

use crate::shared::Shared;
use crate::types::{Counters, Frontend, NextHop, NoBackend, Protocol, Traffic};

const TCP: u16 = 6;
const UDP: u16 = 17;
const SCTP: u16 = 132;

pub(crate) fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => Address::v4(v4.octets()),
        IpAddr::V6(v6) => Address::v6(v6.octets()),
    }
}

pub(crate) fn ip(address: &Address) -> IpAddr {
    let v6 = Ipv6Addr::from(address.octets());
    // An IPv6 VIP in ::ffff:0:0/96 cannot exist on a wire (RFC 4291 section 2.5.5.2), so nothing is mistaken.
    if address.is_v4() { v6.to_canonical() } else { IpAddr::V6(v6) }
}

/// A prefix of a list as the trie finds it.
pub(crate) fn prefix_key(list: u16, net: &IpNet) -> Key<Shared<PrefixKey>> {
    let (family, bits) = match net {
        IpNet::V4(_) => (4, MAPPED_BITS),
        IpNet::V6(_) => (6, 0),
    };
    let bits = LIST_BITS + bits + u32::from(net.prefix_len());
    Key::new(bits, Shared(PrefixKey { list, family, address: address(net.network()) }))
}

/// The inverse of [`prefix_key`]; `None` for what it never makes.
pub(crate) fn prefix(key: &Key<Shared<PrefixKey>>) -> Option<IpNet> {
    let Shared(data) = key.data();
    let bits = key.prefix_len().checked_sub(LIST_BITS)?;
    let v6 = Ipv6Addr::from(data.address.octets());
    let (network, bits) = match data.family {
        4 => (IpAddr::V4(v6.to_ipv4_mapped()?), bits.checked_sub(MAPPED_BITS)?),
        _ => (IpAddr::V6(v6), bits),
    };
    IpNet::new(network, u8::try_from(bits).ok()?).ok()
}

fn protocol_number(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
        Protocol::Sctp => SCTP,
    }
}

pub(crate) fn service_key(frontend: &Frontend) -> ServiceKey {
    ServiceKey {
        vip: address(frontend.vip),
        port_be: frontend.port.to_be(),
        protocol: protocol_number(frontend.protocol),
    }
}

/// `None` for a protocol of a newer version.
pub(crate) fn frontend(key: &ServiceKey) -> Option<Frontend> {
    let protocol = match key.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        SCTP => Protocol::Sctp,
        _ => return None,
    };
    Some(Frontend { vip: ip(&key.vip), port: u16::from_be(key.port_be), protocol })
}

pub(crate) fn endpoint_key(backend: SocketAddr, protocol: Protocol) -> EndpointKey {
    EndpointKey {
        address: address(backend.ip()),
        port_be: backend.port().to_be(),
        protocol: protocol_number(protocol),
    }
}

pub(crate) fn socket(backend: &abi::program::Backend) -> SocketAddr {
    SocketAddr::new(ip(&backend.address), u16::from_be(backend.port_be))
}

/// A backend's address without what a socket address has beyond address and port (scope, flow label).
pub(crate) fn plain_socket(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

pub(crate) fn next_hop(hop: Option<&NextHop>) -> abi::flow::NextHop {
    let Some(hop) = hop else {
        return abi::flow::NextHop::default();
    };
    let [a, b, c, d, e, f] = hop.destination_mac;
    let [g, h, i, j, k, l] = hop.source_mac;
    let macs = [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_ne_bytes);
    abi::flow::NextHop { link_index: hop.link_index, macs }
}

pub(crate) fn no_backend(policy: NoBackend) -> u16 {
    match policy {
        NoBackend::Reject => abi::program::NoBackend::Reject as u16,
        NoBackend::Drop => abi::program::NoBackend::Drop as u16,
    }
}

pub(crate) fn no_backend_policy(number: u16) -> NoBackend {
    if number == abi::program::NoBackend::Drop as u16 { NoBackend::Drop } else { NoBackend::Reject }
}

/// Whole seconds, rounded up, at least one.
pub(crate) fn seconds(duration: Duration) -> u32 {
    let whole = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    u32::try_from(whole.max(1)).unwrap_or(u32::MAX)
}

pub(crate) fn counters(traffic: &abi::counter::Traffic) -> Counters {
    Counters {
        to_backends: Traffic {
            packets: traffic.to_backend_packets,
            bytes: traffic.to_backend_bytes,
        },
        to_clients: Traffic { packets: traffic.to_client_packets, bytes: traffic.to_client_bytes },
        new_flows: traffic.new_flows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["203.0.113.10", "2001:db8:113::10", "::", "0.0.0.0"] {
            let wanted: IpAddr = text.parse().unwrap();
            assert_eq!(ip(&address(wanted)), wanted);
        }
    }

    #[test]
    fn prefixes_come_back() {
        for text in [
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0/8",
            "192.0.2.7/32",
            "2001:db8::/32",
            "::1/128",
            "::ffff:0:0/96",
            "::ffff:10.0.0.0/104",
        ] {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(prefix(&prefix_key(3, &net)), Some(net), "{text}");
        }
        let v4 = prefix_key(3, &"0.0.0.0/0".parse().unwrap());
        let asked = PrefixKey::new(3, address("10.0.0.1".parse().unwrap()));
        assert_eq!(v4.data().0.family, asked.family);
    }

    #[test]
    fn next_hops_lie_as_in_a_frame() {
        let hop = NextHop {
            link_index: 7,
            source_mac: [7, 8, 9, 10, 11, 12],
            destination_mac: [1, 2, 3, 4, 5, 6],
        };
        let shared = next_hop(Some(&hop));
        let bytes: Vec<u8> = shared.macs.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(next_hop(None).link_index, 0);
    }

    #[test]
    fn time_outs_are_whole_seconds() {
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::from_millis(1500)), 2);
        assert_eq!(seconds(Duration::from_secs(300)), 300);
        assert_eq!(seconds(Duration::MAX), u32::MAX);
    }
}
