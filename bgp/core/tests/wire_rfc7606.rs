//! RFC 7606 as a table: what is wrong with an UPDATE, its bytes, and what has to happen.
//!
//! Every message but the last few has good attributes around the bad one, so that a decoder which loses its place
//! is found out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of a test: a panic is the report, and its messages are short"
)]

use bytes::BytesMut;
use sluice_bgp_core::wire::{
    Action, Codec, DecodeError, Family, Frame, MARKER_LEN, Message, Update, kind,
};

/// IPv4 and IPv6, four-octet AS numbers, external peer.
const EXTERNAL: Codec = Codec { as4: true, internal: false, ipv4: true, ipv6: true };
const INTERNAL: Codec = Codec { internal: true, ..EXTERNAL };
const TWO_OCTET: Codec = Codec { as4: false, ..EXTERNAL };

const ORIGIN: &str = "400101 00";
const AS_PATH: &str = "400206 0201 0000fde9";
const NEXT_HOP: &str = "400304 c0000201";
const LOCAL_PREF: &str = "400504 00000064";
const MED: &str = "800404 00000005";
/// 2001:db8::1/128 by 2001:db8::a.
const MP_REACH: &str =
    "800e26 000201 10 20010db800000000000000000000000a 00 80 20010db8000000000000000000000001";
const PREFIX: &str = "20 cb00710a";

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

