//! Adj-RIB-Out: the announced set given as a whole, the difference written as few UPDATEs.
//!
//! What a peer costs is the prefixes not yet written; the set itself is shared between all peers.

use super::route::{Announced, RouteAttributes};
use crate::wire::{
    Asn, Attributes, Codec, EncodeError, Family, Message, RefreshSubtype, RouteRefresh,
};
use bytes::BytesMut;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Prefixes encoded in one go: enough that the message at the end of each go, which is not full, does not count; and
/// at most some 300 kB for a slow peer, and a millisecond for those who wait meanwhile.
const CHUNK: usize = 16_384;

/// The session that routes are written for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Our AS.
    pub local_asn: Asn,
    /// As negotiated.
    pub codec: Codec,
    /// Next hop of IPv4 routes; needed if the family is negotiated.
    pub next_hop_v4: Option<Ipv4Addr>,
    /// Next hop of IPv6 routes; needed if the family is negotiated.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// The answer to a refresh is put between markers (RFC 7313).
    pub enhanced_route_refresh: bool,
}

/// What one peer has been told, and what is still to be written.
#[derive(Clone, Debug)]
pub struct AdjRibOut {
    target: Target,
    routes: Arc<Announced>,
    /// How many of `routes` are of a negotiated family.
    carried: usize,
    /// Prefixes whose state in `routes` the peer has not been told.
    dirty: BTreeSet<IpNet>,
    /// The dirty ones as they will be written, once writing has begun.
    groups: VecDeque<Group>,
    refresh_begin: Vec<Family>,
    refresh_end: Vec<Family>,
    end_of_rib: Vec<Family>,
    errors: Vec<(IpNet, EncodeError)>,
}

/// Prefixes that can share messages.
#[derive(Clone, Debug)]
enum Group {
    WithdrawV4(Vec<Ipv4Net>),
    WithdrawV6(Vec<Ipv6Net>),
    AnnounceV4(Arc<Attributes>, Ipv4Addr, Vec<Ipv4Net>),
    AnnounceV6(Arc<Attributes>, Ipv6Addr, Vec<Ipv6Net>),
}

// === impl AdjRibOut ===

impl AdjRibOut {
    /// For a session that has just come up: everything is to be announced, then End-of-RIB for each family.
    pub fn new(target: Target, routes: Arc<Announced>) -> Self {
        let mut rib = Self {
            end_of_rib: families(&target.codec).collect(),
            target,
            routes: Arc::default(),
            carried: 0,
            dirty: BTreeSet::new(),
            groups: VecDeque::new(),
            refresh_begin: Vec::new(),
            refresh_end: Vec::new(),
            errors: Vec::new(),
        };
        rib.set(routes);
        rib
    }

    /// The whole set; only differences are written.
    pub fn set(&mut self, routes: Arc<Announced>) {
        if Arc::ptr_eq(&routes, &self.routes) {
            return;
        }
        let codec = self.target.codec;
        let changed = difference(&self.routes, &routes);
        self.dirty.extend(changed.into_iter().filter(|p| carries(&codec, p)));
        self.carried = routes.keys().filter(|p| carries(&codec, p)).count();
        self.routes = routes;
        self.regroup();
        self.errors.retain(|(prefix, _)| self.routes.contains_key(prefix));
    }

    /// RFC 2918: the peer wants everything of the family again.
    pub fn refresh(&mut self, family: Family) {
        let again = self.routes.keys().filter(|p| family_of(p) == family).copied();
        self.dirty.extend(again);
        self.regroup();
        if self.target.enhanced_route_refresh && !self.refresh_end.contains(&family) {
            self.refresh_begin.push(family);
            self.refresh_end.push(family);
        }
    }

    /// Appends messages until `out` has `limit` octets or more (by a chunk), or nothing is left. Returns how many.
    pub fn write(&mut self, out: &mut BytesMut, limit: usize) -> u64 {
        let mut messages = 0;
        while out.len() < limit {
            match self.write_some(out) {
                Some(written) => messages += written,
                None => break,
            }
        }
        messages
    }

    /// Whether [`AdjRibOut::write`] has something to write.
    pub fn is_pending(&self) -> bool {
        !(self.dirty.is_empty()
            && self.groups.is_empty()
            && self.refresh_begin.is_empty()
            && self.refresh_end.is_empty()
            && self.end_of_rib.is_empty())
    }

    /// Prefixes of the negotiated families in the set, all announced once nothing is pending.
    pub fn announced(&self) -> usize {
        self.carried.saturating_sub(self.errors.len())
    }

    /// Routes of the set that no message can carry.
    pub fn errors(&self) -> &[(IpNet, EncodeError)] {
        &self.errors
    }

    fn write_some(&mut self, out: &mut BytesMut) -> Option<u64> {
        if let Some(family) = self.refresh_begin.pop() {
            return Some(marker(&self.target.codec, family, RefreshSubtype::Begin, out));
        }
        if !self.dirty.is_empty() {
            self.group();
        }
        if let Some(group) = self.groups.pop_front() {
            return Some(self.write_group(group, out));
        }
        // RFC 4724 §3: right after the last of the initial routes.
        if let Some(family) = self.end_of_rib.pop() {
            return Some(u64::from(self.target.codec.end_of_rib(family, out).is_ok()));
        }
        let family = self.refresh_end.pop()?;
        Some(marker(&self.target.codec, family, RefreshSubtype::End, out))
    }

    /// Puts what has not been written back, so that it is written as the set now says.
    fn regroup(&mut self) {
        for group in mem::take(&mut self.groups) {
            match group {
                Group::WithdrawV4(nets) | Group::AnnounceV4(_, _, nets) => {
                    self.dirty.extend(nets.into_iter().map(IpNet::V4));
                }
                Group::WithdrawV6(nets) | Group::AnnounceV6(_, _, nets) => {
                    self.dirty.extend(nets.into_iter().map(IpNet::V6));
                }
            }
        }
    }

