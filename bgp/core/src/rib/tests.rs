//! Tests of both RIBs: what a peer ends up with is read back through the decoder.

use super::*;
use crate::wire::*;
use bytes::BytesMut;
use ipnet::IpNet;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const CODEC: Codec = Codec { as4: true, internal: false, ipv4: true, ipv6: true };
const NO_LIMIT: usize = usize::MAX;

fn target(codec: Codec) -> Target {
    Target {
        local_asn: Asn::new(64512).unwrap(),
        codec,
        next_hop_v4: Some(Ipv4Addr::new(10, 0, 0, 2)),
        next_hop_v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
        enhanced_route_refresh: false,
    }
}

fn net(prefix: &str) -> IpNet {
    prefix.parse().unwrap()
}

fn set(routes: &[(&str, RouteAttributes)]) -> Arc<Announced> {
    Arc::new(routes.iter().map(|(p, a)| (net(p), a.clone())).collect())
}

fn host_v4(i: u32) -> IpNet {
    IpNet::from(IpAddr::from(Ipv4Addr::from(0x0a00_0000 + i)))
}

fn plain() -> RouteAttributes {
    RouteAttributes::default()
}

/// A peer that believes what it is sent.
#[derive(Default)]
struct Mirror {
    routes: BTreeMap<IpNet, (Attributes, NextHop)>,
    messages: Vec<Message>,
}

impl Mirror {
    fn read(&mut self, codec: &Codec, bytes: &mut BytesMut) {
        while let Some(frame) = Frame::split(bytes).unwrap() {
            let message = codec.decode(&frame).unwrap();
            if let Message::Update(update) = &message {
                assert_eq!(update.errors, []);
                for unreach in &update.unreach {
                    unreach.prefixes.iter().for_each(|p| drop(self.routes.remove(&p)));
                }
                for reach in &update.reach {
                    for prefix in reach.prefixes.iter() {
                        self.routes.insert(prefix, (update.attributes.clone(), reach.next_hop));
                    }
                }
            }
            self.messages.push(message);
        }
        assert!(bytes.is_empty());
    }

    fn take(&mut self, rib: &mut AdjRibOut, codec: &Codec) -> Vec<Message> {
        let mut out = BytesMut::new();
        self.messages.clear();
        let written = rib.write(&mut out, NO_LIMIT);
        self.read(codec, &mut out);
        let messages = std::mem::take(&mut self.messages);
        assert_eq!(messages.len() as u64, written);
        messages
    }
}

fn end_of_ribs(messages: &[Message]) -> Vec<Family> {
    let family = |m: &Message| match m {
        Message::Update(update) => update.end_of_rib,
        _ => None,
    };
    messages.iter().filter_map(family).collect()
}

