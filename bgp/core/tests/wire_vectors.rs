//! Messages checked by hand against the RFCs: bytes beside the value they mean, both ways.

#![expect(clippy::unwrap_used, reason = "a panic in a test's helper is the report")]

use bytes::BytesMut;
use sluice_bgp_core::wire::notification::{cease, code};
use sluice_bgp_core::wire::{
    Aggregator, AsPath, Asn, Attributes, Capability, Codec, Community, DecodeError, EncodeError,
    ExtCommunity, Family, Form, Frame, GracefulFamily, GracefulRestart, HoldTime, Message,
    Negotiated, NextHop, Notification, Open, Origin, Prefixes, Reach, RefreshSubtype, RouteRefresh,
    Segment, SegmentKind, Unreach, Update,
};

const CODEC: Codec = Codec { as4: true, internal: false, ipv4: true, ipv6: true };
const TWO_OCTET: Codec = Codec { as4: false, ..CODEC };
const MARKER: &str = "ffffffffffffffffffffffffffffffff";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let octet = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

/// The message after the marker.
fn message(text: &str) -> Vec<u8> {
    hex(&format!("{MARKER}{text}"))
}

fn decode(codec: &Codec, bytes: &[u8]) -> Result<Message, DecodeError> {
    let mut buffer = BytesMut::from(bytes);
    codec.decode(&Frame::split(&mut buffer)?.unwrap())
}

fn encode(codec: &Codec, message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    codec.encode(message, &mut out).unwrap();
    out.to_vec()
}

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn path(numbers: &[u32]) -> AsPath {
    AsPath::sequence(numbers.iter().map(|n| asn(*n)))
}

fn check(codec: &Codec, value: &Message, bytes: &str) {
    let bytes = message(bytes);
    assert_eq!(decode(codec, &bytes).as_ref(), Ok(value));
    assert_eq!(encode(codec, value), bytes, "{value:?}");
}

#[test]
fn keepalive_notification_and_refresh() {
    check(&CODEC, &Message::KeepAlive, "0013 04");
    let shutdown = Notification::shutdown(cease::ADMIN_SHUTDOWN, "näh");
    check(&CODEC, &Message::Notification(shutdown), "001a 03 06 02 04 6e c3a4 68");
    let hold = Notification::new(code::HOLD_TIMER, 0);
    check(&CODEC, &Message::Notification(hold), "0015 03 04 00");
    for (subtype, code) in [
        (RefreshSubtype::Request, "00"),
        (RefreshSubtype::Begin, "01"),
        (RefreshSubtype::End, "02"),
        (RefreshSubtype::Other(9), "09"),
    ] {
        let refresh = RouteRefresh { family: Family::IPV6_UNICAST, subtype };
        check(&CODEC, &Message::RouteRefresh(refresh), &format!("0017 05 0002 {code} 01"));
    }
}

/// RFC 5291 §4 without our capability; RFC 7313 §5 asks for 7/1 for markers alone.
#[test]
fn a_refresh_with_filters_is_a_refresh() {
    let request = |subtype| RouteRefresh { family: Family::IPV4_UNICAST, subtype };
    // Immediate, type 64, one entry of 7 octets that permits 10.0.0.0/8 le 32.
    let filters = "01 40 0007 00 00000005 08 20 0a";
    for (subtype, code) in [(RefreshSubtype::Request, "00"), (RefreshSubtype::Other(3), "03")] {
        let bytes = message(&format!("0023 05 0001 {code} 01 {filters}"));
        assert_eq!(decode(&CODEC, &bytes), Ok(Message::RouteRefresh(request(subtype))), "{code}");
    }
    for code in ["01", "02"] {
        let bytes = message(&format!("0023 05 0001 {code} 01 {filters}"));
        let Err(error) = decode(&CODEC, &bytes) else { panic!("taken: {code}") };
        let notification = error.notification;
        assert_eq!((notification.code, notification.subcode), (code::ROUTE_REFRESH, 1));
        assert_eq!(notification.data, bytes, "the complete message");
    }
}