    /// Withdraws first: what is moved must not be lost in between on a peer with a prefix limit.
    fn group(&mut self) {
        let (mut gone_v4, mut gone_v6) = (Vec::new(), Vec::new());
        let mut by_attributes: BTreeMap<&RouteAttributes, (Vec<Ipv4Net>, Vec<Ipv6Net>)> =
            BTreeMap::new();
        for prefix in mem::take(&mut self.dirty) {
            match (prefix, self.routes.get(&prefix)) {
                (IpNet::V4(net), Some(route)) => {
                    by_attributes.entry(route).or_default().0.push(net)
                }
                (IpNet::V6(net), Some(route)) => {
                    by_attributes.entry(route).or_default().1.push(net)
                }
                (IpNet::V4(net), None) => gone_v4.push(net),
                (IpNet::V6(net), None) => gone_v6.push(net),
            }
        }
        self.groups.extend((!gone_v4.is_empty()).then_some(Group::WithdrawV4(gone_v4)));
        self.groups.extend((!gone_v6.is_empty()).then_some(Group::WithdrawV6(gone_v6)));
        for (route, (v4, v6)) in by_attributes {
            let internal = self.target.codec.internal;
            let attributes = Arc::new(route.towards(self.target.local_asn, internal));
            if let (Some(next_hop), false) = (self.target.next_hop_v4, v4.is_empty()) {
                self.groups.push_back(Group::AnnounceV4(attributes.clone(), next_hop, v4));
            }
            if let (Some(next_hop), false) = (self.target.next_hop_v6, v6.is_empty()) {
                self.groups.push_back(Group::AnnounceV6(attributes, next_hop, v6));
            }
        }
    }

    /// Writes the first chunk of a group and puts the rest back.
    fn write_group(&mut self, group: Group, out: &mut BytesMut) -> u64 {
        let codec = self.target.codec;
        let (written, chunk, rest) = match group {
            Group::WithdrawV4(mut nets) => {
                let rest = split_chunk(&mut nets);
                let written = codec.withdraw_v4(&nets, out);
                (written, as_nets(nets), rest.map(Group::WithdrawV4))
            }
            Group::WithdrawV6(mut nets) => {
                let rest = split_chunk(&mut nets);
                let written = codec.withdraw_v6(&nets, out);
                (written, as_nets(nets), rest.map(Group::WithdrawV6))
            }
            Group::AnnounceV4(attributes, next_hop, mut nets) => {
                let rest = split_chunk(&mut nets);
                let written = codec.announce_v4(&attributes, next_hop, &nets, out);
                let rest = rest.map(|nets| Group::AnnounceV4(attributes, next_hop, nets));
                (written, as_nets(nets), rest)
            }
            Group::AnnounceV6(attributes, next_hop, mut nets) => {
                let rest = split_chunk(&mut nets);
                let written = codec.announce_v6(&attributes, next_hop, None, &nets, out);
                let rest = rest.map(|nets| Group::AnnounceV6(attributes, next_hop, nets));
                (written, as_nets(nets), rest)
            }
        };
        if let Some(rest) = rest {
            self.groups.push_front(rest);
        }
        match written {
            Ok(messages) => {
                if !self.errors.is_empty() {
                    self.errors.retain(|(prefix, _)| !chunk.contains(prefix));
                }
                messages as u64
            }
            Err(error) => {
                self.errors.retain(|(prefix, _)| !chunk.contains(prefix));
                self.errors.extend(chunk.into_iter().map(|prefix| (prefix, error)));
                0
            }
        }
    }
}

/// Cuts the rest off that does not belong into the first chunk.
fn split_chunk<N>(nets: &mut Vec<N>) -> Option<Vec<N>> {
    (nets.len() > CHUNK).then(|| nets.split_off(CHUNK))
}

fn as_nets<N: Into<IpNet>>(nets: Vec<N>) -> Vec<IpNet> {
    nets.into_iter().map(Into::into).collect()
}

/// Prefixes that are new, gone or changed, in order. One walk along both sets, for they are large and differ little.
fn difference(old: &Announced, new: &Announced) -> Vec<IpNet> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut changed = Vec::new();
    loop {
        let side = match (old.peek(), new.peek()) {
            (None, None) => return changed,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((gone, _)), Some((added, _))) => gone.cmp(added),
        };
        match side {
            Ordering::Less => changed.extend(old.next().map(|(prefix, _)| *prefix)),
            Ordering::Greater => changed.extend(new.next().map(|(prefix, _)| *prefix)),
            Ordering::Equal => {
                let (before, after) = (old.next(), new.next());
                if before != after {
                    changed.extend(after.map(|(prefix, _)| *prefix));
                }
            }
        }
    }
}

fn family_of(prefix: &IpNet) -> Family {
    match prefix {
        IpNet::V4(_) => Family::IPV4_UNICAST,
        IpNet::V6(_) => Family::IPV6_UNICAST,
    }
}

fn carries(codec: &Codec, prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(_) => codec.ipv4,
        IpNet::V6(_) => codec.ipv6,
    }
}

/// The last is written first.
fn families(codec: &Codec) -> impl Iterator<Item = Family> + use<> {
    let v6 = codec.ipv6.then_some(Family::IPV6_UNICAST);
    v6.into_iter().chain(codec.ipv4.then_some(Family::IPV4_UNICAST))
}

fn marker(codec: &Codec, family: Family, subtype: RefreshSubtype, out: &mut BytesMut) -> u64 {
    let message = Message::RouteRefresh(RouteRefresh { family, subtype });
    u64::from(codec.encode(&message, out).is_ok())
}
