//! The BGP codec against real daemons and independent decoders.
//!
//! The captures are sessions between FRR, BIRD and GoBGP. Ours must read all of them, write them back, agree with
//! netgauze-bgp-pkt and bgp-rs on what they say, be read by both, and survive damage.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of a test: a panic is the report"
)]

mod corpus;
mod view;

use bytes::BytesMut;
use corpus::{Recorded, Session, decode};
use ipnet::{Ipv4Net, Ipv6Net};
use sluice_bgp_core::wire::{
    Action, AsPath, Asn, Attributes, Codec, Community, Frame, HEADER_LEN, Message, Negotiated,
    NextHop, Notification, Update, kind,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Every UPDATE of the captures except End-of-RIB and those with an error.
fn updates(sessions: &[Session]) -> impl Iterator<Item = (&Session, &Recorded, Update)> {
    sessions.iter().flat_map(|session| {
        let codec = session.codec();
        session.messages.iter().filter_map(move |recorded| match decode(&codec, recorded) {
            Message::Update(update) if update.end_of_rib.is_none() && update.errors.is_empty() => {
                Some((session, recorded, update))
            }
            _ => None,
        })
    })
}

fn encode(codec: &Codec, message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    codec.encode(message, &mut out).unwrap();
    out.to_vec()
}

#[test]
fn both_sides_agree_on_what_the_opens_negotiate() {
    for session in corpus::sessions() {
        let negotiated: Negotiated = session.negotiated();
        assert_eq!(negotiated.codec(), session.codec(), "{}", session.name);
        assert_eq!(negotiated.hold_time.secs(), 9, "{}", session.name);
    }
}

#[test]
fn every_captured_message_is_read() {
    let mut counts: BTreeMap<(String, u8), usize> = BTreeMap::new();
    let mut errors: BTreeMap<(String, &str, Action), usize> = BTreeMap::new();
    for session in corpus::sessions() {
        for recorded in &session.messages {
            let message = decode(&session.codec(), recorded);
            *counts.entry((recorded.sender.clone(), message.kind())).or_default() += 1;
            if let Message::Update(update) = message {
                for e in update.errors {
                    let key = (recorded.sender.clone(), e.reason, e.action);
                    *errors.entry(key).or_default() += 1;
                }
            }
        }
    }
    println!("{counts:#?}");
    for sender in ["frr", "bird", "gobgp"] {
        for kind in [kind::OPEN, kind::UPDATE, kind::NOTIFICATION, kind::KEEPALIVE] {
            assert!(counts.contains_key(&(sender.to_owned(), kind)), "no type {kind} of {sender}");
        }
    }
    assert_eq!(errors, BTreeMap::new());
}

#[test]
fn shutdown_texts_of_the_daemons() {
    let mut texts: Vec<String> = Vec::new();
    for session in corpus::sessions() {
        for recorded in &session.messages {
            if let Message::Notification(n) = decode(&session.codec(), recorded) {
                texts.extend(n.shutdown_text());
            }
        }
    }
    texts.sort();
    texts.dedup();
    assert_eq!(texts, ["BIRD goes for maintenance, ticket 42", "FRR says good bye äöü"]);
}

#[test]
fn captured_messages_are_written_back() {
    let mut counts: BTreeMap<(String, u8), [usize; 3]> = BTreeMap::new();
    for session in corpus::sessions() {
        let codec = session.codec();
        for recorded in &session.messages {
            let message = decode(&codec, recorded);
            let ours = encode(&codec, &message);
            let same = ours == recorded.bytes;
            let canonical = corpus::is_canonical(&recorded.bytes);
            assert!(same || !canonical, "{}: {:02x?}", session.name, recorded.bytes);
            let count = counts.entry((recorded.sender.clone(), message.kind())).or_default();
            count[0] += 1;
            count[1] += usize::from(canonical);
            count[2] += usize::from(same);
            // Other orders and packings say the same.
            let again = Recorded { sender: String::new(), bytes: ours };
            assert_eq!(decode(&codec, &again), message, "{}", session.name);
        }
    }
    for ((sender, kind), [all, canonical, same]) in &counts {
        println!(
            "{sender} type {kind}: {all} messages, {canonical} canonical, {same} byte-identical"
        );
    }
    let same: usize = counts.values().map(|c| c[2]).sum();
    assert!(same > 400, "{same}");
}

#[test]
fn independent_decoders_agree_on_the_captures() {
    let sessions = corpus::sessions();
    let mut count = 0;
    for (session, recorded, update) in updates(&sessions) {
        compare(&session.name, &recorded.bytes, session.codec(), &update);
        count += 1;
    }
    assert!(count > 300, "{count}");
}

#[test]
fn independent_decoders_read_what_we_write() {
    let sessions = corpus::sessions();
    for (session, _, update) in updates(&sessions) {
        let codec = session.codec();
        let bytes = encode(&codec, &Message::Update(update.clone()));
        compare(&session.name, &bytes, codec, &update);
    }
}

/// Both decoders against ours.
fn compare(what: &str, bytes: &[u8], codec: Codec, update: &Update) {
    let mut ours = view::ours(update);
    if !view::bgp_rs_takes_for_add_path(update) {
        assert_eq!(view::bgp_rs(bytes), ours, "{what}: bgp-rs, {bytes:02x?}");
    }
    ours.extended.clear();
    assert_eq!(view::netgauze(bytes, codec.as4), ours, "{what}: netgauze, {bytes:02x?}");
}

#[test]
fn independent_decoders_read_packed_messages() {
    let codec = Codec { as4: true, internal: false, ipv4: true, ipv6: true };
    let v4: Vec<Ipv4Net> =
        (0..5000).map(|i| Ipv4Net::new_assert(Ipv4Addr::from(0xcb00_0000_u32 + i), 32)).collect();
    let v6: Vec<Ipv6Net> = (0..1500)
        .map(|i| Ipv6Net::new_assert(Ipv6Addr::from((0x2001_0db8_u128 << 96) + i), 128))
        .collect();
    let attributes = Attributes {
        med: Some(10),
        communities: vec![Community::GRACEFUL_SHUTDOWN],
        large_communities: vec![[4_200_000_001, 1, 2].into()],
        ..Attributes::originated(AsPath::sequence(Asn::new(4_200_000_001)))
    };
    let mut out = BytesMut::new();
    let (hop4, hop6): (Ipv4Addr, Ipv6Addr) =
        ([192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap());
    let mut messages = codec.announce_v4(&attributes, hop4, &v4, &mut out).unwrap();
    messages += codec.announce_v6(&attributes, hop6, None, &v6, &mut out).unwrap();
    messages += codec.withdraw_v4(&v4, &mut out).unwrap();
    messages += codec.withdraw_v6(&v6, &mut out).unwrap();
    // 800 and more of 5 octets, 230 and more of 17.
    assert_eq!(messages, 7 + 7 + 7 + 7);
    let mut prefixes = 0;
    for _ in 0..messages {
        let bytes = out.clone();
        let frame = Frame::split(&mut out).unwrap().unwrap();
        let Message::Update(update) = codec.decode(&frame).unwrap() else { panic!("no UPDATE") };
        let bytes = &bytes[..HEADER_LEN + frame.body().len()];
        compare("packed", bytes, codec, &update);
        prefixes += update.reach.iter().map(|r| r.prefixes.len()).sum::<usize>();
        prefixes += update.unreach.iter().map(|r| r.prefixes.len()).sum::<usize>();
        for reach in &update.reach {
            assert!(
                matches!(reach.next_hop, NextHop::V4(h) if h == hop4)
                    || matches!(reach.next_hop, NextHop::V6 { global, .. } if global == hop6)
            );
        }
    }
    assert!(out.is_empty());
    assert_eq!(prefixes, 2 * (5000 + 1500));
}

/// Marsaglia's xorshift: the same damage on every run and machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }

    /// One to four changes: an octet, a bit, a cut, or a piece of the message put elsewhere in it. The length field
    /// is made to fit most of the time, so that the damage is met by the decoder and not by the framing.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = HEADER_LEN + self.below(bytes.len().saturating_sub(HEADER_LEN));
            match self.below(6) {
                _ if at >= bytes.len() => {}
                0 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, 0x10][self.below(6)],
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes[at] = bytes[at].wrapping_add(1),
                3 => bytes.truncate(at),
                4 => {
                    let piece = bytes[at..bytes.len().min(at + 20)].to_vec();
                    let to = HEADER_LEN + self.below(bytes.len() - HEADER_LEN);
                    bytes.splice(to..to, piece);
                }
                _ => drop(bytes.drain(at..bytes.len().min(at + 1 + self.below(6)))),
            }
        }
        if self.below(16) != 0 {
            let len = u16::try_from(bytes.len().min(4096)).unwrap();
            bytes[16..18].copy_from_slice(&len.to_be_bytes());
        }
    }
}

