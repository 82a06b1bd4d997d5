//! Keeps the kernel's own stack silent for VIPs: on links without the program, and towards this host's own processes.
//!
//! An address on `lo` brings a route of type `local`, by which the kernel takes packets for it from any link. That route
//! goes, and with it everything the stack would answer: its services, its resets, its echo replies, its ARP. What
//! arrives for a VIP on a link that XDP does not guard meets a blackhole in a table of our own. A rule looks that table
//! up for what arrives, not for what this host sends: its own packets go to the router, as a client's would, and come
//! back through the data plane.
//!
//! The kernel brings the `local` route back when `lo` goes down and up; [`converge`] is part of every look at the VIPs.

use crate::decode;
use crate::error::RequestError;
use crate::ours::{
    LOOPBACK_INDEX, TABLE, blackhole_message, is_our_blackhole, is_our_rule, local_message,
    rule_message,
};
use crate::socket::Requests;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as M};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// The kernel's queue runs within a millisecond on a machine that has nothing else to do; half a second in all is left
/// for one that has. What comes later still is found by the next look.
const LATE_TRIES: u32 = 9;
const LATE_PAUSE_MIN: Duration = Duration::from_millis(1);

/// What came of it.
#[derive(Default)]
pub(crate) struct Silenced {
    /// VIPs for which it cannot be had.
    pub(crate) failures: BTreeMap<IpAddr, RequestError>,
    /// VIPs that had no `local` route: it was removed before, or the kernel has yet to bring it.
    pub(crate) without_route: BTreeSet<IpAddr>,
}

/// Makes the stack silent for these VIPs, whose addresses are on `lo`.
pub(crate) async fn silence(requests: &Requests, vips: &BTreeSet<IpAddr>) -> Silenced {
    let rules = [AddressFamily::Inet, AddressFamily::Inet6].into_iter();
    let rules = rules.filter(|family| vips.iter().any(|vip| self::family(*vip) == *family));
    let rules: Vec<_> =
        rules.map(|family| (M::NewRule(rule_message(family)), NLM_F_CREATE | NLM_F_EXCL)).collect();
    let routes_from = rules.len();
    let routes = vips.iter().flat_map(|vip| {
        [
            (M::NewRoute(blackhole_message(*vip)), NLM_F_CREATE | NLM_F_REPLACE),
            (M::DelRoute(local_message(*vip)), 0),
        ]
    });
    let mut silenced = Silenced::default();
    let mut answers = match requests.batch(rules.into_iter().chain(routes).collect()).await {
        Ok(answers) => answers.into_iter().map(Result::err).collect::<Vec<_>>(),
        Err(error) => {
            silenced.failures = vips.iter().map(|vip| (*vip, error)).collect();
            return silenced;
        }
    };
    let routes = answers.split_off(routes_from.min(answers.len()));
    let no_rule = answers.into_iter().flatten().find(|errno| *errno != Errno::EEXIST);
    for (vip, refused) in vips.iter().zip(routes.chunks(2)) {
        let (hole, local) = (refused.first().copied().flatten(), refused.last().copied().flatten());
        if local == Some(Errno::ESRCH) {
            silenced.without_route.insert(*vip);
        }
        let errno = no_rule.or(hole).or(local.filter(|errno| *errno != Errno::ESRCH));
        if let Some(errno) = errno {
            silenced.failures.insert(*vip, RequestError::Refused(errno));
        }
    }
    silenced
}

/// Removes the `local` routes of VIPs that were added a moment ago. For IPv6 the kernel brings them later, from a queue
/// of work that also does duplicate address detection, even where that is off.
pub(crate) async fn silence_late(requests: &Requests, added: impl Iterator<Item = IpAddr>) {
    let mut waiting: Vec<IpAddr> = added.collect();
    for doublings in 0..LATE_TRIES {
        if waiting.is_empty() {
            return;
        }
        tokio::time::sleep(LATE_PAUSE_MIN.saturating_mul(1 << doublings)).await;
        let routes = waiting.iter().map(|vip| (M::DelRoute(local_message(*vip)), 0)).collect();
        let Ok(answers) = requests.batch(routes).await else { continue };
        let left = waiting.iter().zip(answers).filter(|(_, answer)| answer.is_err());
        waiting = left.map(|(vip, _)| *vip).collect();
    }
    tracing::warn!(vips = ?waiting, "the kernel did not yet take these addresses for local; looked at again later");
}