#[test]
fn open_with_all_capabilities() {
    let graceful = GracefulRestart {
        restarting: true,
        notification: true,
        time_s: 120,
        families: vec![GracefulFamily { family: Family::IPV4_UNICAST, forwarding: true }],
    };
    let open = Open::new(
        asn(4_200_000_001),
        HoldTime::new(90).unwrap(),
        "10.0.0.2".parse().unwrap(),
        vec![
            Capability::Multiprotocol(Family::IPV4_UNICAST),
            Capability::Multiprotocol(Family::IPV6_UNICAST),
            Capability::RouteRefresh,
            Capability::GracefulRestart(graceful),
            Capability::EnhancedRouteRefresh,
            Capability::Unknown { code: 73, value: vec![1, 97, 0] },
        ],
    );
    assert_eq!(open.asn(), asn(4_200_000_001));
    let bytes = "0042 01 04 5ba0 005a 0a000002 25 02 23
        0104 0001 00 01  0104 0002 00 01  0200  4006 c078 0001 01 80  4600  4903 016100
        4104 fa56ea01";
    check(&CODEC, &Message::Open(open), bytes);
}

#[test]
fn open_with_one_parameter_per_capability() {
    // As FRR sends it.
    let bytes = message(
        "0031 01 04 fde9 00b4 c0000201 14 0206 0104 0001 0001 0202 0200 0206 4104 0000fde9",
    );
    let Message::Open(open) = decode(&CODEC, &bytes).unwrap() else { unreachable!() };
    let wanted = [
        Capability::Multiprotocol(Family::IPV4_UNICAST),
        Capability::RouteRefresh,
        Capability::FourOctetAs(asn(65001)),
    ];
    assert_eq!(open.capabilities, wanted);
}

#[test]
fn open_with_extended_parameters() {
    // RFC 9072 §2: type 255, then every length in two octets.
    let bytes = message("002b 01 04 fde9 00b4 c0000201 ff ff 000b 02 0008 0200 4104 0000fde9");
    let Message::Open(open) = decode(&CODEC, &bytes).unwrap() else { unreachable!() };
    assert_eq!(open.capabilities, [Capability::RouteRefresh, Capability::FourOctetAs(asn(65001))]);
    // Ours is extended only when it has to be.
    let value = vec![7; 250];
    let long = Open::new(
        asn(1),
        HoldTime::OFF,
        [1, 1, 1, 1].into(),
        vec![Capability::Unknown { code: 200, value }],
    );
    let bytes = encode(&CODEC, &Message::Open(long.clone()));
    assert_eq!(bytes[28..37], [255, 255, 1, 5, 2, 1, 2, 200, 250]);
    assert_eq!(decode(&CODEC, &bytes), Ok(Message::Open(long)));
}

#[test]
fn open_errors() {
    let cases = [
        ("version 3", "001d 01 03 fde9 00b4 c0000201 00", (2, 1), "0004"),
        ("AS 0", "001d 01 04 0000 00b4 c0000201 00", (2, 2), ""),
        ("4-octet AS 0", "0025 01 04 5ba0 00b4 c0000201 08 0206 4104 00000000", (2, 2), ""),
        ("hold time 2", "001d 01 04 fde9 0002 c0000201 00", (2, 6), ""),
        ("identifier 0", "001d 01 04 fde9 00b4 00000000 00", (2, 3), ""),
        ("unknown parameter", "001f 01 04 fde9 00b4 c0000201 02 0900", (2, 4), ""),
        ("parameters overrun", "001f 01 04 fde9 00b4 c0000201 03 0200", (2, 0), ""),
        ("octets behind", "001f 01 04 fde9 00b4 c0000201 00 0200", (2, 0), ""),
        ("parameter overruns", "001f 01 04 fde9 00b4 c0000201 02 0201", (2, 0), ""),
        ("capability overruns", "0021 01 04 fde9 00b4 c0000201 04 0202 4104", (2, 0), ""),
    ];
    for (what, bytes, wanted, data) in cases {
        let error = decode(&CODEC, &message(bytes)).expect_err(what);
        let notification = error.notification;
        assert_eq!((notification.code, notification.subcode), wanted, "{what}");
        assert_eq!(notification.data, hex(data), "{what}");
    }
}

