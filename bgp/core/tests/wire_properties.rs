//! Properties of the codec: what is encoded decodes to itself, packing loses nothing and wastes nothing, and no
//! bytes panic.

#![expect(clippy::unwrap_used, reason = "a panic in a test's helper is the report")]

use bytes::BytesMut;
use ipnet::{Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;
use sluice_bgp_core::wire::{
    Aggregator, AsPath, Asn, Attributes, Capability, Codec, Community, ExtCommunity, Family, Form,
    Frame, GracefulFamily, GracefulRestart, HEADER_LEN, HoldTime, LargeCommunity, MAX_LEN, Message,
    NextHop, Notification, Open, Origin, OtherAttribute, PartialSet, Prefixes, Reach,
    RefreshSubtype, RouteRefresh, Segment, SegmentKind, Unreach, Update, attr,
};
use std::net::{Ipv4Addr, Ipv6Addr};

// --- Values ---

fn asns(as4: bool) -> impl Strategy<Value = Asn> {
    let number = if as4 { (1..=u32::MAX).boxed() } else { (1..=65535_u32).boxed() };
    number.prop_map(|n| Asn::new(n).unwrap())
}

fn v4_nets() -> impl Strategy<Value = Ipv4Net> {
    (any::<u32>(), 0..=32_u8).prop_map(|(a, l)| Ipv4Net::new(Ipv4Addr::from(a), l).unwrap().trunc())
}

fn v6_nets() -> impl Strategy<Value = Ipv6Net> {
    (any::<u128>(), 0..=128_u8)
        .prop_map(|(a, l)| Ipv6Net::new(Ipv6Addr::from(a), l).unwrap().trunc())
}

fn v4_hosts() -> impl Strategy<Value = Ipv4Addr> {
    (1..127_u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
}

fn v6_hops() -> impl Strategy<Value = NextHop> {
    let global = any::<[u8; 14]>().prop_map(|tail| {
        let mut octets = [0x20; 16];
        octets.iter_mut().skip(2).zip(tail).for_each(|(to, from)| *to = from);
        Ipv6Addr::from(octets)
    });
    let link_local = proptest::option::of(
        any::<u64>().prop_map(|id| Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(id))),
    );
    (global, link_local).prop_map(|(global, link_local)| NextHop::V6 { global, link_local })
}

fn paths(codec: Codec) -> impl Strategy<Value = AsPath> {
    let kinds = if codec.internal && codec.as4 {
        vec![
            SegmentKind::Set,
            SegmentKind::Sequence,
            SegmentKind::ConfedSequence,
            SegmentKind::ConfedSet,
        ]
    } else {
        vec![SegmentKind::Set, SegmentKind::Sequence]
    };
    // AS_TRANS and merging have vectors of their own: a merge may join segments.
    let segment = (proptest::sample::select(kinds), vec(asns(codec.as4), 1..20))
        .prop_map(|(kind, asns)| Segment { kind, asns });
    vec(segment, 0..5).prop_map(|segments| AsPath { segments })
}

fn others() -> impl Strategy<Value = Vec<OtherAttribute>> {
    let flags = proptest::sample::select(vec![0x80_u8, 0xa0, 0xc0, 0xe0]);
    proptest::collection::btree_map(40..=255_u8, (flags, vec(any::<u8>(), 0..300)), 0..4).prop_map(
        |map| {
            map.into_iter()
                .map(|(code, (flags, value))| OtherAttribute { code, flags, value })
                .collect()
        },
    )
}

fn attributes(codec: Codec) -> impl Strategy<Value = Attributes> {
    let origin = proptest::sample::select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]);
    let aggregator = proptest::option::of(
        (asns(codec.as4), v4_hosts()).prop_map(|(asn, router_id)| Aggregator { asn, router_id }),
    );
    let communities = (
        vec(any::<u32>().prop_map(Community), 0..70),
        vec(any::<[u8; 8]>().prop_map(ExtCommunity), 0..40),
        vec(any::<[u32; 3]>().prop_map(LargeCommunity::from), 0..25),
        vec(proptest::sample::select(vec![attr::COMMUNITIES, attr::LARGE_COMMUNITIES]), 0..2),
    );
    let numbers = (proptest::option::of(any::<u32>()), any::<u32>(), any::<bool>());
    (origin, paths(codec), numbers, aggregator, communities, others()).prop_map(
        move |(origin, path, (med, pref, atomic), aggregator, lists, other)| {
            let mut partial = PartialSet::default();
            let (communities, ext_communities, large_communities, codes) = lists;
            // The bit lives in the attribute, so only one that is there can have it.
            for code in codes {
                let there = match code {
                    attr::COMMUNITIES => !communities.is_empty(),
                    _ => !large_communities.is_empty(),
                };
                if there {
                    partial.insert(code);
                }
            }
            Attributes {
                origin: Some(origin),
                as_path: Some(path),
                med,
                local_pref: codec.internal.then_some(pref),
                atomic_aggregate: atomic,
                aggregator,
                communities,
                ext_communities,
                large_communities,
                other,
                partial,
            }
        },
    )
}