/// Takes the blackholes of these VIPs away. What is gone already is fine.
pub(crate) async fn release(
    requests: &Requests,
    vips: impl IntoIterator<Item = IpAddr>,
) -> Result<(), RequestError> {
    let routes = vips.into_iter().map(|vip| (M::DelRoute(blackhole_message(vip)), 0));
    // One that stays is found by the next look.
    requests.batch(routes.collect()).await.map(drop)
}

/// Makes what is silenced equal to these VIPs, our addresses on `lo`; without any, nothing of ours stays. Returns the
/// VIPs for which it cannot be had.
pub(crate) async fn converge(
    requests: &Requests,
    vips: &BTreeSet<IpAddr>,
) -> Result<BTreeMap<IpAddr, RequestError>, RequestError> {
    let rules = match requests.dump(M::GetRule(RuleMessage::default())).await {
        // A kernel without rules: the first VIP is refused with this.
        Err(RequestError::Refused(Errno::EOPNOTSUPP)) => Vec::new(),
        rules => rules?,
    };
    let rules: Vec<RuleMessage> = rules
        .into_iter()
        .filter_map(|row| match row {
            M::NewRule(rule) if is_our_rule(&rule) => Some(rule),
            _ => None,
        })
        .collect();
    let mut loud = BTreeSet::new();
    let mut stray = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let of_family: BTreeSet<IpAddr> =
            vips.iter().copied().filter(|vip| self::family(*vip) == family).collect();
        let has_rule = rules.iter().any(|rule| rule.header.family == family);
        // Nothing was ever ours in a family without rule and VIPs, which may not even be switched on.
        if of_family.is_empty() && !has_rule {
            continue;
        }
        let holes = routes(requests, family, TABLE, RouteType::BlackHole).await?;
        let holes: BTreeSet<IpAddr> =
            holes.iter().filter(|route| is_our_blackhole(route)).filter_map(host).collect();
        let local = routes(requests, family, LOCAL_TABLE, RouteType::Local).await?;
        let local: BTreeSet<IpAddr> =
            local.iter().filter(|route| is_on_loopback(route)).filter_map(host).collect();
        stray.extend(holes.difference(&of_family).copied());
        let is_loud = |vip: &IpAddr| !has_rule || !holes.contains(vip) || local.contains(vip);
        loud.extend(of_family.into_iter().filter(is_loud));
    }
    if !loud.is_empty() {
        tracing::warn!(
            vips = loud.len(),
            "the kernel's stack would answer for VIPs; silenced again"
        );
    }
    let failures = silence(requests, &loud).await.failures;
    if !stray.is_empty() {
        release(requests, stray).await?;
    }
    let is_needed = |rule: &RuleMessage| vips.iter().any(|vip| family(*vip) == rule.header.family);
    let idle = rules.into_iter().filter(|rule| !is_needed(rule));
    let idle: Vec<_> = idle.map(|rule| (M::DelRule(rule_message(rule.header.family)), 0)).collect();
    if !idle.is_empty() {
        requests.batch(idle).await?;
    }
    Ok(failures)
}

/// `RT_TABLE_LOCAL` of linux/rtnetlink.h.
pub(crate) const LOCAL_TABLE: u8 = 255;

async fn routes(
    requests: &Requests,
    family: AddressFamily,
    table: u8,
    kind: RouteType,
) -> Result<Vec<RouteMessage>, RequestError> {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.table = table;
    message.header.kind = kind;
    message.header.protocol = RouteProtocol::Unspec;
    let rows = match requests.dump(M::GetRoute(message)).await {
        // A table exists with its first route.
        Err(RequestError::Refused(Errno::ENOENT)) => Vec::new(),
        rows => rows?,
    };
    let of_table = rows.into_iter().filter_map(|row| match row {
        M::NewRoute(route) if route.header.table == table && route.header.kind == kind => {
            Some(route)
        }
        _ => None,
    });
    Ok(of_table.collect())
}

fn is_on_loopback(route: &RouteMessage) -> bool {
    route.attributes.contains(&RouteAttribute::Oif(LOOPBACK_INDEX))
}

/// The destination of a route to one host.
fn host(route: &RouteMessage) -> Option<IpAddr> {
    let prefix = decode::route_prefix(route)?;
    (prefix.prefix_len() == prefix.max_prefix_len()).then(|| prefix.addr())
}

fn family(vip: IpAddr) -> AddressFamily {
    if vip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