#[test]
fn damaged_messages_are_survived() {
    const ROUNDS: usize = 200_000;
    let sessions = corpus::sessions();
    let all: Vec<(Codec, &Recorded)> = sessions
        .iter()
        .flat_map(|s| s.messages.iter().map(|m| (s.codec(), m)))
        // The long ones have nothing that the short ones lack, and take most of the time.
        .filter(|(_, m)| m.bytes.len() <= 600 && m.bytes.len() > HEADER_LEN)
        .collect();
    let mut random = Random(0x5107_ce00);
    let (mut refused, mut repaired, mut accepted) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let (codec, recorded) = all[random.below(all.len())];
        let mut bytes = recorded.bytes.clone();
        random.damage(&mut bytes);
        let mut buffer = BytesMut::from(&bytes[..]);
        let result = match Frame::split(&mut buffer) {
            Ok(Some(frame)) => codec.decode(&frame),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match result {
            Err(error) => {
                check_reason(&error.notification);
                refused += 1;
            }
            Ok(Message::Update(update)) if !update.errors.is_empty() => {
                // Treated as withdrawn: nothing is announced.
                let withdraw = update.errors.iter().any(|e| e.action == Action::TreatAsWithdraw);
                assert!(!withdraw || update.reach.is_empty(), "{bytes:02x?}");
                repaired += 1;
            }
            Ok(message) => {
                // What is accepted without complaint can be sent on and means the same.
                let mut out = BytesMut::new();
                if codec.encode(&message, &mut out).is_ok() {
                    let again = Recorded { sender: String::new(), bytes: out.to_vec() };
                    assert_eq!(decode(&codec, &again), message, "{bytes:02x?}");
                }
                accepted += 1;
            }
        }
    }
    println!("refused {refused}, repaired {repaired}, accepted {accepted} of {ROUNDS}");
    assert!(refused > ROUNDS / 20 && repaired > ROUNDS / 20 && accepted > ROUNDS / 20);
}

/// A decoder only speaks of headers, OPENs, UPDATEs and refreshes.
fn check_reason(notification: &Notification) {
    assert!(matches!(notification.code, 1..=3 | 7), "{notification}");
}
