//! What three codecs read out of an UPDATE, in one shape.

use bgp_rs::{NLRIEncoding, PathAttribute as RsAttribute, Segment as RsSegment};
use ipnet::IpNet;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{
    As4PathSegment, AsPath as GauzePath, MpReach, MpUnreach, PathAttributeValue as Gauze,
};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use sluice_bgp_core::wire::{AsPath, Form, NextHop, Update};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// The contents of an UPDATE.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// With the next hop; the global one for IPv6.
    pub(super) announced: BTreeSet<(IpNet, IpAddr)>,
    /// Withdrawn prefixes.
    pub(super) withdrawn: BTreeSet<IpNet>,
    /// All ASes in order, sets flattened.
    pub(super) as_path: Vec<u32>,
    /// MULTI_EXIT_DISC.
    pub(super) med: Option<u32>,
    /// LOCAL_PREF.
    pub(super) local_pref: Option<u32>,
    /// RFC 1997.
    pub(super) communities: Vec<u32>,
    /// RFC 8092.
    pub(super) large: Vec<[u32; 3]>,
    /// RFC 4360; netgauze has them in a form of its own, so it leaves them out.
    pub(super) extended: Vec<u64>,
}

// --- Ours ---

/// What our decoder says.
pub(super) fn ours(update: &Update) -> View {
    let a = &update.attributes;
    let mut view = View {
        as_path: a.as_path.iter().flat_map(AsPath::iter).map(u32::from).collect(),
        med: a.med,
        local_pref: a.local_pref,
        communities: a.communities.iter().map(|c| c.0).collect(),
        large: a.large_communities.iter().map(|l| [l.global, l.local1, l.local2]).collect(),
        extended: a.ext_communities.iter().map(|e| u64::from_be_bytes(e.0)).collect(),
        ..View::default()
    };
    for reach in &update.reach {
        let next_hop = match reach.next_hop {
            NextHop::V4(address) => IpAddr::V4(address),
            NextHop::V6 { global, .. } => IpAddr::V6(global),
        };
        view.announced.extend(reach.prefixes.iter().map(|p| (p, next_hop)));
    }
    view.withdrawn.extend(update.unreach.iter().flat_map(|u| u.prefixes.iter()));
    view
}

/// AS_PATH behind a two-octet speaker: the nearest ASes, then AS4_PATH. Only right without sets, which is all that
/// the captures have where it matters.
fn with_as4(as_path: Vec<u32>, as4_path: Vec<u32>) -> Vec<u32> {
    match as_path.len().checked_sub(as4_path.len()) {
        Some(lead) => as_path.into_iter().take(lead).chain(as4_path).collect(),
        None => as_path,
    }
}

// --- netgauze ---

/// What netgauze-bgp-pkt says, and what it refuses as "not unicast": it takes 0.0.0.0/0 for one.
pub(super) fn netgauze(message: &[u8], as4: bool) -> View {
    let (none, no) = (HashMap::new(), HashMap::new());
    let mut context = BgpParsingContext::new(as4, none, no, false, false, true, true);
    let parsed = BgpMessage::parse(&mut SliceReader::new(message), &mut context);
    let BgpMessage::Update(update) = parsed.unwrap() else { panic!("not an UPDATE") };
    let mut view = gauze_attributes(&update);
    let next_hop = update.path_attributes().iter().find_map(|a| match a.value() {
        Gauze::NextHop(hop) => Some(IpAddr::V4(hop.next_hop())),
        _ => None,
    });
    let ignored = context.reset_parsing_errors();
    let announced = update.nlri().iter().map(|n| n.network().address());
    for net in announced.chain(ignored.non_unicast_update_nlri().iter().copied()) {
        view.announced.insert((IpNet::V4(net), next_hop.unwrap()));
    }
    let withdrawn = update.withdraw_routes().iter().map(|n| n.network().address());
    let ignored = ignored.non_unicast_withdraw_nlri().iter().copied();
    view.withdrawn.extend(withdrawn.chain(ignored).map(IpNet::V4));
    view
}