/// An UPDATE of these parts, lengths filled in.
fn update(withdrawn: &str, attributes: &[&str], announced: &str) -> Vec<u8> {
    let withdrawn = hex(withdrawn);
    let attributes = hex(&attributes.concat());
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(&withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(&attributes);
    body.extend(hex(announced));
    body
}

fn decode(codec: &Codec, body: &[u8]) -> Result<Update, DecodeError> {
    let mut bytes = BytesMut::from(&[0xff; MARKER_LEN][..]);
    bytes.extend_from_slice(&((19 + body.len()) as u16).to_be_bytes());
    bytes.extend_from_slice(&[kind::UPDATE]);
    bytes.extend_from_slice(body);
    let frame = Frame::split(&mut bytes).unwrap().unwrap();
    match codec.decode(&frame)? {
        Message::Update(update) => Ok(update),
        other => panic!("{other:?}"),
    }
}

/// Action, and the UPDATE subcode.
type Wanted = (Action, u8);

/// The good attributes with one replaced, left out (empty) or added at the end.
fn with(code: u8, bad: &'static str) -> Vec<&'static str> {
    let mut parts = vec![(1, ORIGIN), (2, AS_PATH), (3, NEXT_HOP), (4, MED)];
    match parts.iter_mut().find(|(c, _)| *c == code) {
        Some(part) => part.1 = bad,
        None => parts.insert(2, (code, bad)),
    }
    parts.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn attribute_errors_have_the_action_of_the_rfc() {
    use Action::{AttributeDiscard as Discard, TreatAsWithdraw as Withdraw};
    let cases: &[(&str, &Codec, u8, &str, Wanted)] = &[
        ("ORIGIN of length 2 (§7.1)", &EXTERNAL, 1, "400102 0000", (Withdraw, 5)),
        ("ORIGIN 3 (§7.1)", &EXTERNAL, 1, "400101 03", (Withdraw, 6)),
        ("ORIGIN empty (§7.1)", &EXTERNAL, 1, "400100", (Withdraw, 5)),
        ("ORIGIN missing (§3 d)", &EXTERNAL, 1, "", (Withdraw, 3)),
        ("ORIGIN flagged optional (§3 c)", &EXTERNAL, 1, "c00101 00", (Withdraw, 4)),
        ("AS_PATH segment type 5 (§7.2)", &EXTERNAL, 2, "400206 0501 0000fde9", (Withdraw, 11)),
        ("AS_PATH segment overrun (§7.2)", &EXTERNAL, 2, "400206 0202 0000fde9", (Withdraw, 11)),
        ("AS_PATH one octet left (§7.2)", &EXTERNAL, 2, "400207 0201 0000fde9 02", (Withdraw, 11)),
        ("AS_PATH empty segment (§7.2)", &EXTERNAL, 2, "400208 0200 0201 0000fde9", (Withdraw, 11)),
        ("AS_PATH with AS 0 (RFC 7607)", &EXTERNAL, 2, "400206 0201 00000000", (Withdraw, 11)),
        (
            "AS_PATH confederation, external (RFC 5065)",
            &EXTERNAL,
            2,
            "400206 0301 0000fde9",
            (Withdraw, 11),
        ),
        (
            "AS_PATH of four octets on two (§7.2)",
            &TWO_OCTET,
            2,
            "400206 0201 0000fde9",
            (Withdraw, 11),
        ),
        ("AS_PATH missing (§3 d)", &EXTERNAL, 2, "", (Withdraw, 3)),
        ("NEXT_HOP of length 3 (§7.3)", &EXTERNAL, 3, "400303 c00002", (Withdraw, 5)),
        (
            "NEXT_HOP of length 16 (§7.3)",
            &EXTERNAL,
            3,
            "400310 20010db8000000000000000000000001",
            (Withdraw, 5),
        ),
        ("NEXT_HOP 0.0.0.0 (RFC 4271 §6.3)", &EXTERNAL, 3, "400304 00000000", (Withdraw, 8)),
        ("NEXT_HOP 224.0.0.1 (RFC 4271 §6.3)", &EXTERNAL, 3, "400304 e0000001", (Withdraw, 8)),
        ("NEXT_HOP missing (§3 d)", &EXTERNAL, 3, "", (Withdraw, 3)),
        ("MED of length 3 (§7.4)", &EXTERNAL, 4, "800403 000005", (Withdraw, 5)),
        ("MED flagged transitive (§3 c)", &EXTERNAL, 4, "c00404 00000005", (Withdraw, 4)),
        ("LOCAL_PREF, external (§7.5)", &EXTERNAL, 5, LOCAL_PREF, (Discard, 9)),
        ("LOCAL_PREF of length 3, external (§7.5)", &EXTERNAL, 5, "400503 000064", (Discard, 9)),
        ("LOCAL_PREF of length 3, internal (§7.5)", &INTERNAL, 5, "400503 000064", (Withdraw, 5)),
        ("LOCAL_PREF missing, internal (§3 d)", &INTERNAL, 5, "", (Withdraw, 3)),
        ("ATOMIC_AGGREGATE of length 1 (§7.6)", &EXTERNAL, 6, "400601 00", (Discard, 5)),
        ("AGGREGATOR of length 7 (§7.7)", &EXTERNAL, 7, "c00707 0000fde9 0a0000", (Discard, 5)),
        (
            "AGGREGATOR of length 6 on four octets (§7.7)",
            &EXTERNAL,
            7,
            "c00706 fde9 0a000001",
            (Discard, 5),
        ),
        ("AGGREGATOR with AS 0 (RFC 7607)", &EXTERNAL, 7, "c00708 00000000 0a000001", (Discard, 9)),
        ("COMMUNITIES of length 5 (§7.8)", &EXTERNAL, 8, "c00805 fde90001 00", (Withdraw, 5)),
        ("COMMUNITIES empty (§7.8)", &EXTERNAL, 8, "c00800", (Withdraw, 5)),
        ("COMMUNITIES flagged well-known (§3 c)", &EXTERNAL, 8, "400804 fde90001", (Withdraw, 4)),
        ("ORIGINATOR_ID, external (§7.9)", &EXTERNAL, 9, "800904 0a000001", (Discard, 9)),
        (
            "ORIGINATOR_ID of length 3, internal (§7.9)",
            &INTERNAL,
            9,
            "800903 0a0000",
            (Withdraw, 5),
        ),
        ("CLUSTER_LIST, external (§7.10)", &EXTERNAL, 10, "800a04 0a000001", (Discard, 9)),
        (
            "CLUSTER_LIST of length 5, internal (§7.10)",
            &INTERNAL,
            10,
            "800a05 0a00000100",
            (Withdraw, 5),
        ),
        (
            "EXTENDED COMMUNITIES of length 7 (§7.14)",
            &EXTERNAL,
            16,
            "c01007 0002fde9000000",
            (Withdraw, 5),
        ),
        (
            "AS4_PATH on four octets (RFC 6793 §4.1)",
            &EXTERNAL,
            17,
            "c01106 0201 00010000",
            (Discard, 9),
        ),
        ("AS4_PATH cut (RFC 6793 §6)", &TWO_OCTET, 17, "c01105 0201 000100", (Discard, 9)),
        (
            "AS4_AGGREGATOR of length 7 (RFC 6793 §6)",
            &TWO_OCTET,
            18,
            "c01207 00010000 0a0000",
            (Discard, 5),
        ),
        (
            "LARGE_COMMUNITY of length 11 (RFC 8092 §6)",
            &EXTERNAL,
            32,
            "c0200b 0000fde9 00000001 000000",
            (Withdraw, 5),
        ),
        ("second MED (§3 g)", &EXTERNAL, 5, MED, (Discard, 1)),
    ];
    for (what, codec, code, bad, wanted) in cases {
        let mut attributes = with(*code, bad);
        if codec.internal && *code != 5 {
            attributes.push(LOCAL_PREF);
        }
        if !codec.as4 && *code != 2 {
            attributes.iter_mut().filter(|a| **a == AS_PATH).for_each(|a| *a = "400204 0201 fde9");
        }
        if *what == "second MED (§3 g)" {
            attributes = vec![ORIGIN, AS_PATH, NEXT_HOP, MED, "800404 00000007"];
        }
        let update = decode(codec, &update("", &attributes, PREFIX)).expect(what);
        assert_eq!(update.errors.len(), 1, "{what}: {:?}", update.errors);
        let error = &update.errors[0];
        assert_eq!((error.action, error.notification.subcode), *wanted, "{what}");
        let withdrawn = wanted.0 == Action::TreatAsWithdraw;
        assert_eq!(update.unreach.len(), usize::from(withdrawn), "{what}: no prefix is lost");
        assert_eq!(update.reach.len(), usize::from(!withdrawn), "{what}");
        // A discarded attribute takes nothing else with it.
        assert_eq!(update.attributes.med, (!withdrawn).then_some(5), "{what}");
    }
}

#[test]
fn errors_that_end_the_session() {
    let good = [ORIGIN, AS_PATH, NEXT_HOP];
    let twice = [ORIGIN, AS_PATH, MP_REACH, MP_REACH];
    let unreach = "800f03 000201";
    let cases: Vec<(&str, Vec<u8>, u8)> = vec![
        ("withdrawn length beyond the message (§3 a)", hex("0005 0000"), 1),
        ("attribute length beyond the message (§3 a)", hex("0000 0005 400101"), 1),
        ("withdrawn prefix of 33 bits (§3 i)", update("21 cb00710a00", &[], ""), 10),
        ("withdrawn prefix cut (§3 i)", update("20 cb0071", &[], ""), 10),
        ("announced prefix of 33 bits (§3 j)", update("", &good, "21 cb00710a00"), 10),
        ("announced prefix cut (§3 j)", update("", &good, "20 cb0071"), 10),
        ("MP_REACH_NLRI twice (§3 g)", update("", &twice, ""), 1),
        ("MP_UNREACH_NLRI twice (§3 g)", update("", &[unreach, unreach], ""), 1),
        ("MP_REACH_NLRI without a family (§7.11)", update("", &[ORIGIN, "800e02 0002"], ""), 9),
        ("MP_UNREACH_NLRI without a family (§7.12)", update("", &["800f02 0002"], ""), 9),
        (
            "unknown well-known attribute (RFC 4271 §6.3)",
            update("", &["406301 00", ORIGIN, AS_PATH, NEXT_HOP], PREFIX),
            2,
        ),
        (
            "bad attribute without prefixes (§5.2)",
            update("", &["400101 07", AS_PATH, NEXT_HOP], ""),
            6,
        ),
        ("bad attribute beside withdrawals only (§5.2)", update(PREFIX, &["400101 07"], ""), 6),
        (
            "bad attribute beside an MP_REACH_NLRI without prefixes (§5.2)",
            update("", &["800e15 000201 10 20010db800000000000000000000000a 00", "400101 07"], ""),
            6,
        ),
    ];
    for (what, body, subcode) in cases {
        let error = decode(&EXTERNAL, &body).expect_err(what);
        assert_eq!((error.notification.code, error.notification.subcode), (3, subcode), "{what}");
    }
}

#[test]
fn errors_that_disable_a_family() {
    let cases = [
        (
            "prefix of 129 bits (§5.3)",
            "800e27 000201 10 20010db800000000000000000000000a 00 81 20010db800000000000000000000000100",
        ),
        (
            "prefix cut (§5.3)",
            "800e25 000201 10 20010db800000000000000000000000a 00 80 20010db80000000000000000000000",
        ),
        (
            "next hop of 4 octets (§7.11)",
            "800e1a 000201 04 c0000201 00 80 20010db8000000000000000000000001",
        ),
        ("next hop beyond the attribute (§7.11)", "800e08 000201 10 20010db8"),
        ("withdrawn prefix cut (§5.3)", "800f06 000201 80 2001"),
    ];
    for (what, bad) in cases {
        let update =
            decode(&EXTERNAL, &update("", &[bad, ORIGIN, AS_PATH, NEXT_HOP], PREFIX)).expect(what);
        let errors: Vec<_> = update.errors.iter().map(|e| (e.action, e.family)).collect();
        assert_eq!(errors, [(Action::AfiSafiDisable, Some(Family::IPV6_UNICAST))], "{what}");
        // The other family goes on.
        assert_eq!(update.reach.len(), 1, "{what}");
    }
}

#[test]
fn overrunning_attribute_withdraws_what_total_length_finds() {
    // §4: MED claims 9 octets of 4, the prefix is still where the total says.
    let body = update("", &[ORIGIN, AS_PATH, NEXT_HOP, "800409 00000005"], PREFIX);
    let update = decode(&EXTERNAL, &body).unwrap();
    assert_eq!(update.action(), Some(Action::TreatAsWithdraw));
    assert_eq!(update.unreach[0].prefixes.iter().next().unwrap().to_string(), "203.0.113.10/32");
    assert!(update.reach.is_empty());
}

#[test]
fn treat_as_withdraw_covers_both_forms() {
    let update =
        decode(&EXTERNAL, &update("", &[MP_REACH, "400101 09", AS_PATH, NEXT_HOP], PREFIX))
            .unwrap();
    let withdrawn: Vec<String> =
        update.unreach.iter().flat_map(|u| u.prefixes.iter()).map(|p| p.to_string()).collect();
    assert_eq!(withdrawn, ["203.0.113.10/32", "2001:db8::1/128"]);
    assert_eq!(update.attributes, Default::default());
}

#[test]
fn the_worst_of_several_errors_counts() {
    // §3 h: a discard and a withdraw together withdraw.
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, "400601 00", "800403 000005"];
    let update = decode(&EXTERNAL, &update("", &attributes, PREFIX)).unwrap();
    assert_eq!(update.errors.len(), 2);
    assert_eq!(update.action(), Some(Action::TreatAsWithdraw));
}

#[test]
fn wrong_flags_beside_a_milder_fault_withdraw() {
    // §3 c and h: AGGREGATOR of a wrong length is discarded, but not when its flags are wrong too.
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, "400707 0000fde9 0a0000"];
    let update = decode(&EXTERNAL, &update("", &attributes, PREFIX)).unwrap();
    assert_eq!(update.action(), Some(Action::TreatAsWithdraw));
    assert_eq!((update.reach.len(), update.unreach.len()), (0, 1));
}

#[test]
fn unknown_optional_attributes_are_kept() {
    let attributes = [ORIGIN, AS_PATH, NEXT_HOP, "c0f003 010203", "80f101 07"];
    let update = decode(&EXTERNAL, &update("", &attributes, PREFIX)).unwrap();
    assert_eq!(update.errors, []);
    let other = &update.attributes.other;
    assert_eq!((other[0].code, other[0].flags, &other[0].value[..]), (0xf0, 0xc0, &[1, 2, 3][..]));
    // RFC 4271 §5: passed on with the Partial bit, or not at all.
    assert_eq!(other[0].for_readvertising().unwrap().flags, 0xe0);
    assert_eq!(other[1].for_readvertising(), None);
}

#[test]
fn families_that_were_not_negotiated_are_ignored() {
    let only_v4 = Codec { ipv6: false, ..EXTERNAL };
    let only_v6 = Codec { ipv4: false, ..EXTERNAL };
    let body = update("", &[MP_REACH, ORIGIN, AS_PATH, NEXT_HOP], PREFIX);
    for (codec, left) in [(only_v4, "203.0.113.10/32"), (only_v6, "2001:db8::1/128")] {
        let update = decode(&codec, &body).unwrap();
        assert_eq!(update.action(), Some(Action::AttributeDiscard));
        let reach: Vec<String> =
            update.reach.iter().flat_map(|r| r.prefixes.iter()).map(|p| p.to_string()).collect();
        assert_eq!(reach, [left]);
    }
}

#[test]
fn end_of_rib_of_each_family() {
    let v4 = decode(&EXTERNAL, &hex("0000 0000")).unwrap();
    assert_eq!(v4.end_of_rib, Some(Family::IPV4_UNICAST));
    for header in ["800f03", "900f0003"] {
        let v6 = decode(&EXTERNAL, &update("", &[header, "000201"], "")).unwrap();
        assert_eq!(v6.end_of_rib, Some(Family::IPV6_UNICAST));
    }
    let withdraw = decode(&EXTERNAL, &update(PREFIX, &["800f03 000201"], "")).unwrap();
    assert_eq!(withdraw.end_of_rib, None);
}
