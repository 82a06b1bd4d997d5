//! Kernel messages → our types. Nothing here fails: what cannot be ours to know is `None`.

use crate::device::Device;
use crate::ours;
use crate::types::{Link, Router, Way};
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessage,
    RouteNextHopFlags, RouteType, RouteVia,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// A neighbour is named by its link and address.
pub(crate) type NeighKey = (u32, IpAddr);

/// One address on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addr {
    pub(crate) link_index: u32,
    pub(crate) net: IpNet,
    pub(crate) ours: bool,
    /// Usable beyond this host and this link.
    pub(crate) global: bool,
}

/// One entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neigh {
    pub(crate) state: NeighbourState,
    pub(crate) mac: Option<Mac>,
}

/// The kernel's answer for one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through this neighbour; the destination itself when on-link.
    Via {
        link_index: u32,
        gateway: IpAddr,
    },
    Local,
    None,
}

// === impl Neigh ===

impl Neigh {
    /// The MAC packets may be sent to: in every state the kernel itself would send in (`NUD_VALID`).
    pub(crate) fn usable_mac(&self) -> Option<Mac> {
        use NeighbourState::{Delay, Noarp, Permanent, Probe, Reachable, Stale};
        match self.state {
            Reachable | Stale | Delay | Probe | Permanent | Noarp => self.mac,
            _ => None,
        }
    }
}

/// `None` for messages of another family: a bridge announces "port removed" as a deleted link.
pub(crate) fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        queues: u32::MAX,
        is_pair: false,
        device: None,
    };
    let (mut bus, mut device) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = mac(bytes).unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::NumRxQueues(queues) | LinkAttribute::NumTxQueues(queues) => {
                link.queues = link.queues.min(*queues);
            }
            LinkAttribute::LinkInfo(info) => {
                let is_pair = |info: &LinkInfo| {
                    matches!(info, LinkInfo::Kind(InfoKind::Veth | InfoKind::Netkit))
                };
                link.is_pair = info.iter().any(is_pair);
            }
            LinkAttribute::ParentDevBusName(name) => bus = Some(name),
            LinkAttribute::ParentDevName(name) => device = Some(name),
            _ => {}
        }
    }
    if link.queues == u32::MAX {
        link.queues = 1;
    }
    link.device =
        bus.zip(device).map(|(bus, name)| Device { bus: bus.clone(), name: name.clone() });
    Some(link)
}

pub(crate) fn addr(message: &AddressMessage) -> Option<Addr> {
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link IFA_ADDRESS is the peer and IFA_LOCAL is this host.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    let ip = local.or(address)?;
    Some(Addr {
        link_index: message.header.index,
        net: IpNet::new(ip, message.header.prefix_len).ok()?,
        ours: ours::is_ours(message),
        global: message.header.scope == AddressScope::Universe && !ip.is_loopback(),
    })
}

/// `None` for other families (bridge forwarding entries arrive in the same group) and for multicast
/// addresses, whose entries follow from the address and come and go with every packet.
pub(crate) fn neigh(message: &NeighbourMessage) -> Option<(NeighKey, Neigh)> {
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let mut address = None;
    let mut neigh = Neigh { state: message.header.state, mac: None };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::V4(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::V6(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => neigh.mac = mac(bytes),
            _ => {}
        }
    }
    let address = address.filter(|address| !address.is_multicast())?;
    Some(((message.header.ifindex, address), neigh))
}

/// The answer to a route lookup for `destination`. Of a route with several next hops it has the one
/// that the kernel's hash chooses, which stays the same as long as they do.
pub(crate) fn route(destination: IpAddr, message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => {
            return Route::Local;
        }
        _ => return Route::None,
    }
    let mut via = destination;
    let mut out = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => out = Some(*index),
            other => via = gateway(other).unwrap_or(via),
        }
    }
    match out {
        // Whatever is routed to the loopback link comes back in here.
        Some(ours::LOOPBACK_INDEX) => Route::Local,
        Some(link_index) => Route::Via { link_index, gateway: via },
        None => Route::None,
    }
}

/// The source address in the answer to a route lookup.
pub(crate) fn preferred_source(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    })
}

/// The next hops of a unicast route that are not the destination itself.
pub(crate) fn gateways(message: &RouteMessage) -> Vec<IpAddr> {
    if message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut gateways = Vec::new();
    for attribute in &message.attributes {
        gateways.extend(gateway(attribute));
        if let RouteAttribute::MultiPath(next_hops) = attribute {
            gateways.extend(next_hops.iter().flat_map(|hop| &hop.attributes).filter_map(gateway));
        }
    }
    gateways
}

/// Looked up behind the main table (`RT_TABLE_DEFAULT` in include/uapi/linux/rtnetlink.h).
pub(crate) const DEFAULT_TABLE: u8 = 253;