#[test]
fn a_new_session_gets_everything_and_then_end_of_rib_for_each_family() {
    let routes = set(&[("203.0.113.10/32", plain()), ("2001:db8:113::10/128", plain())]);
    let mut rib = AdjRibOut::new(target(CODEC), routes);
    let mut peer = Mirror::default();
    let messages = peer.take(&mut rib, &CODEC);
    assert_eq!(peer.routes.len(), 2);
    assert_eq!(messages.len(), 4);
    assert_eq!(end_of_ribs(&messages[2..]), [Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
    assert!(!rib.is_pending());
    assert_eq!(rib.announced(), 2);
}

#[test]
fn an_empty_set_is_end_of_rib_alone() {
    let mut rib = AdjRibOut::new(target(CODEC), Arc::default());
    let messages = Mirror::default().take(&mut rib, &CODEC);
    assert_eq!(end_of_ribs(&messages).len(), messages.len());
}

#[test]
fn only_the_difference_is_written() {
    let med = RouteAttributes { med: Some(5), ..plain() };
    let mut rib = AdjRibOut::new(
        target(CODEC),
        set(&[("10.0.0.1/32", plain()), ("10.0.0.2/32", plain()), ("10.0.0.3/32", plain())]),
    );
    let mut peer = Mirror::default();
    peer.take(&mut rib, &CODEC);
    let changed =
        || set(&[("10.0.0.1/32", plain()), ("10.0.0.2/32", med.clone()), ("10.0.0.4/32", plain())]);
    rib.set(changed());
    let messages = peer.take(&mut rib, &CODEC);
    assert_eq!(messages.len(), 3, "a withdraw, a new route, a changed one: {messages:?}");
    assert_eq!(peer.routes[&net("10.0.0.2/32")].0.med, Some(5));
    assert!(!peer.routes.contains_key(&net("10.0.0.3/32")));
    rib.set(changed());
    assert!(!rib.is_pending(), "the same again is nothing");
}

#[test]
fn attributes_towards_external_and_internal_peers() {
    let route = RouteAttributes {
        med: Some(7),
        local_pref: Some(200),
        communities: vec![0xfc00_0001],
        large_communities: vec![[64512, 1, 2]],
        prepend: 2,
    };
    let cases = [(false, "64512 64512 64512", None), (true, "", Some(200))];
    for (internal, path, local_pref) in cases {
        let codec = Codec { internal, ..CODEC };
        let mut rib = AdjRibOut::new(target(codec), set(&[("10.0.0.1/32", route.clone())]));
        let mut peer = Mirror::default();
        peer.take(&mut rib, &codec);
        let (attributes, next_hop) = &peer.routes[&net("10.0.0.1/32")];
        assert_eq!(attributes.as_path.as_ref().unwrap().to_string(), path);
        assert_eq!((attributes.local_pref, attributes.med), (local_pref, Some(7)));
        assert_eq!(attributes.communities, [Community(0xfc00_0001)]);
        assert_eq!(attributes.large_communities, [LargeCommunity::from([64512, 1, 2])]);
        assert_eq!(*next_hop, NextHop::V4(Ipv4Addr::new(10, 0, 0, 2)));
    }
    let codec = Codec { internal: true, ..CODEC };
    let mut rib = AdjRibOut::new(target(codec), set(&[("10.0.0.1/32", plain())]));
    let mut peer = Mirror::default();
    peer.take(&mut rib, &codec);
    assert_eq!(peer.routes[&net("10.0.0.1/32")].0.local_pref, Some(DEFAULT_LOCAL_PREF));
}

#[test]
fn a_family_that_is_not_negotiated_is_left_out() {
    let codec = Codec { ipv6: false, ..CODEC };
    let routes = set(&[("203.0.113.10/32", plain()), ("2001:db8:113::10/128", plain())]);
    let mut rib = AdjRibOut::new(target(codec), routes);
    let mut peer = Mirror::default();
    let messages = peer.take(&mut rib, &codec);
    assert_eq!(peer.routes.keys().collect::<Vec<_>>(), [&net("203.0.113.10/32")]);
    assert_eq!(end_of_ribs(&messages), [Family::IPV4_UNICAST]);
    assert_eq!(rib.announced(), 1);
}

#[test]
fn a_refresh_sends_the_family_again_between_markers() {
    for enhanced in [false, true] {
        let routes = set(&[("203.0.113.10/32", plain()), ("2001:db8:113::10/128", plain())]);
        let target = Target { enhanced_route_refresh: enhanced, ..target(CODEC) };
        let mut rib = AdjRibOut::new(target, routes);
        let mut peer = Mirror::default();
        peer.take(&mut rib, &CODEC);
        peer.routes.clear();
        rib.refresh(Family::IPV6_UNICAST);
        let messages = peer.take(&mut rib, &CODEC);
        assert_eq!(peer.routes.keys().collect::<Vec<_>>(), [&net("2001:db8:113::10/128")]);
        let marker =
            |subtype| Message::RouteRefresh(RouteRefresh { family: Family::IPV6_UNICAST, subtype });
        if enhanced {
            assert_eq!(messages.len(), 3);
            assert_eq!(messages[0], marker(RefreshSubtype::Begin));
            assert_eq!(messages[2], marker(RefreshSubtype::End));
        } else {
            assert_eq!(messages.len(), 1);
        }
    }
}

#[test]
fn a_thousand_prefixes_fit_into_two_messages_and_5200_octets() {
    let routes: Announced = (0..1000u32).map(|i| (host_v4(i), plain())).collect();
    let mut rib = AdjRibOut::new(target(CODEC), Arc::default());
    Mirror::default().take(&mut rib, &CODEC);
    rib.set(Arc::new(routes));
    let mut out = BytesMut::new();
    assert_eq!(rib.write(&mut out, NO_LIMIT), 2);
    assert!(out.len() <= 5200, "{} octets", out.len());
}

#[test]
fn a_limit_bounds_what_is_written_at_once() {
    let routes: Announced = (0..200_000u32).map(|i| (host_v4(i), plain())).collect();
    let mut rib = AdjRibOut::new(target(CODEC), Arc::new(routes));
    let mut peer = Mirror::default();
    let mut writes = 0;
    while rib.is_pending() {
        let mut out = BytesMut::new();
        rib.write(&mut out, 4096);
        assert!(out.len() < 350_000, "{}", out.len());
        peer.read(&CODEC, &mut out);
        writes += 1;
    }
    assert!(writes > 3, "{writes}");
    assert_eq!(peer.routes.len(), 200_000);
}

#[test]
fn a_route_that_fits_no_message_is_reported_and_the_others_are_sent() {
    let huge = RouteAttributes { communities: (0..2000).collect(), ..plain() };
    let mut rib =
        AdjRibOut::new(target(CODEC), set(&[("10.0.0.1/32", huge), ("10.0.0.2/32", plain())]));
    let mut peer = Mirror::default();
    peer.take(&mut rib, &CODEC);
    assert_eq!(peer.routes.keys().collect::<Vec<_>>(), [&net("10.0.0.2/32")]);
    assert_eq!(rib.errors().iter().map(|(p, _)| *p).collect::<Vec<_>>(), [net("10.0.0.1/32")]);
    assert_eq!(rib.announced(), 1);
    rib.set(set(&[("10.0.0.2/32", plain())]));
    assert!(rib.errors().is_empty());
}

fn update(reach: &[&str], unreach: &[&str]) -> Update {
    let v4 = |nets: &[&str]| Prefixes::V4(nets.iter().map(|n| n.parse().unwrap()).collect());
    Update {
        reach: vec![Reach {
            form: Form::Classic,
            next_hop: NextHop::V4(Ipv4Addr::LOCALHOST),
            prefixes: v4(reach),
        }],
        unreach: vec![Unreach { form: Form::Classic, prefixes: v4(unreach) }],
        ..Update::default()
    }
}

#[test]
fn received_prefixes_are_counted_once() {
    let mut rib = AdjRibIn::default();
    rib.apply(&update(&["10.0.0.0/8", "10.1.0.0/16"], &[]));
    rib.apply(&update(&["10.0.0.0/8"], &["172.16.0.0/12"]));
    assert_eq!(rib.len(), 2);
    rib.apply(&update(&[], &["10.0.0.0/8"]));
    assert_eq!(rib.len(), 1);
    assert!(rib.problems().is_empty());
}

#[test]
fn a_full_table_stops_the_count_and_is_reported() {
    let mut rib = AdjRibIn::default();
    let nets: Vec<_> = (0..=MAX_RECEIVED_PER_FAMILY)
        .map(|i| ipnet::Ipv4Net::new_assert(Ipv4Addr::from(u32::try_from(i).unwrap() << 8), 24))
        .collect();
    let mut big = update(&[], &[]);
    big.reach[0].prefixes = Prefixes::V4(nets);
    rib.apply(&big);
    assert_eq!(rib.len(), MAX_RECEIVED_PER_FAMILY);
    assert!(rib.problems()[0].contains("more than 100000 ipv4-unicast prefixes"));
}

#[test]
fn a_disabled_family_is_forgotten() {
    let mut rib = AdjRibIn::default();
    rib.apply(&update(&["10.0.0.0/8"], &[]));
    let error = AttributeError {
        attribute: None,
        action: Action::AfiSafiDisable,
        family: Some(Family::IPV4_UNICAST),
        notification: Notification::new(3, 0),
        reason: "x",
    };
    rib.apply(&Update { errors: vec![error], ..Update::default() });
    rib.apply(&update(&["10.0.0.0/8"], &[]));
    assert_eq!(rib.len(), 0);
    assert_eq!((rib.problems().len(), rib.malformed_updates()), (2, 1));
}

fn any_set() -> impl Strategy<Value = Announced> {
    let prefix = prop_oneof![
        (0u32..40).prop_map(host_v4),
        (0u128..40).prop_map(|i| IpNet::from(IpAddr::from(Ipv6Addr::from(i + (1 << 100))))),
    ];
    let route = (0u32..3).prop_map(|med| RouteAttributes { med: Some(med), ..plain() });
    prop::collection::btree_map(prefix, route, 0..60)
}

proptest! {
    /// Whatever sets are given in whatever order, and however little is taken in between, the peer ends with the last.
    #[test]
    fn the_peer_ends_with_the_last_set(sets in prop::collection::vec((any_set(), 0usize..400), 1..6)) {
        let mut rib = AdjRibOut::new(target(CODEC), Arc::default());
        let mut peer = Mirror::default();
        for (routes, limit) in &sets {
            rib.set(Arc::new(routes.clone()));
            let mut out = BytesMut::new();
            rib.write(&mut out, *limit);
            peer.read(&CODEC, &mut out);
        }
        peer.take(&mut rib, &CODEC);
        let (last, _) = sets.last().unwrap();
        let got: BTreeMap<_, _> = peer.routes.iter().map(|(p, (a, _))| (*p, a.med)).collect();
        let wanted: BTreeMap<_, _> = last.iter().map(|(p, r)| (*p, r.med)).collect();
        prop_assert_eq!(got, wanted);
        prop_assert!(!rib.is_pending());
    }
}
