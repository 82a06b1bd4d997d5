//! Where packets to anybody go, by the kernel's main table: what a lookup in it would find, for the longest prefix.
//!
//! Pure. Followed are routes through Ethernet neighbours and networks of links. What cannot be followed (tunnels, routes for
//! some sources or types of service only, next hops by number alone) is [`Way::Unknown`], and with rules of others, which may
//! choose another table, nothing is known at all.

use crate::decode::{self, Row, Table};
use crate::silence::LOCAL_TABLE;
use crate::types::{Way, Ways, WaysUnknown};
use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteHeader, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Prefixes that are kept. A host with more has a full table, and too many changes for each of them to be followed.
pub const MAX_PREFIXES: usize = 16_384;

/// Routers that are kept resolved, over all routes: Linux keeps no more neighbours by default (`gc_thresh3`).
pub const MAX_ROUTERS: usize = 1024;

impl fmt::Display for WaysUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaysUnknown::TooMany => {
                write!(f, "the host has more than {MAX_PREFIXES} routes or {MAX_ROUTERS} routers")
            }
            WaysUnknown::OtherRules => {
                f.write_str("rules of others choose among routing tables (ip rule)")
            }
        }
    }
}

/// The routes of one family, as they are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    main: BTreeMap<IpNet, (u32, Way)>,
    default: BTreeMap<IpNet, (u32, Way)>,
    is_too_much: bool,
}

// === impl Routes ===

impl Routes {
    /// Takes one route in.
    pub(crate) fn take(&mut self, message: &RouteMessage) {
        if self.is_too_much {
            return;
        }
        let Some(Row { table, prefix, metric, way }) = decode::row(message) else { return };
        let rows = match table {
            Table::Main => &mut self.main,
            Table::Default => &mut self.default,
        };
        match rows.entry(prefix) {
            Entry::Vacant(slot) => {
                slot.insert((metric, way));
            }
            Entry::Occupied(mut slot) => {
                let (known_metric, known) = slot.get_mut();
                if metric < *known_metric {
                    (*known_metric, *known) = (metric, way);
                } else if metric == *known_metric {
                    merge(known, way);
                }
            }
        }
        if rows.len() > MAX_PREFIXES {
            *self = Self { is_too_much: true, ..Self::default() };
        }
    }
}

/// Two routes of one prefix and metric: IPv6 has its several next hops so.
fn merge(known: &mut Way, other: Way) {
    match (&mut *known, other) {
        // An address of this host that is also somebody's network: the kernel asks its local table first.
        (Way::Local, _) => {}
        (_, Way::Local) => *known = Way::Local,
        (Way::Routers(routers), Way::Routers(more)) => {
            for router in more {
                if !routers.contains(&router) {
                    routers.push(router);
                }
            }
        }
        (known, other) if *known == other => {}
        (known, _) => *known = Way::Unknown,
    }
}

/// What is found behind the rules, if they are none but the kernel's own and ours; and why that is not all.
pub(crate) fn ways(families: Vec<(Routes, Vec<RuleMessage>)>) -> Ways {
    let too_many = || Ways { unknown: Some(WaysUnknown::TooMany), ..Ways::default() };
    let (mut ways, mut unknown) = (BTreeMap::new(), None);
    for (Routes { main, default, is_too_much }, rules) in families {
        if is_too_much {
            return too_many();
        }
        if !rules.iter().all(is_plain) {
            unknown = Some(WaysUnknown::OtherRules);
            continue;
        }
        // The default table is asked for what the main one has no route to at all.
        let behind = default.into_iter().filter(|(net, _)| !main.keys().any(|m| m.contains(net)));
        ways.extend(behind.map(|(net, (_, way))| (net, way)));
        ways.extend(main.into_iter().map(|(net, (_, way))| (net, way)));
    }
    let routers = ways.values().map(|way| match way {
        Way::Routers(routers) => routers.as_slice(),
        Way::Unknown | Way::Local | Way::Link(_) => &[],
    });
    let routers: BTreeSet<_> = routers.flatten().collect();
    if ways.len() > MAX_PREFIXES || routers.len() > MAX_ROUTERS {
        return too_many();
    }
    Ways { prefixes: Arc::new(ways), unknown, routers: BTreeMap::new() }
}

/// Whether the rule is one of the kernel's own three, or ours, which is about VIPs only.
fn is_plain(rule: &RuleMessage) -> bool {
    if crate::ours::is_our_rule(rule) {
        return true;
    }
    let header = &rule.header;
    let is_for_all = header.src_len == 0
        && header.dst_len == 0
        && header.tos == 0
        && header.action == RuleAction::ToTable
        && !header.flags.contains(RuleFlags::Invert);
    is_for_all
        && is_for_everybody(header.table)
        && rule.attributes.iter().all(|attribute| match attribute {
            RuleAttribute::Table(_) | RuleAttribute::Priority(_) | RuleAttribute::Protocol(_) => {
                true
            }
            RuleAttribute::SuppressPrefixLen(length) => *length == u32::MAX,
            _ => false,
        })
}