fn updates(codec: Codec) -> impl Strategy<Value = Update> {
    let v4 = || vec(v4_nets(), 1..30).prop_map(Prefixes::V4);
    let v6 = || vec(v6_nets(), 1..30).prop_map(Prefixes::V6);
    let classic = (v4_hosts(), v4()).prop_map(|(next_hop, prefixes)| Reach {
        form: Form::Classic,
        next_hop: NextHop::V4(next_hop),
        prefixes,
    });
    let mp4 = (v4_hosts(), v4()).prop_map(|(n, p)| (NextHop::V4(n), p));
    let multiprotocol = prop_oneof![mp4, (v6_hops(), v6())]
        .prop_map(|(next_hop, prefixes)| Reach { form: Form::Multiprotocol, next_hop, prefixes });
    let withdrawn = v4().prop_map(|prefixes| Unreach { form: Form::Classic, prefixes });
    let mp_withdrawn = prop_oneof![v4(), v6()]
        .prop_map(|prefixes| Unreach { form: Form::Multiprotocol, prefixes });
    let announce = (proptest::option::of(classic), proptest::option::of(multiprotocol));
    let withdraw = (proptest::option::of(withdrawn), proptest::option::of(mp_withdrawn));
    (announce, withdraw, attributes(codec)).prop_map(|((a, b), (c, d), attributes)| {
        let reach: Vec<Reach> = a.into_iter().chain(b).collect();
        let unreach: Vec<Unreach> = c.into_iter().chain(d).collect();
        let attributes = if reach.is_empty() { Attributes::default() } else { attributes };
        let empty = reach.is_empty() && unreach.is_empty();
        let end_of_rib = empty.then_some(Family::IPV6_UNICAST);
        Update { reach, unreach, attributes, end_of_rib, ..Update::default() }
    })
}

fn families() -> impl Strategy<Value = Family> {
    (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Family { afi, safi })
}

fn capabilities() -> impl Strategy<Value = Capability> {
    let graceful =
        (any::<bool>(), any::<bool>(), 0..4096_u16, vec((families(), any::<bool>()), 0..6))
            .prop_map(|(restarting, notification, time_s, families)| {
                let family = |(family, forwarding)| GracefulFamily { family, forwarding };
                let families = families.into_iter().map(family).collect();
                Capability::GracefulRestart(GracefulRestart {
                    restarting,
                    notification,
                    time_s,
                    families,
                })
            });
    prop_oneof![
        families().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        Just(Capability::EnhancedRouteRefresh),
        asns(true).prop_map(Capability::FourOctetAs),
        graceful,
        (71..=255_u8, vec(any::<u8>(), 0..=255))
            .prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

fn opens() -> impl Strategy<Value = Open> {
    let hold = (3..=u16::MAX).prop_map(|s| HoldTime::new(s).unwrap());
    (1..=u16::MAX, prop_oneof![Just(HoldTime::OFF), hold], 1..=u32::MAX, vec(capabilities(), 0..10))
        .prop_map(|(my_as, hold_time, id, capabilities)| Open {
            my_as,
            hold_time,
            router_id: Ipv4Addr::from(id),
            capabilities,
        })
}

fn messages(codec: Codec) -> impl Strategy<Value = Message> {
    prop_oneof![
        6 => updates(codec).prop_map(Message::Update),
        2 => opens().prop_map(Message::Open),
        1 => (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..300)).prop_map(|(code, subcode, data)| {
            Message::Notification(Notification { code, subcode, data })
        }),
        1 => (families(), any::<u8>()).prop_map(|(family, subtype)| {
            let subtype = RefreshSubtype::from_code(subtype);
            Message::RouteRefresh(RouteRefresh { family, subtype })
        }),
        1 => Just(Message::KeepAlive),
    ]
}

fn codecs() -> impl Strategy<Value = Codec> {
    (any::<bool>(), any::<bool>()).prop_map(|(as4, internal)| Codec {
        as4,
        internal,
        ipv4: true,
        ipv6: true,
    })
}

fn codec_and_message() -> impl Strategy<Value = (Codec, Message)> {
    codecs().prop_flat_map(|codec| (Just(codec), messages(codec)))
}

/// All messages of a buffer.
fn decode_all(codec: &Codec, mut bytes: BytesMut) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(frame) = Frame::split(&mut bytes).unwrap() {
        assert!(frame.body().len() + HEADER_LEN <= MAX_LEN);
        messages.push(codec.decode(&frame).unwrap());
    }
    assert!(bytes.is_empty());
    messages
}

