//! SCTP: there and back, with sums over the whole of each packet.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use sluice_xdp::Program;

use crate::bed::{
    Bed, Row, VIP4, VIP6, Verdict, Want, address, check, end, program, sctp, socket, tcp,
};
use crate::forward::{forwarded, returned};
use crate::wire::{ACK, Chunk, FIN, Fragment, Packet, RST, SYN};

pub type End = (IpAddr, u16);

pub const CLIENT4: &str = "198.51.100.7:40001";
pub const CLIENT6: &str = "[2001:db8:77::7]:40001";
pub const VIP4_SCTP: &str = "203.0.113.10:38412";
pub const VIP6_SCTP: &str = "[2001:db8:113::10]:38412";
pub const BACKEND4: &str = "10.1.0.11:48412";
pub const BACKEND6: &str = "[2001:db8:1::11]:48412";

/// Chunks that do to an association what these flags do to a connection.
pub fn chunks(from: End, to: End, flags: u8) -> Packet {
    let chunk = match flags {
        SYN => Chunk::init(Chunk::INIT, 7),
        flags if flags == SYN | ACK => Chunk::init(Chunk::INIT_ACK, 8),
        flags if flags & RST != 0 => Chunk::new(Chunk::ABORT, &[]),
        flags if flags & FIN != 0 => Chunk::new(Chunk::SHUTDOWN_COMPLETE, &[]),
        _ => Chunk::data(b"some data"),
    };
    Packet::sctp(from, to, &[chunk])
}

/// One backend of each family, at another port.
pub fn standard() -> Bed {
    let mut bed = Bed::new();
    bed.serve(sctp(VIP4, 38412), &program(&[(BACKEND4, 1)]));
    bed.serve(sctp(VIP6, 38412), &program(&[(BACKEND6, 1)]));
    bed
}

/// Client, VIP and backend, by family.
pub fn families() -> [(End, End, End); 2] {
    [(end(CLIENT4), end(VIP4_SCTP), end(BACKEND4)), (end(CLIENT6), end(VIP6_SCTP), end(BACKEND6))]
}

#[test]
fn an_association_from_beginning_to_end() {
    let bed = standard();
    for (client, vip, backend) in families() {
        let first = chunks(client, vip, SYN);
        let there = |what, chunks: &[Chunk]| {
            let packet = Packet::sctp(client, vip, chunks);
            (what, packet.clone(), Want::Tx(forwarded(&packet, backend)))
        };
        let back = |what, chunks: &[Chunk]| {
            let packet = Packet::sctp(backend, client, chunks);
            (what, packet.clone(), Want::Tx(returned(&packet, vip, &first)))
        };
        let (data, empty) = (Chunk::data(b"four"), |kind| Chunk::new(kind, &[]));
        let sack = Chunk::new(Chunk::SACK, &[9; 12]);
        let rows = [
            there("INIT", &[Chunk::init(Chunk::INIT, 7)]),
            back("INIT ACK", &[Chunk::init(Chunk::INIT_ACK, 8)]),
            there(
                "COOKIE ECHO and data",
                &[Chunk::new(Chunk::COOKIE_ECHO, &[5; 99]), data.clone()],
            ),
            back("COOKIE ACK and SACK", &[empty(Chunk::COOKIE_ACK), sack.clone()]),
            there("data", std::slice::from_ref(&data)),
            there("cached", &[sack.clone(), data.clone(), data.clone()]),
            back("data", &[data.clone(), data.clone(), data.clone(), data]),
            back("cached", std::slice::from_ref(&sack)),
            there("heartbeat", &[Chunk::new(Chunk::HEARTBEAT, &[4; 40])]),
            there("SHUTDOWN", &[Chunk::new(Chunk::SHUTDOWN, &[0; 4])]),
            back("SHUTDOWN ACK", &[empty(Chunk::SHUTDOWN_ACK)]),
            there("SHUTDOWN COMPLETE", &[empty(Chunk::SHUTDOWN_COMPLETE)]),
            back("late", &[sack]),
        ];
        check(&bed, &rows);
    }
    let flows: u64 = bed.snapshot().frontends.values().map(|counters| counters.new_flows).sum();
    assert_eq!(flows, 2, "one flow each");
}