fn is_for_everybody(table: u8) -> bool {
    [RouteHeader::RT_TABLE_MAIN, decode::DEFAULT_TABLE, LOCAL_TABLE].contains(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::AddressFamily;
    use rtnetlink::packet_route::route::{
        RouteAddress, RouteAttribute, RouteLwEnCapType, RouteNextHop, RouteType,
    };
    use std::net::{IpAddr, Ipv4Addr};

    fn route(net: &str, metric: u32, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let net: IpNet = net.parse().unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = net.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Destination(net.network().into()));
        message.attributes.push(RouteAttribute::Priority(metric));
        message.attributes.extend(attributes);
        message
    }

    fn via(last: u8, link: u32) -> Vec<RouteAttribute> {
        let gateway = RouteAddress::Inet(Ipv4Addr::new(10, 0, 0, last));
        vec![RouteAttribute::Gateway(gateway), RouteAttribute::Oif(link)]
    }

    fn routers(of: &[u8]) -> Way {
        Way::Routers(of.iter().map(|last| (2, IpAddr::from([10, 0, 0, *last]))).collect())
    }

    fn read(messages: &[RouteMessage]) -> BTreeMap<IpNet, Way> {
        let mut routes = Routes::default();
        messages.iter().for_each(|message| routes.take(message));
        let Ways { prefixes, unknown, .. } = ways(vec![(routes, Vec::new())]);
        assert_eq!(unknown, None);
        prefixes.as_ref().clone()
    }

    #[test]
    fn the_lowest_metric_wins_and_equal_ones_share() {
        let net: IpNet = "0.0.0.0/0".parse().unwrap();
        let any = |metric, last| route("0.0.0.0/0", metric, via(last, 2));
        for (what, messages, wanted) in [
            ("one", vec![any(0, 1)], routers(&[1])),
            ("a better one later", vec![any(10, 1), any(5, 2)], routers(&[2])),
            ("a worse one later", vec![any(5, 1), any(10, 2)], routers(&[1])),
            ("equal ones", vec![any(5, 1), any(5, 2), any(5, 1)], routers(&[1, 2])),
        ] {
            assert_eq!(read(&messages)[&net], wanted, "{what}");
        }
    }

    #[test]
    fn each_kind_of_route_is_what_it_is() {
        let net: IpNet = "10.1.0.0/16".parse().unwrap();
        let of = |attributes| route("10.1.0.0/16", 0, attributes);
        let changed = |change: &dyn Fn(&mut RouteMessage)| {
            let mut message = of(via(1, 2));
            change(&mut message);
            message
        };
        let hop = |last: u8| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = 2;
            hop.attributes = vec![via(last, 2).swap_remove(0)];
            hop
        };
        for (what, message, wanted) in [
            ("a link's network", of(vec![RouteAttribute::Oif(3)]), Some(Way::Link(3))),
            (
                "by several",
                of(vec![RouteAttribute::MultiPath(vec![hop(1), hop(2)])]),
                Some(routers(&[1, 2])),
            ),
            ("by a number alone", of(vec![RouteAttribute::NhId(7)]), Some(Way::Unknown)),
            (
                "a tunnel",
                changed(&|m| m.attributes.push(RouteAttribute::EncapType(RouteLwEnCapType::Mpls))),
                Some(Way::Unknown),
            ),
            ("by source", changed(&|m| m.header.source_prefix_length = 8), Some(Way::Unknown)),
            ("by type of service", changed(&|m| m.header.tos = 16), Some(Way::Unknown)),
            ("rejecting", changed(&|m| m.header.kind = RouteType::Prohibit), Some(Way::Unknown)),
            ("another table", changed(&|m| m.header.table = 100), None),
            (
                "an own address",
                changed(&|m| (m.header.table, m.header.kind) = (255, RouteType::Local)),
                Some(Way::Local),
            ),
        ] {
            assert_eq!(read(&[message]).get(&net).cloned(), wanted, "{what}");
        }
    }

    #[test]
    fn the_default_table_counts_where_the_main_one_has_nothing() {
        let mut behind = route("0.0.0.0/0", 0, via(9, 2));
        behind.header.table = decode::DEFAULT_TABLE;
        let inside = route("10.1.0.0/16", 0, via(1, 2));
        let ways = read(&[behind.clone(), inside]);
        assert_eq!(ways.len(), 2);
        assert_eq!(ways[&"0.0.0.0/0".parse::<IpNet>().unwrap()], routers(&[9]));
        let ways = read(&[behind, route("0.0.0.0/0", 0, via(1, 2))]);
        assert_eq!(ways.into_values().collect::<Vec<_>>(), [routers(&[1])]);
    }

    #[test]
    fn with_a_full_table_or_rules_of_others_nothing_is_known() {
        let mut routes = Routes::default();
        for n in 0..=u32::try_from(MAX_PREFIXES).unwrap() {
            let net = IpNet::new(Ipv4Addr::from(n << 8).into(), 24).unwrap();
            routes.take(&route(&net.to_string(), 0, via(1, 2)));
        }
        let Ways { prefixes, unknown, .. } = ways(vec![(routes, Vec::new())]);
        assert_eq!((prefixes.len(), unknown), (0, Some(WaysUnknown::TooMany)));

        let mut one = Routes::default();
        one.take(&route("0.0.0.0/0", 0, via(1, 2)));
        let mut rule = RuleMessage::default();
        rule.header.table = 254;
        rule.header.action = RuleAction::ToTable;
        rule.attributes =
            vec![RuleAttribute::Priority(32_766), RuleAttribute::SuppressPrefixLen(u32::MAX)];
        let with = |rule: &RuleMessage| {
            let Ways { prefixes, unknown, .. } = ways(vec![(one.clone(), vec![rule.clone()])]);
            (prefixes.len(), unknown)
        };
        assert_eq!(with(&rule), (1, None), "the kernel's own");
        assert_eq!(with(&crate::ours::rule_message(AddressFamily::Inet)), (1, None), "ours");
        let others = (0, Some(WaysUnknown::OtherRules));
        let mut other = rule.clone();
        other.header.table = 100;
        assert_eq!(with(&other), others, "another table");
        rule.attributes.push(RuleAttribute::FwMark(1));
        assert_eq!(with(&rule), others, "for some packets");
    }
}