fn sent_v4(messages: &[Message]) -> Vec<Ipv4Net> {
    let all = messages.iter().flat_map(|m| match m {
        Message::Update(u) => [
            u.reach.iter().map(|r| &r.prefixes).collect::<Vec<_>>(),
            u.unreach.iter().map(|r| &r.prefixes).collect(),
        ]
        .concat(),
        _ => Vec::new(),
    });
    all.flat_map(|p| match p {
        Prefixes::V4(p) => p.clone(),
        Prefixes::V6(_) => Vec::new(),
    })
    .collect()
}

fn sent_v6(messages: &[Message]) -> Vec<Ipv6Net> {
    let all = messages.iter().flat_map(|m| match m {
        Message::Update(u) => [
            u.reach.iter().map(|r| &r.prefixes).collect::<Vec<_>>(),
            u.unreach.iter().map(|r| &r.prefixes).collect(),
        ]
        .concat(),
        _ => Vec::new(),
    });
    all.flat_map(|p| match p {
        Prefixes::V6(p) => p.clone(),
        Prefixes::V4(_) => Vec::new(),
    })
    .collect()
}

// --- Properties ---

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_encoded_decodes_to_itself((codec, message) in codec_and_message()) {
        let mut out = BytesMut::new();
        match codec.encode(&message, &mut out) {
            Ok(()) => prop_assert_eq!(decode_all(&codec, out), [message]),
            // Only length may stand in the way, and nothing is left behind.
            Err(error) => {
                prop_assert!(error.to_string().contains("over the limit"), "{error}");
                prop_assert!(out.is_empty());
            }
        }
    }

    #[test]
    fn two_octet_sessions_keep_four_octet_paths(
        // What a four-octet session may carry, without confederations.
        path in paths(Codec { as4: true, internal: false, ipv4: true, ipv6: true }),
        asn in asns(true),
    ) {
        let codec = Codec { as4: false, internal: false, ipv4: true, ipv6: false };
        let aggregator = Some(Aggregator { asn, router_id: Ipv4Addr::new(10, 0, 0, 1) });
        let attributes = Attributes { aggregator, ..Attributes::originated(path.clone()) };
        let mut out = BytesMut::new();
        let prefix = [Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 10), 32)];
        codec.announce_v4(&attributes, Ipv4Addr::new(192, 0, 2, 1), &prefix, &mut out).unwrap();
        let messages = decode_all(&codec, out);
        let [Message::Update(update)] = &messages[..] else { unreachable!() };
        let read = &update.attributes;
        prop_assert_eq!(&update.errors, &[]);
        let read_path = read.as_path.clone().unwrap();
        let gives = |path: &AsPath| (path.hops(), path.iter().collect::<Vec<_>>());
        prop_assert_eq!(gives(&read_path), gives(&path));
        prop_assert_eq!(read.aggregator, aggregator);
    }

    #[test]
    fn packing_loses_nothing_and_fills_messages(
        codec in codecs(),
        set in codecs().prop_flat_map(attributes),
        v4 in vec(v4_nets(), 0..3000),
        v6 in vec(v6_nets(), 0..700),
        hop in v6_hops(),
    ) {
        let mut set = set;
        set.local_pref = codec.internal.then_some(100);
        set.other.clear();
        // Of the other codec's alphabet, so it may not survive this one.
        set.as_path = Some(AsPath::sequence([Asn::new(65001).unwrap()]));
        set.aggregator = None;
        let NextHop::V6 { global, link_local } = hop else { unreachable!() };
        let mut out = BytesMut::new();
        let next_hop = Ipv4Addr::new(192, 0, 2, 1);
        let count = codec.announce_v4(&set, next_hop, &v4, &mut out).unwrap();
        let lens: Vec<usize> = message_lens(&out);
        prop_assert_eq!(lens.len(), count);
        // No message but the last has room for another prefix.
        prop_assert!(lens.iter().rev().skip(1).all(|l| l + 5 > MAX_LEN), "{lens:?}");
        let messages = decode_all(&codec, out);
        prop_assert_eq!(sent_v4(&messages), v4.clone());
        for message in &messages {
            let Message::Update(update) = message else { unreachable!() };
            prop_assert_eq!(&update.attributes, &set);
            prop_assert_eq!(update.reach[0].next_hop, NextHop::V4(next_hop));
        }

        let mut out = BytesMut::new();
        let count = codec.announce_v6(&set, global, link_local, &v6, &mut out).unwrap();
        let lens = message_lens(&out);
        prop_assert_eq!(lens.len(), count);
        prop_assert!(lens.iter().rev().skip(1).all(|l| l + 17 > MAX_LEN), "{lens:?}");
        let messages = decode_all(&codec, out);
        prop_assert_eq!(sent_v6(&messages), v6.clone());
        for message in &messages {
            let Message::Update(update) = message else { unreachable!() };
            prop_assert_eq!((&update.attributes, update.reach[0].next_hop), (&set, hop));
        }

        let mut out = BytesMut::new();
        let count = codec.withdraw_v4(&v4, &mut out).unwrap() + codec.withdraw_v6(&v6, &mut out).unwrap();
        prop_assert_eq!(message_lens(&out).len(), count);
        let messages = decode_all(&codec, out);
        prop_assert_eq!(sent_v4(&messages), v4);
        prop_assert_eq!(sent_v6(&messages), v6);
    }

    #[test]
    fn arbitrary_bodies_do_not_panic(
        codec in codecs(),
        kind in 1..=5_u8,
        body in vec(any::<u8>(), 0..600),
    ) {
        let len = u16::try_from(HEADER_LEN + body.len()).unwrap();
        let mut bytes = BytesMut::from(&[0xff; 16][..]);
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&[kind]);
        bytes.extend_from_slice(&body);
        if let Ok(Some(frame)) = Frame::split(&mut bytes) {
            // Whatever is accepted can be sent on; a treated-as-withdrawn one may have two lists of one form.
            if let Ok(message) = codec.decode(&frame) {
                let _written = codec.encode(&message, &mut BytesMut::new()).is_ok();
            }
        }
    }

    #[test]
    fn mutated_messages_do_not_panic(
        (codec, message) in codec_and_message(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut out = BytesMut::new();
        prop_assume!(codec.encode(&message, &mut out).is_ok());
        let mut out = out.to_vec();
        for (at, octet) in changes {
            let at = at.index(out.len());
            out[at] = octet;
        }
        out.truncate(cut.index(out.len()) + 1);
        let mut bytes = BytesMut::from(&out[..]);
        while let Ok(Some(frame)) = Frame::split(&mut bytes) {
            if let Ok(message) = codec.decode(&frame) {
                let _written = codec.encode(&message, &mut BytesMut::new()).is_ok();
            }
        }
    }
}

fn message_lens(out: &BytesMut) -> Vec<usize> {
    let mut bytes = out.clone();
    let mut lens = Vec::new();
    while let Some(frame) = Frame::split(&mut bytes).unwrap() {
        lens.push(HEADER_LEN + frame.body().len());
    }
    lens
}
