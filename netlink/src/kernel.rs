//! The questions asked of the kernel, with typed answers.

use crate::decode::{self, Addr, Neigh, NeighKey, Route};
use crate::error::RequestError;
use crate::socket::Requests;
use crate::types::{Gateways, Link, Ways};
use crate::ways::{Routes, ways};
use nix::errno::Errno;
use rtnetlink::packet_core::NLM_F_CREATE;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// Everything the driver follows, as of one moment after the multicast groups were joined.
pub(crate) struct Dump {
    pub(crate) links: Vec<Link>,
    pub(crate) addrs: Vec<Addr>,
    pub(crate) neighs: Vec<(NeighKey, Neigh)>,
}

pub(crate) async fn dump(requests: &Requests) -> Result<Dump, RequestError> {
    let (links, addrs, neighs) = (links(requests), addrs(requests), neighs(requests));
    Ok(Dump { links: links.await?, addrs: addrs.await?, neighs: neighs.await? })
}

async fn links(requests: &Requests) -> Result<Vec<Link>, RequestError> {
    let mut message = LinkMessage::default();
    // Statistics are the larger part of a link's answer and not wanted.
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let rows = requests.dump(RouteNetlinkMessage::GetLink(message)).await?;
    Ok(rows
        .iter()
        .filter_map(|row| match row {
            RouteNetlinkMessage::NewLink(message) => decode::link(message),
            _ => None,
        })
        .collect())
}

/// All addresses of all links, both families.
pub(crate) async fn addrs(requests: &Requests) -> Result<Vec<Addr>, RequestError> {
    let message = AddressMessage::default();
    let rows = requests.dump(RouteNetlinkMessage::GetAddress(message)).await?;
    Ok(rows
        .iter()
        .filter_map(|row| match row {
            RouteNetlinkMessage::NewAddress(message) => decode::addr(message),
            _ => None,
        })
        .collect())
}

async fn neighs(requests: &Requests) -> Result<Vec<(NeighKey, Neigh)>, RequestError> {
    let message = NeighbourMessage::default();
    let rows = requests.dump(RouteNetlinkMessage::GetNeighbour(message)).await?;
    Ok(rows
        .iter()
        .filter_map(|row| match row {
            RouteNetlinkMessage::NewNeighbour(message) => decode::neigh(message),
            _ => None,
        })
        .collect())
}

/// What the routes say.
pub(crate) struct Routing {
    /// Every next hop of the host's unicast routes, of any table.
    pub(crate) gateways: Gateways,
    /// Without the routers' MACs.
    pub(crate) ways: Ways,
}

/// What the kernel's routes of both families say.
pub(crate) async fn routing(requests: &Requests) -> Result<Routing, RequestError> {
    let mut all = Gateways::default();
    let mut families = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        // A router's table may be large, and its next hops are few.
        let take = |(gateways, routes): &mut (Gateways, Routes), row| {
            if let RouteNetlinkMessage::NewRoute(message) = row {
                let is_default = message.header.destination_prefix_length == 0;
                let Gateways { default, other } = gateways;
                let known = if is_default { default } else { other };
                known.extend(decode::gateways(&message));
                routes.take(&message);
            }
        };
        let (read, routes): (Gateways, Routes) =
            requests.fold(RouteNetlinkMessage::GetRoute(message), take).await?;
        all.default.extend(read.default);
        all.other.extend(read.other);
        families.push((routes, rules(requests, family).await?));
    }
    Ok(Routing { gateways: all, ways: ways(families) })
}

async fn rules(
    requests: &Requests,
    family: AddressFamily,
) -> Result<Vec<RuleMessage>, RequestError> {
    let mut message = RuleMessage::default();
    message.header.family = family;
    let rows = requests.dump(RouteNetlinkMessage::GetRule(message)).await?;
    let rules = rows.into_iter().filter_map(|row| match row {
        RouteNetlinkMessage::NewRule(message) => Some(message),
        _ => None,
    });
    Ok(rules.collect())
}

/// The routes the kernel chooses for these destinations, in their order.
pub(crate) async fn routes(
    requests: &Requests,
    destinations: &[IpAddr],
) -> Result<Vec<Route>, RequestError> {
    let batch = destinations.iter().map(|destination| (route_request(*destination), 0)).collect();
    let answers = requests.batch(batch).await?;
    Ok(destinations
        .iter()
        .zip(answers)
        .map(|(destination, answer)| match answer {
            Ok(Some(RouteNetlinkMessage::NewRoute(message))) => {
                decode::route(*destination, &message)
            }
            // The kernel answers "no route" and the rejecting route types with an error code.
            _ => Route::None,
        })
        .collect())
}

/// The source address the kernel would choose towards a destination.
pub(crate) async fn source_for(
    requests: &Requests,
    destination: IpAddr,
) -> Result<Option<IpAddr>, RequestError> {
    let answers = requests.batch(vec![(route_request(destination), 0)]).await?;
    Ok(answers.into_iter().find_map(|answer| match answer {
        Ok(Some(RouteNetlinkMessage::NewRoute(message))) => decode::preferred_source(&message),
        _ => None,
    }))
}

fn route_request(destination: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    RouteNetlinkMessage::GetRoute(message)
}

/// Lets the kernel ask for (or confirm) these neighbours, as if a packet had been sent to each.
///
/// `NTF_USE` without a state touches nothing but the entry's "used" time and starts the kernel's
/// own resolution; entries stay dynamic and are collected by the kernel as usual.
pub(crate) async fn probe(
    requests: &Requests,
    neighs: &[NeighKey],
) -> Result<Vec<Result<(), Errno>>, RequestError> {
    let batch = neighs
        .iter()
        .map(|(link_index, address)| {
            let mut message = NeighbourMessage::default();
            message.header.family = match address {
                IpAddr::V4(_) => AddressFamily::Inet,
                IpAddr::V6(_) => AddressFamily::Inet6,
            };
            message.header.ifindex = *link_index;
            message.header.flags = NeighbourFlags::Use;
            message.attributes.push(NeighbourAttribute::Destination((*address).into()));
            (RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
        })
        .collect();
    let answers = requests.batch(batch).await?;
    Ok(answers.into_iter().map(|answer| answer.map(|_| ())).collect())
}