/// A route as a lookup would find it, in a table that is looked up for everybody.
pub(crate) struct Row {
    pub(crate) table: Table,
    pub(crate) prefix: IpNet,
    /// The lower one wins.
    pub(crate) metric: u32,
    pub(crate) way: Way,
}

/// The tables that are looked up for everybody, but for the local one: whose routes are to be found before all others, and
/// are longer than all others. They count as the main one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Main,
    Default,
}

/// `None` for routes of other tables, to `lo`, and those of which no next hop is alive.
pub(crate) fn row(message: &RouteMessage) -> Option<Row> {
    if message.header.flags.contains(RouteFlags::Cloned) || is_loopback_route(message) {
        return None;
    }
    let prefix = route_prefix(message)?;
    let mut number = u32::from(message.header.table);
    let mut metric = 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(table) => number = *table,
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let is = |table: u8| number == u32::from(table);
    let table = if is(RouteHeader::RT_TABLE_MAIN) || is(crate::silence::LOCAL_TABLE) {
        Table::Main
    } else if is(DEFAULT_TABLE) {
        Table::Default
    } else {
        return None;
    };
    Some(Row { table, prefix, metric, way: way(message)? })
}

fn way(message: &RouteMessage) -> Option<Way> {
    let header = &message.header;
    match header.kind {
        RouteType::Unicast => {}
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => {
            return Some(Way::Local);
        }
        _ => return Some(Way::Unknown),
    }
    let is_for_some = header.source_prefix_length != 0 || header.tos != 0;
    if is_for_some || is_tunnel(&message.attributes) {
        return Some(Way::Unknown);
    }
    let mut routers: Vec<Router> = Vec::new();
    let (mut link, mut via) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    if hop.flags.contains(RouteNextHopFlags::Dead) {
                        continue;
                    }
                    let Some(via) = hop.attributes.iter().find_map(gateway) else {
                        return Some(Way::Unknown);
                    };
                    if is_tunnel(&hop.attributes) {
                        return Some(Way::Unknown);
                    }
                    routers.push((hop.interface_index, via));
                }
                if routers.is_empty() {
                    return None;
                }
            }
            other => via = via.or_else(|| gateway(other)),
        }
    }
    match (link, via) {
        _ if !routers.is_empty() => Some(Way::Routers(routers)),
        _ if header.flags.contains(RouteFlags::Dead) => None,
        (Some(link), Some(via)) => Some(Way::Routers(vec![(link, via)])),
        (Some(link), None) if link != ours::LOOPBACK_INDEX => Some(Way::Link(link)),
        _ => Some(Way::Unknown),
    }
}

fn is_tunnel(attributes: &[RouteAttribute]) -> bool {
    attributes.iter().any(|attribute| {
        matches!(attribute, RouteAttribute::EncapType(kind) if *kind != RouteLwEnCapType::None)
    })
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        // An IPv4 route through an IPv6 neighbour (RFC 8950).
        RouteAttribute::Via(RouteVia::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// The prefix of a route that was added or removed; `None` for families that are not IP.
pub(crate) fn route_prefix(message: &RouteMessage) -> Option<IpNet> {
    let unspecified: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let length = message.header.destination_prefix_length;
    IpNet::new(destination.unwrap_or(unspecified), length).ok()
}

/// A route to an address of `lo` itself, as every VIP brings one, or the blackhole of a VIP: it leads nowhere else.
pub(crate) fn is_loopback_route(message: &RouteMessage) -> bool {
    ours::is_our_blackhole(message)
        || message.header.kind == RouteType::Local
            && message.attributes.contains(&RouteAttribute::Oif(ours::LOOPBACK_INDEX))
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(attributes: Vec<LinkAttribute>) -> Link {
        let mut message = LinkMessage::default();
        message.attributes = attributes;
        link(&message).unwrap()
    }

    #[test]
    fn a_nic_has_queues_and_a_device() {
        let virtio = nic(vec![
            LinkAttribute::NumTxQueues(4),
            LinkAttribute::NumRxQueues(2),
            LinkAttribute::ParentDevName("virtio0".to_owned()),
            LinkAttribute::ParentDevBusName("virtio".to_owned()),
        ]);
        assert_eq!(virtio.queues, 2);
        let device = Device { bus: "virtio".to_owned(), name: "virtio0".to_owned() };
        assert_eq!(virtio.device, Some(device));
        let veth = nic(vec![LinkAttribute::NumTxQueues(1)]);
        assert_eq!((veth.queues, veth.is_pair, veth.device), (1, false, None));
        let kind = vec![LinkInfo::Kind(InfoKind::Veth)];
        assert!(nic(vec![LinkAttribute::LinkInfo(kind)]).is_pair);
        assert_eq!(nic(Vec::new()).queues, 1);
    }
}