/// The change of a port is moved past whatever follows, both ways.
#[test]
fn sums_are_right_at_any_length() {
    let bed = standard();
    let lengths = (0..130).chain([500, 1400, 1451, 1452, 2000, 2020, 2021, 2040, 3000, 3400]);
    for (client, vip, backend) in families() {
        let mut rows: Vec<Row> = Vec::new();
        let first = chunks(client, vip, SYN);
        bed.send(&first);
        for len in lengths.clone() {
            let data: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
            let there = Packet::sctp(client, vip, &[Chunk::data(&data)]);
            let back = Packet::sctp(backend, client, &[Chunk::data(&data)]);
            rows.push(("there", there.clone(), Want::Tx(forwarded(&there, backend))));
            rows.push(("back", back.clone(), Want::Tx(returned(&back, vip, &first))));
        }
        check(&bed, &rows);
    }
}

/// Not a multiple of four, which no sender makes and every receiver would discard: the sum is right all the same.
#[test]
fn a_packet_of_an_odd_length_keeps_its_sum() {
    let bed = standard();
    let (client, vip, backend) = (end(CLIENT4), end(VIP4_SCTP), end(BACKEND4));
    for cut in 1..4 {
        let cut_off = |packet: &Packet| {
            let mut bytes = packet.bytes();
            bytes.truncate(bytes.len() - cut);
            let len = (bytes.len() - 14) as u16;
            bytes[16..18].copy_from_slice(&len.to_be_bytes());
            bytes[24..26].fill(0);
            let sum = crate::wire::checksum(&bytes[14..34]).to_be_bytes();
            bytes[24..26].copy_from_slice(&sum);
            bytes[42..46].fill(0);
            let sum = crate::wire::crc32c(&bytes[34..]).to_le_bytes();
            bytes[42..46].copy_from_slice(&sum);
            bytes
        };
        let packet = Packet::sctp(client, vip, &[Chunk::data(&[3; 40])]);
        let ran = bed.send_bytes(&cut_off(&packet));
        assert_eq!(ran.verdict, Verdict::Tx);
        assert_eq!(ran.bytes, cut_off(&forwarded(&packet, backend)), "{cut} octets less");
    }
}

/// Nothing of the packet but the addresses differs, so its sum is as it came, even where it was wrong.
#[test]
fn the_sum_stays_when_the_port_does() {
    let mut bed = Bed::new();
    bed.serve(sctp(VIP4, 38412), &program(&[("10.1.0.11:38412", 1)]));
    let packet = Packet::sctp(end(CLIENT4), end(VIP4_SCTP), &[Chunk::data(b"some")]);
    let mut bytes = packet.bytes();
    bytes[42..46].copy_from_slice(&[1, 2, 3, 4]);
    let ran = bed.send_bytes(&bytes);
    assert_eq!((ran.verdict, &ran.bytes[42..46]), (Verdict::Tx, &[1, 2, 3, 4][..]));
}

#[test]
fn what_a_packet_carries_stays_as_it_was() {
    let bed = standard();
    let [(client4, vip4, backend4), (client6, vip6, backend6)] = families();
    let v4 = chunks(client4, vip4, ACK);
    let v6 = chunks(client6, vip6, ACK);
    let cases = [
        ("type of service", v4.clone().with(|p| p.tos = 0xb9), backend4),
        ("padding", v4.clone().with(|p| p.trailer = vec![0xee; 10]), backend4),
        ("IPv4 options", v4.clone().with(|p| p.options = vec![1; 40]), backend4),
        ("traffic class", v6.clone().with(|p| p.tos = 0xb9), backend6),
        ("a header more", v6.with(|p| p.extensions = vec![(0, vec![1, 4, 0, 0, 0, 0])]), backend6),
    ];
    let rows: Vec<Row> = cases
        .into_iter()
        .map(|(what, packet, backend)| {
            let want = forwarded(&packet, backend);
            (what, packet, Want::Tx(want))
        })
        .collect();
    check(&bed, &rows);
}

