//! Fragments, tags, expired and broken packets.

use crate::bed::{Row, VIP6, Verdict, Want, address, check, end};
use crate::forward::{
    BACKEND4_TCP, BACKEND6_TCP, CLIENT4, CLIENT6, VIP4_TCP, VIP6_TCP, forwarded, standard,
};
use crate::wire::{ACK, Body, Fragment, Packet, SYN, TCP, UDP};

#[test]
fn fragments_to_a_vip_are_dropped() {
    let bed = standard();
    let first = Fragment { offset: 0, more: true };
    let middle = Fragment { offset: 1480, more: true };
    let last = Fragment { offset: 2960, more: false };
    let mut rows: Vec<Row> = Vec::new();
    for (what, fragment) in [("first", first), ("middle", middle), ("last", last)] {
        for (client, vip) in [(CLIENT4, VIP4_TCP), (CLIENT6, VIP6_TCP)] {
            let whole = Packet::tcp(end(client), end(vip), ACK).with(|p| p.dont_fragment = false);
            let packet = whole.with(|p| p.fragment = Some(fragment));
            rows.push((what, packet, Want::Drop("fragment")));
        }
    }
    check(&bed, &rows);
}

#[test]
fn tags_to_a_vip_are_dropped() {
    let bed = standard();
    let mut rows: Vec<Row> = Vec::new();
    for (client, vip) in [(CLIENT4, VIP4_TCP), (CLIENT6, VIP6_TCP)] {
        let packet = Packet::tcp(end(client), end(vip), SYN);
        for vlans in
            [vec![(0x8100, 5)], vec![(0x88a8, 5), (0x8100, 6)], vec![(0x8100, 1), (0x8100, 2)]]
        {
            let tagged = packet.clone().with(|p| p.vlans = vlans);
            rows.push(("a tag", tagged, Want::Drop("vlan_tagged")));
        }
    }
    check(&bed, &rows);
}

/// A packet that may not live another hop is not forwarded (RFC 1812 5.2.3, RFC 8200 section 3).
#[test]
fn ttl_expires() {
    let bed = standard();
    for (client, vip, backend) in
        [(CLIENT4, VIP4_TCP, BACKEND4_TCP), (CLIENT6, VIP6_TCP, BACKEND6_TCP)]
    {
        let (client, vip, backend) = (end(client), end(vip), end(backend));
        let open = Packet::tcp(client, vip, SYN);
        let at = |ttl| Packet::tcp(client, vip, ACK).with(|p| p.ttl = ttl);
        let reply = |ttl| Packet::tcp(backend, client, ACK).with(|p| p.ttl = ttl);
        let rows = [
            ("1, first packet", open.clone().with(|p| p.ttl = 1), Want::Drop("ttl_expired")),
            ("64", open.clone(), Want::Tx(forwarded(&open, backend))),
            ("1", at(1), Want::Drop("ttl_expired")),
            ("0", at(0), Want::Drop("ttl_expired")),
            ("a reply's 1", reply(1), Want::Drop("ttl_expired")),
            ("2", at(2), Want::Tx(forwarded(&at(2), backend))),
        ];
        check(&bed, &rows);
    }
}

/// Every prefix of a valid packet: what is cut must never be forwarded, answered or passed once its
/// destination can be read.
#[test]
fn truncated_packets_are_dropped() {
    let bed = standard();
    let mut failures = Vec::new();
    for (packet, known_at) in [
        (Packet::tcp(end(CLIENT4), end(VIP4_TCP), ACK), 34),
        (Packet::udp(end(CLIENT4), end("203.0.113.10:53"), b"payload"), 34),
        (Packet::tcp(end(CLIENT6), end(VIP6_TCP), ACK), 54),
        (Packet::udp(end(CLIENT6), end("[2001:db8:113::10]:53"), b"payload"), 54),
    ] {
        let bytes = packet.bytes();
        for length in 14..bytes.len() {
            let ran = bed.send_bytes(&bytes[..length]);
            let want = if length < known_at { Verdict::Pass } else { Verdict::Drop };
            if ran.verdict != want || ran.bytes != bytes[..length] {
                failures.push((packet.source, length, ran.verdict));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// Headers that contradict themselves, by byte and offset in the frame.
#[test]
fn contradictions_are_dropped() {
    let bed = standard();
    let v4 =
        Packet::tcp(end(CLIENT4), end(VIP4_TCP), ACK).with(|p| p.dont_fragment = false).bytes();
    let v6 = Packet::tcp(end(CLIENT6), end(VIP6_TCP), ACK).bytes();
    let udp = Packet::udp(end(CLIENT4), end("203.0.113.10:53"), b"12345678").bytes();
    let cases = [
        ("IPv4: version 5", &v4, vec![(14, 0x55)]),
        ("IPv4: header of 16 octets", &v4, vec![(14, 0x44)]),
        ("IPv4: header beyond the packet", &v4, vec![(14, 0x4f)]),
        ("IPv4: total length 0", &v4, vec![(16, 0), (17, 0)]),
        ("IPv4: total length below the header's", &v4, vec![(16, 0), (17, 19)]),
        ("IPv4: total length without transport", &v4, vec![(16, 0), (17, 20)]),
        ("IPv4: total length cuts TCP", &v4, vec![(16, 0), (17, 39)]),
        ("IPv4: total length beyond the frame", &v4, vec![(16, 0xff)]),
        ("IPv4: UDP header cut", &udp, vec![(16, 0), (17, 27)]),
        ("IPv6: version 4", &v6, vec![(14, 0x40)]),
        ("IPv6: payload length 0", &v6, vec![(18, 0), (19, 0)]),
        ("IPv6: payload length cuts TCP", &v6, vec![(18, 0), (19, 19)]),
        ("IPv6: payload length beyond the frame", &v6, vec![(18, 0xff)]),
    ];
    let mut failures = Vec::new();
    for (what, bytes, changes) in cases {
        let mut bytes = bytes.clone();
        for (offset, value) in changes {
            bytes[offset] = value;
        }
        let before = bed.snapshot();
        let ran = bed.send_bytes(&bytes);
        let reasons = crate::bed::counted(&before, &bed.snapshot());
        if ran.verdict != Verdict::Drop || reasons != [("malformed", 1)] || ran.bytes != bytes {
            failures.push(format!("{what}: {:?}, {reasons:?}", ran.verdict));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn endless_extension_headers_are_dropped() {
    let bed = standard();
    let (client, vip) = (address("2001:db8:77::7"), address(VIP6));
    let options = (60, vec![1, 4, 0, 0, 0, 0]);
    let deep =
        Packet::tcp(end(CLIENT6), end(VIP6_TCP), ACK).with(|p| p.extensions = vec![options; 20]);
    // Lengths that point beyond the payload, in the first header and in the last.
    let overlong = Packet::new(client, vip, Body::Raw(60, [&[TCP, 200][..], &[0; 60]].concat()));
    let nothing = Packet::new(client, vip, Body::Raw(60, vec![UDP, 0, 1, 4, 0, 0, 0, 0]));
    let cut = Packet::new(client, vip, Body::Raw(60, vec![TCP, 0, 1]));
    let mut failures = Vec::new();
    for (what, packet) in
        [("twenty", deep), ("overlong", overlong), ("nothing behind", nothing), ("cut", cut)]
    {
        let ran = bed.send(&packet);
        if ran.verdict != Verdict::Drop {
            failures.push((what, ran.verdict));
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}
