//! What two OPENs agree on, and the part of it that the codec needs.

use super::capability::{Capability, GracefulRestart};
use super::ids::{Asn, Family, HoldTime};
use super::open::Open;
use std::net::Ipv4Addr;

/// What both sides' OPENs agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Ours.
    pub local_asn: Asn,
    /// The peer's, from its 4-octet capability if it sent one.
    pub peer_asn: Asn,
    /// The peer's BGP identifier.
    pub peer_router_id: Ipv4Addr,
    /// The smaller of the two proposals (RFC 4271 §4.2).
    pub hold_time: HoldTime,
    /// AS numbers have four octets in this session (RFC 6793).
    pub as4: bool,
    /// Families both sides announced; IPv4 unicast alone when the peer announced none (RFC 4760 §8).
    pub families: Vec<Family>,
    /// The peer answers ROUTE-REFRESH, and so do we (RFC 2918).
    pub route_refresh: bool,
    /// Both mark the begin and the end of a refresh (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// What the peer asked for, if both sent the capability (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// Everything we sent, for the status.
    pub local_capabilities: Vec<Capability>,
    /// Everything the peer sent, for the status.
    pub peer_capabilities: Vec<Capability>,
}

/// Encodes and decodes messages of one session. Cheap to copy.
///
/// The default is for the time before both OPENs are known: only IPv4 unicast and two-octet AS numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// AS numbers have four octets (RFC 6793).
    pub as4: bool,
    /// Both sides are in one AS: LOCAL_PREF is required, otherwise ignored (RFC 7606 §7.5).
    pub internal: bool,
    /// IPv4 unicast is negotiated.
    pub ipv4: bool,
    /// IPv6 unicast is negotiated.
    pub ipv6: bool,
}

// === impl Negotiated ===

impl Negotiated {
    /// Ours against the peer's. Whether the peer is who it should be is the state machine's question.
    pub fn new(local: &Open, peer: &Open) -> Self {
        let both =
            |cap: &Capability| local.capabilities.contains(cap) && peer.capabilities.contains(cap);
        let graceful = |open: &Open| {
            // RFC 4724 §3: of several instances, the last one counts.
            open.capabilities.iter().rev().find_map(|c| match c {
                Capability::GracefulRestart(gr) => Some(gr.clone()),
                _ => None,
            })
        };
        Self {
            local_asn: local.asn(),
            peer_asn: peer.asn(),
            peer_router_id: peer.router_id,
            hold_time: local.hold_time.min(peer.hold_time),
            as4: local.four_octet_as().is_some() && peer.four_octet_as().is_some(),
            families: common_families(local, peer),
            route_refresh: both(&Capability::RouteRefresh),
            enhanced_route_refresh: both(&Capability::EnhancedRouteRefresh),
            graceful_restart: graceful(local).and(graceful(peer)),
            local_capabilities: local.capabilities.clone(),
            peer_capabilities: peer.capabilities.clone(),
        }
    }

    /// Whether both sides are in one AS (iBGP).
    pub fn internal(&self) -> bool {
        self.local_asn == self.peer_asn
    }

    /// Whether routes of the family are exchanged.
    pub fn has(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// What holds in this session, as the RFCs call it.
    pub fn capabilities(&self) -> Vec<Capability> {
        let families = self.families.iter().map(|family| Capability::Multiprotocol(*family));
        let others = [
            self.route_refresh.then_some(Capability::RouteRefresh),
            self.enhanced_route_refresh.then_some(Capability::EnhancedRouteRefresh),
            self.as4.then_some(Capability::FourOctetAs(self.peer_asn)),
            self.graceful_restart.clone().map(Capability::GracefulRestart),
        ];
        families.chain(others.into_iter().flatten()).collect()
    }

    /// The codec for this session.
    pub fn codec(&self) -> Codec {
        Codec {
            as4: self.as4,
            internal: self.internal(),
            ipv4: self.has(Family::IPV4_UNICAST),
            ipv6: self.has(Family::IPV6_UNICAST),
        }
    }
}

/// In our order of preference.
fn common_families(local: &Open, peer: &Open) -> Vec<Family> {
    let ours = announced_families(local);
    let theirs = announced_families(peer);
    ours.into_iter().filter(|f| theirs.contains(f)).collect()
}

/// A speaker without the capability speaks IPv4 unicast only (RFC 4760 §8).
fn announced_families(open: &Open) -> Vec<Family> {
    let mut families = Vec::new();
    for capability in &open.capabilities {
        if let Capability::Multiprotocol(family) = capability
            && !families.contains(family)
        {
            families.push(*family);
        }
    }
    if families.is_empty() {
        families.push(Family::IPV4_UNICAST);
    }
    families
}

// === impl Codec ===

impl Codec {
    /// Whether routes of the family are exchanged.
    pub fn has(&self, family: Family) -> bool {
        match family {
            Family::IPV4_UNICAST => self.ipv4,
            Family::IPV6_UNICAST => self.ipv6,
            _ => false,
        }
    }

    /// Ignores the family from now on: what [`super::Action::AfiSafiDisable`] asks for, once its routes are gone.
    pub fn disable(&mut self, family: Family) {
        match family {
            Family::IPV4_UNICAST => self.ipv4 = false,
            Family::IPV6_UNICAST => self.ipv6 = false,
            _ => {}
        }
    }
}

impl Default for Codec {
    fn default() -> Self {
        Self { as4: false, internal: false, ipv4: true, ipv6: false }
    }
}
