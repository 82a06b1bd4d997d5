//! Which kernel objects are ours. This is the only place that marks or recognises them.
//!
//! A VIP is ours when it is a host address (/32 or /128) on `lo` whose address protocol
//! (`IFA_PROTO`) is [`ADDRESS_PROTOCOL`]. The kernel keeps the mark since Linux 5.18; `ip address show
//! dev lo proto 83` shows it (iproute2 6.3). There is no fallback for older kernels: an IPv4 label could
//! carry a mark, but IPv6 addresses have none, and half an ownership rule is worse than a clear error.
//!
//! Routes and rules are ours when their protocol is the same number and their table is [`TABLE`].

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use std::net::IpAddr;

/// Value of `IFA_PROTO` on our addresses: ASCII `S`. The kernel itself uses 1 to 3; routing daemons
/// that mark addresses use their route protocol number, of which none is 83.
pub const ADDRESS_PROTOCOL: u8 = b'S';

/// Our routing table, with a blackhole for each VIP; `ip route show table 83`.
pub(crate) const TABLE: u8 = b'S';

/// Preference of the rule that has it looked up: behind the kernel's for local addresses (0), before those of others.
const RULE_PRIORITY: u32 = 83;

/// The protocol of our routes and rules.
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(b'S');

/// Index of `lo`: the kernel registers it first in every namespace and relies on it
/// (`LOOPBACK_IFINDEX` in include/net/flow.h).
pub(crate) const LOOPBACK_INDEX: u32 = 1;

/// A lifetime that never ends (`INFINITY_LIFE_TIME`), in seconds.
const FOREVER_S: u32 = u32::MAX;

/// Whether this address is a VIP of ours.
pub(crate) fn is_ours(message: &AddressMessage) -> bool {
    let host_prefix = match message.header.family {
        AddressFamily::Inet => 32,
        AddressFamily::Inet6 => 128,
        _ => return false,
    };
    message.header.index == LOOPBACK_INDEX
        && message.header.prefix_len == host_prefix
        && message.attributes.iter().any(|attribute| {
            matches!(attribute, AddressAttribute::Protocol(protocol)
                if u8::from(*protocol) == ADDRESS_PROTOCOL)
        })
}

/// The address message that adds this VIP, with our mark, or names it in a removal.
///
/// The box must never choose a VIP as source of its own connections (BGP, health checks). For IPv4
/// that is scope `host`; IPv6 has no such scope (it follows from the address), so the address is
/// deprecated from the start (preferred lifetime 0), which RFC 6724 section 5 rule 3 avoids.
/// Duplicate address detection is off (`NODAD`): on `lo` there is nobody to ask, and an anycast-like
/// VIP is meant to exist on several boxes.
pub(crate) fn vip_message(vip: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = LOOPBACK_INDEX;
    message.attributes.push(AddressAttribute::Address(vip));
    message.attributes.push(AddressAttribute::Local(vip));
    match vip {
        IpAddr::V4(_) => {
            message.header.family = AddressFamily::Inet;
            message.header.prefix_len = 32;
            message.header.scope = AddressScope::Host;
        }
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.header.prefix_len = 128;
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_preferred = 0;
            lifetime.ifa_valid = FOREVER_S;
            message.attributes.push(AddressAttribute::CacheInfo(lifetime));
            // The local table delivers the address; a second route in the main table says nothing.
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
        }
    }
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::from(ADDRESS_PROTOCOL)));
    message
}

/// What has our table looked up for packets that arrive: `not iif lo lookup 83`. `lo` stands for this host's own.
pub(crate) fn rule_message(family: AddressFamily) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.table = TABLE;
    message.header.action = RuleAction::ToTable;
    message.header.flags = RuleFlags::Invert;
    message.attributes.push(RuleAttribute::Iifname("lo".to_owned()));
    message.attributes.push(RuleAttribute::Priority(RULE_PRIORITY));
    message.attributes.push(RuleAttribute::Protocol(ROUTE_PROTOCOL));
    message
}

pub(crate) fn is_our_rule(message: &RuleMessage) -> bool {
    message.header.table == TABLE
        && message.attributes.contains(&RuleAttribute::Protocol(ROUTE_PROTOCOL))
        && message.attributes.contains(&RuleAttribute::Priority(RULE_PRIORITY))
}

/// What swallows packets that arrive for a VIP on a link without the program.
pub(crate) fn blackhole_message(vip: IpAddr) -> RouteMessage {
    let mut message = route_to(vip);
    message.header.table = TABLE;
    message.header.protocol = ROUTE_PROTOCOL;
    message.header.kind = RouteType::BlackHole;
    message
}

pub(crate) fn is_our_blackhole(message: &RouteMessage) -> bool {
    message.header.table == TABLE && message.header.protocol == ROUTE_PROTOCOL
}

/// Names the route by which the kernel takes a VIP for its own.
pub(crate) fn local_message(vip: IpAddr) -> RouteMessage {
    let mut message = route_to(vip);
    message.header.table = crate::silence::LOCAL_TABLE;
    message.header.kind = RouteType::Local;
    message.header.protocol = RouteProtocol::Unspec;
    // Any scope, in a removal.
    message.header.scope = RouteScope::NoWhere;
    message.attributes.push(RouteAttribute::Oif(LOOPBACK_INDEX));
    message
}

fn route_to(vip: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match vip {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes.push(RouteAttribute::Destination(vip.into()));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_add_is_ours_and_anything_less_is_not() {
        for vip in ["203.0.113.10", "2001:db8:113::10"] {
            let ours = vip_message(vip.parse().unwrap());
            assert!(is_ours(&ours), "{vip}");

            let mut elsewhere = ours.clone();
            elsewhere.header.index = 2;
            assert!(!is_ours(&elsewhere), "{vip} on another link");

            let mut network = ours.clone();
            network.header.prefix_len -= 1;
            assert!(!is_ours(&network), "{vip} with a shorter prefix");

            let mut unmarked = ours.clone();
            unmarked.attributes.retain(|a| !matches!(a, AddressAttribute::Protocol(_)));
            assert!(!is_ours(&unmarked), "{vip} without a mark");

            let mut other = unmarked;
            other.attributes.push(AddressAttribute::Protocol(AddressProtocol::from(18)));
            assert!(!is_ours(&other), "{vip} with the mark of another daemon");
        }
    }
}