#[test]
fn broken_packets_and_fragments_are_dropped() {
    let bed = standard();
    for (client, vip, _) in families() {
        let raw = |bytes: &[u8]| {
            let body = crate::wire::Body::Raw(crate::wire::SCTP, bytes.to_vec());
            Packet::new(client.0, vip.0, body)
        };
        let header = [[0x9c, 0x41], vip.1.to_be_bytes()].concat();
        let alone = [&header[..], &[0; 8]].concat();
        let part = [&alone[..], &[0, 0, 0]].concat();
        let fragment = Some(Fragment { offset: 0, more: true });
        let whole = chunks(client, vip, ACK).with(|p| p.dont_fragment = false);
        let rows = [
            ("nothing", raw(&[]), Want::Drop("malformed")),
            ("ports alone", raw(&header), Want::Drop("malformed")),
            ("no chunk", raw(&alone), Want::Drop("malformed")),
            ("a part of one", raw(&part), Want::Drop("malformed")),
            ("a fragment", whole.with(|p| p.fragment = fragment), Want::Drop("fragment")),
            ("no TTL", chunks(client, vip, ACK).with(|p| p.ttl = 1), Want::Drop("ttl_expired")),
        ];
        check(&bed, &rows);
        let bytes = chunks(client, vip, ACK).bytes();
        let known_at = if client.0.is_ipv4() { 34 } else { 54 };
        for length in 14..bytes.len() {
            let want = if length < known_at { Verdict::Pass } else { Verdict::Drop };
            assert_eq!(bed.send_bytes(&bytes[..length]).verdict, want, "{length} octets");
        }
    }
}

#[test]
fn what_is_not_ours_passes() {
    let bed = standard();
    let [(client4, vip4, backend4), (client6, ..)] = families();
    let rows = [
        ("another address", chunks(client4, end("203.0.113.11:38412"), SYN), Want::Pass),
        ("over IPv6", chunks(client6, end("[2001:db8:113::11]:38412"), SYN), Want::Pass),
        ("from a backend without flow", chunks(backend4, client4, ACK), Want::Pass),
        ("from the VIP", chunks(vip4, client4, ACK), Want::Pass),
    ];
    check(&bed, &rows);
}

/// A port of SCTP is nobody else's, and the other way round.
#[test]
fn protocols_do_not_mix() {
    let mut bed = standard();
    bed.serve(tcp(VIP4, 38412), &program(&[("10.1.0.12:80", 1)]));
    let (client, vip) = (end(CLIENT4), end(VIP4_SCTP));
    assert_eq!(bed.backend_of(&Packet::tcp(client, vip, SYN)), socket("10.1.0.12:80"));
    assert_eq!(bed.backend_of(&chunks(client, vip, SYN)), socket(BACKEND4));
    assert_eq!(bed.backend_of(&Packet::tcp(client, vip, ACK)), socket("10.1.0.12:80"));
    assert_eq!(bed.backend_of(&chunks(client, vip, ACK)), socket(BACKEND4));
}

#[test]
fn affinity_and_source_ranges_hold_for_sctp_too() {
    let mut bed = Bed::new();
    let ranges = vec!["198.51.100.0/24".parse().unwrap()];
    let sticky = Program {
        affinity: Some(Duration::from_secs(60)),
        source_ranges: ranges,
        ..program(
            &["10.1.0.11:48412", "10.1.0.12:48412", "10.1.0.13:48412"].map(|backend| (backend, 1)),
        )
    };
    bed.serve(sctp(VIP4, 38412), &sticky);
    let vip = end(VIP4_SCTP);
    let of = |port| bed.backend_of(&chunks((address("198.51.100.7"), port), vip, SYN));
    let backends: BTreeSet<_> = (5000..5020).map(of).collect();
    assert_eq!(backends.len(), 1);
    check(&bed, &[("outside", chunks(end("192.0.2.1:9"), vip, SYN), Want::Drop("source_range"))]);
}