#[test]
fn frames() {
    let cases: [(&str, Vec<u8>, u8, &str); 9] = [
        ("a wrong marker at once", b"SSH-2.0-".to_vec(), 1, ""),
        ("length 18", message("0012 04"), 2, "0012"),
        ("length 4097", message("1001 02"), 2, "1001"),
        ("a KEEPALIVE of 20", message("0014 04 00"), 2, "0014"),
        ("an OPEN of 28", message("001c 01"), 2, "001c"),
        ("an UPDATE of 22", message("0016 02"), 2, "0016"),
        ("a NOTIFICATION of 20", message("0014 03"), 2, "0014"),
        ("type 6", message("0013 06"), 3, "06"),
        ("a length over a type", message("0012 09"), 2, "0012"),
    ];
    for (what, bytes, subcode, data) in cases {
        let error = Frame::split(&mut BytesMut::from(&bytes[..])).expect_err(what);
        let wanted = Notification::with_data(code::HEADER, subcode, hex(data));
        assert_eq!(error.notification, wanted, "{what}");
    }
    // Octet by octet, and two at once.
    let two = [message("0013 04"), message("0015 03 04 00")].concat();
    for cut in 0..19 {
        assert_eq!(Frame::split(&mut BytesMut::from(&two[..cut])), Ok(None));
    }
    let mut buffer = BytesMut::from(&two[..]);
    let kinds = [1, 2].map(|_| Frame::split(&mut buffer).unwrap().unwrap().kind());
    assert_eq!(kinds, [4, 3]);
    assert!(buffer.is_empty());
}

fn everything() -> Attributes {
    Attributes {
        origin: Some(Origin::Incomplete),
        as_path: Some(path(&[65001, 4_200_000_001])),
        med: Some(50),
        local_pref: None,
        atomic_aggregate: true,
        aggregator: Some(Aggregator { asn: asn(4_200_000_001), router_id: [10, 0, 0, 1].into() }),
        communities: vec![Community(0xfde9_0064), Community::NO_EXPORT],
        ext_communities: vec![ExtCommunity([0, 2, 0xfd, 0xe9, 0, 0, 0, 7])],
        large_communities: vec![[65001, 1, 2].into()],
        ..Attributes::default()
    }
}

fn classic(prefixes: &[&str]) -> Prefixes {
    Prefixes::V4(prefixes.iter().map(|p| p.parse().unwrap()).collect())
}

#[test]
fn update_with_everything() {
    let update = Update {
        reach: vec![Reach {
            form: Form::Classic,
            next_hop: NextHop::V4([192, 0, 2, 1].into()),
            prefixes: classic(&["203.0.113.10/32", "10.0.0.0/8"]),
        }],
        unreach: vec![Unreach { form: Form::Classic, prefixes: classic(&["0.0.0.0/0"]) }],
        attributes: everything(),
        ..Update::default()
    };
    let four = "0071 02 0001 00 0052
        400101 02  40020a 0202 0000fde9 fa56ea01  400304 c0000201  800404 00000032  400600
        c00708 fa56ea01 0a000001  c00808 fde90064 ffffff01  c01008 0002fde900000007
        c0200c 0000fde9 00000001 00000002  20 cb00710a 08 0a";
    check(&CODEC, &Message::Update(update.clone()), four);
    // AS_TRANS for the two-octet speaker, and the truth beside it (RFC 6793 §4.2.2).
    let two = "0083 02 0001 00 0064
        400101 02  400206 0202 fde9 5ba0  400304 c0000201  800404 00000032  400600
        c00706 5ba0 0a000001  c00808 fde90064 ffffff01  c01008 0002fde900000007
        c0110a 0202 0000fde9 fa56ea01  c01208 fa56ea01 0a000001
        c0200c 0000fde9 00000001 00000002  20 cb00710a 08 0a";
    check(&TWO_OCTET, &Message::Update(update), two);
}

#[test]
fn update_of_ipv6_with_both_next_hops() {
    let prefixes = Prefixes::V6(vec!["2001:db8:113::10/128".parse().unwrap()]);
    let update = Update {
        reach: vec![Reach {
            form: Form::Multiprotocol,
            next_hop: NextHop::V6 {
                global: "2001:db8::2".parse().unwrap(),
                link_local: Some("fe80::2".parse().unwrap()),
            },
            prefixes: prefixes.clone(),
        }],
        attributes: Attributes::originated(path(&[65001])),
        ..Update::default()
    };
    let bytes = "005d 02 0000 0046
        800e36 0002 01 20 20010db8000000000000000000000002 fe800000000000000000000000000002
        00 80 20010db8011300000000000000000010  400101 00  400206 0201 0000fde9";
    check(&CODEC, &Message::Update(update), bytes);
    let withdraw = Update {
        unreach: vec![Unreach { form: Form::Multiprotocol, prefixes }],
        ..Update::default()
    };
    let bytes = "002e 02 0000 0017 800f14 0002 01 80 20010db8011300000000000000000010";
    check(&CODEC, &Message::Update(withdraw), bytes);
}