fn gauze_attributes(update: &BgpUpdateMessage) -> View {
    let mut view = View::default();
    let mut as4_path = Vec::new();
    for attribute in update.path_attributes() {
        match attribute.value() {
            Gauze::AsPath(path) => view.as_path = Vec::from(path.clone()),
            Gauze::As4Path(path) => {
                let segments: Vec<As4PathSegment> = path.segments().to_vec();
                as4_path = Vec::from(GauzePath::as4_path_segments(segments));
            }
            Gauze::MultiExitDiscriminator(med) => view.med = Some(med.metric()),
            Gauze::LocalPreference(pref) => view.local_pref = Some(pref.metric()),
            Gauze::Communities(list) => {
                view.communities = list.communities().iter().map(|c| c.value()).collect();
            }
            Gauze::LargeCommunities(list) => {
                let parts = |l: &netgauze_bgp_pkt::community::LargeCommunity| {
                    [l.global_admin(), l.local_data1(), l.local_data2()]
                };
                view.large = list.communities().iter().map(parts).collect();
            }
            Gauze::MpReach(MpReach::Ipv6Unicast { next_hop_global, nlri, .. }) => {
                let hop = IpAddr::V6(*next_hop_global);
                let net = |n: &netgauze_bgp_pkt::nlri::Ipv6UnicastAddress| n.network().address();
                view.announced.extend(nlri.iter().map(|n| (IpNet::V6(net(n)), hop)));
            }
            Gauze::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                view.withdrawn.extend(nlri.iter().map(|n| IpNet::V6(n.network().address())));
            }
            _ => {}
        }
    }
    view.as_path = with_as4(view.as_path, as4_path);
    view
}

// --- bgp-rs ---

/// What bgp-rs says. It guesses the width of AS numbers and whether there are path identifiers.
pub(super) fn bgp_rs(message: &[u8]) -> View {
    let read = bgp_rs::Reader::new(message).read();
    let (_, parsed) = read.unwrap_or_else(|e| panic!("{e}: {message:02x?}"));
    let bgp_rs::Message::Update(update) = parsed else { panic!("not an UPDATE") };
    let mut view = View::default();
    let mut as4_path = Vec::new();
    let mut next_hop = None;
    for attribute in &update.attributes {
        match attribute {
            RsAttribute::AS_PATH(path) => view.as_path = flat(&path.segments),
            RsAttribute::AS4_PATH(path) => as4_path = flat(&path.segments),
            RsAttribute::NEXT_HOP(hop) => next_hop = Some(*hop),
            RsAttribute::MULTI_EXIT_DISC(med) => view.med = Some(*med),
            RsAttribute::LOCAL_PREF(pref) => view.local_pref = Some(*pref),
            RsAttribute::COMMUNITY(list) => view.communities = list.clone(),
            RsAttribute::EXTENDED_COMMUNITIES(list) => view.extended = list.clone(),
            RsAttribute::LARGE_COMMUNITY(list) => {
                view.large = list.iter().map(|(a, b, c)| [*a, *b, *c]).collect();
            }
            RsAttribute::MP_REACH_NLRI(reach) => {
                let global: [u8; 16] = reach.next_hop[..16].try_into().unwrap();
                let hop = IpAddr::V6(Ipv6Addr::from(global));
                view.announced.extend(reach.announced_routes.iter().map(|r| (net(r), hop)));
            }
            RsAttribute::MP_UNREACH_NLRI(unreach) => {
                view.withdrawn.extend(unreach.withdrawn_routes.iter().map(net));
            }
            _ => {}
        }
    }
    let announced = update.announced_routes.iter().map(|r| (net(r), next_hop.unwrap()));
    view.announced.extend(announced);
    view.withdrawn.extend(update.withdrawn_routes.iter().map(net));
    view.as_path = with_as4(view.as_path, as4_path);
    view
}

/// It takes a default route among others for the begin of a path identifier (it guesses add-path, whatever the
/// session says), and then misreads the rest.
pub(super) fn bgp_rs_takes_for_add_path(update: &Update) -> bool {
    let classic = update.reach.iter().filter(|r| r.form == Form::Classic);
    classic.flat_map(|r| r.prefixes.iter()).any(|p| p.prefix_len() == 0)
}

fn flat(segments: &[RsSegment]) -> Vec<u32> {
    let asns = |s: &RsSegment| match s {
        RsSegment::AS_SEQUENCE(asns) | RsSegment::AS_SET(asns) => asns.clone(),
    };
    segments.iter().flat_map(asns).collect()
}

fn net(route: &NLRIEncoding) -> IpNet {
    match route {
        NLRIEncoding::IP(prefix) => IpNet::new(IpAddr::from(prefix), prefix.length).unwrap(),
        other => panic!("{other:?}"),
    }
}
