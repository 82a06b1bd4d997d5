//! Sessions and the announced set.

use super::View;
use super::time::rfc3339;
use crate::config::Bgp;
use sluice_api::{BgpError, BgpErrorKind, BgpPeer, BgpRoute, BgpSpeaker, BgpState};
use sluice_bgp::{LastErrors, PeerError, PeerState, PeerStatus};
use sluice_model::{Family, RouteAttributes};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub(super) fn speaker(bgp: &Bgp) -> BgpSpeaker {
    BgpSpeaker {
        asn: bgp.speaker.asn,
        router_id: bgp.speaker.router_id.to_string(),
        graceful_restart_seconds: bgp.speaker.graceful_restart.as_secs(),
    }
}

pub(super) fn peer(peer: &PeerStatus) -> BgpPeer {
    BgpPeer {
        address: peer.address.to_string(),
        asn: peer.asn,
        state: state(peer.state),
        since: rfc3339(peer.since),
        router_id: peer.router_id.map(|id| id.to_string()),
        local_address: peer.local_address.map(|address| address.to_string()),
        hold_time_seconds: peer.hold_time.map(|time| time.as_secs()),
        capabilities: peer.capabilities_agreed.clone(),
        capabilities_sent: peer.capabilities_sent.clone(),
        capabilities_received: peer.capabilities.clone(),
        announced: peer.announced,
        received: peer.received,
        messages_in: peer.messages_in,
        messages_out: peer.messages_out,
        flaps: peer.flaps,
        last_error: peer.last_error.clone(),
        errors: errors(&peer.errors),
    }
}

fn errors(last: &LastErrors) -> Vec<BgpError> {
    let kinds = [
        (BgpErrorKind::Lost, &last.lost),
        (BgpErrorKind::Received, &last.received),
        (BgpErrorKind::Sent, &last.sent),
        (BgpErrorKind::Transport, &last.transport),
    ];
    let shown = |(kind, error): (BgpErrorKind, &Option<PeerError>)| {
        let PeerError { at, text } = error.clone()?;
        Some(BgpError { kind, at: rfc3339(at), text })
    };
    kinds.into_iter().filter_map(shown).collect()
}

pub(super) fn state(state: PeerState) -> BgpState {
    match state {
        PeerState::Idle => BgpState::Idle,
        PeerState::Connect => BgpState::Connect,
        PeerState::Active => BgpState::Active,
        PeerState::OpenSent => BgpState::OpenSent,
        PeerState::OpenConfirm => BgpState::OpenConfirm,
        PeerState::Established => BgpState::Established,
    }
}

pub(super) fn is_established(peer: &PeerStatus) -> bool {
    peer.state == PeerState::Established
}

/// RFC 1997 and RFC 8092, as operators write them.
fn communities(attributes: &RouteAttributes) -> Vec<String> {
    let standard = attributes.communities.iter().map(|c| format!("{}:{}", c >> 16, c & 0xffff));
    let large = attributes.large_communities.iter().map(|[a, b, c]| format!("{a}:{b}:{c}"));
    standard.chain(large).collect()
}

// === impl View ===

impl View<'_> {
    /// Peers that are told of addresses of this family.
    pub(super) fn told(&self, family: Family) -> impl Iterator<Item = &PeerStatus> + '_ {
        let name = match family {
            Family::V4 => "ipv4-unicast",
            Family::V6 => "ipv6-unicast",
        };
        self.peers.iter().filter(move |peer| {
            is_established(peer) && peer.families.iter().any(|family| family == name)
        })
    }

    /// True when at least one router knows the VIP.
    pub(super) fn is_announced(&self, vip: IpAddr) -> bool {
        self.observed.announces(vip) && self.told(Family::of(vip)).next().is_some()
    }

    pub(super) fn routes(&self) -> Vec<BgpRoute> {
        if self.config.bgp.is_none() {
            return Vec::new();
        }
        let route = |(prefix, attributes): (&ipnet::IpNet, &RouteAttributes)| {
            let services: BTreeSet<_> = self.merged.desired.services_on(prefix.addr()).collect();
            let told = self.told(Family::of(prefix.addr()));
            BgpRoute {
                prefix: prefix.to_string(),
                services: services.iter().map(ToString::to_string).collect(),
                med: attributes.med,
                local_pref: attributes.local_pref,
                communities: communities(attributes),
                peers: told.map(|peer| peer.address.to_string()).collect(),
            }
        };
        self.observed.announced.iter().map(route).collect()
    }
}