#[test]
fn end_of_rib() {
    for (family, bytes) in [
        (Family::IPV4_UNICAST, "0017 02 0000 0000"),
        (Family::IPV6_UNICAST, "001d 02 0000 0006 800f03 0002 01"),
    ] {
        check(&CODEC, &Message::Update(Update::end_of_rib(family)), bytes);
        let mut out = BytesMut::new();
        CODEC.end_of_rib(family, &mut out).unwrap();
        assert_eq!(out, message(bytes));
    }
}

#[test]
fn an_update_that_no_message_can_say_is_refused() {
    let reach =
        |form, prefixes| Reach { form, next_hop: NextHop::V4([1, 1, 1, 1].into()), prefixes };
    let v6 = || Prefixes::V6(vec!["2001:db8::/32".parse().unwrap()]);
    let v4 = || classic(&["10.0.0.0/8"]);
    for entries in [
        vec![reach(Form::Classic, v6())],
        vec![reach(Form::Multiprotocol, v6())],
        vec![reach(Form::Classic, v4()), reach(Form::Classic, v4())],
    ] {
        let update = Update { reach: entries, ..Update::default() };
        let mut out = BytesMut::from(&b"kept"[..]);
        assert_eq!(CODEC.encode(&Message::Update(update), &mut out), Err(EncodeError::Shape));
        assert_eq!(out, &b"kept"[..]);
    }
}

#[test]
fn negotiation() {
    let open = |number, hold, capabilities| {
        Open::new(asn(number), HoldTime::new(hold).unwrap(), [1, 1, 1, 1].into(), capabilities)
    };
    let v4 = Capability::Multiprotocol(Family::IPV4_UNICAST);
    let v6 = Capability::Multiprotocol(Family::IPV6_UNICAST);
    let ours = open(65001, 90, vec![v4, v6.clone(), Capability::RouteRefresh]);
    let both = Negotiated::new(&ours, &open(65001, 30, vec![v6.clone()]));
    assert_eq!(both.families, [Family::IPV6_UNICAST]);
    assert_eq!(both.hold_time.secs(), 30);
    assert!(both.as4 && both.internal() && !both.route_refresh);
    assert_eq!(both.codec(), Codec { as4: true, internal: true, ipv4: false, ipv6: true });
    // A peer without capabilities speaks IPv4 unicast in two octets (RFC 4760 §8, RFC 6793 §4.2).
    let plain = Open { capabilities: Vec::new(), ..open(65002, 0, Vec::new()) };
    let old = Negotiated::new(&ours, &plain);
    assert_eq!(old.codec(), Codec { as4: false, internal: false, ipv4: true, ipv6: false });
    assert_eq!((old.hold_time, old.peer_asn), (HoldTime::OFF, asn(65002)));
}

#[test]
fn segments_of_more_than_255_are_split() {
    let long =
        AsPath { segments: vec![Segment { kind: SegmentKind::Sequence, asns: vec![asn(7); 300] }] };
    let mut out = BytesMut::new();
    let attributes = Attributes::originated(long);
    let prefix = ["203.0.113.10/32".parse().unwrap()];
    CODEC.announce_v4(&attributes, [192, 0, 2, 1].into(), &prefix, &mut out).unwrap();
    let Message::Update(update) = decode(&CODEC, &out).unwrap() else { unreachable!() };
    let path = update.attributes.as_path.unwrap();
    let lengths: Vec<usize> = path.segments.iter().map(|s| s.asns.len()).collect();
    assert_eq!((lengths, path.hops()), (vec![255, 45], 300));
}

#[test]
fn notification_words() {
    let text = Notification::shutdown(cease::ADMIN_SHUTDOWN, "bye");
    assert_eq!(text.to_string(), "Cease/Administrative Shutdown (6/2): \"bye\"");
    assert_eq!(Notification::new(4, 0).to_string(), "Hold Timer Expired (4/0)");
    assert_eq!(Notification::new(77, 3).to_string(), "Unknown Error (77/3)");
    // Cut between characters: 128 × 2 octets do not fit in 255.
    let long = Notification::shutdown(cease::ADMIN_RESET, &"ä".repeat(128));
    assert_eq!(long.shutdown_text(), Some("ä".repeat(127)));
    let lying = Notification::with_data(6, 2, [9, b'x']);
    assert_eq!(lying.shutdown_text(), None);
    let invalid = Notification::with_data(6, 2, [2, 0xff, b'x']);
    assert_eq!(invalid.shutdown_text().unwrap(), "\u{fffd}x");
    let hard = Notification::with_data(6, 9, [6, 2, 1, b'x']);
    assert_eq!(hard.hard_reset_cause().unwrap().shutdown_text().unwrap(), "x");
}
