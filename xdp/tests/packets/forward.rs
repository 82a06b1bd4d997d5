//! From clients to backends and back.

use std::net::IpAddr;

use sluice_xdp::NextHop;

use crate::bed::{
    Bed, OTHER_LINK, VIP4, VIP6, Verdict, Want, address, check, end, next_hop, program, tcp, udp,
};
use crate::wire::{ACK, FIN, Packet, RST, SYN};

pub const CLIENT4: &str = "198.51.100.7:40001";
pub const CLIENT6: &str = "[2001:db8:77::7]:40001";
pub const VIP4_TCP: &str = "203.0.113.10:80";
pub const VIP6_TCP: &str = "[2001:db8:113::10]:80";
const VIP4_UDP: &str = "203.0.113.10:53";
const VIP6_UDP: &str = "[2001:db8:113::10]:53";
pub const BACKEND4_TCP: &str = "10.1.0.11:8080";
pub const BACKEND6_TCP: &str = "[2001:db8:1::11]:8080";
const BACKEND4_UDP: &str = "10.1.0.11:5353";
const BACKEND6_UDP: &str = "[2001:db8:1::11]:5353";

/// One backend for each family and protocol.
pub fn standard() -> Bed {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
    bed.serve(tcp(VIP6, 80), &program(&[(BACKEND6_TCP, 1)]));
    bed.serve(udp(VIP4, 53), &program(&[(BACKEND4_UDP, 1)]));
    bed.serve(udp(VIP6, 53), &program(&[(BACKEND6_UDP, 1)]));
    bed
}

/// `packet` as a backend must see it.
pub fn forwarded(packet: &Packet, backend: (IpAddr, u16)) -> Packet {
    let hop = next_hop(backend.0);
    packet.clone().with(|p| {
        p.set_destination(backend);
        p.ttl -= 1;
        (p.source_mac, p.destination_mac) = (hop.source_mac, hop.destination_mac);
    })
}

/// `reply` of a backend as the client must see it, sent the way the client's packets came.
pub fn returned(reply: &Packet, vip: (IpAddr, u16), last_hop: &Packet) -> Packet {
    reply.clone().with(|p| {
        p.set_source(vip);
        p.ttl -= 1;
        (p.source_mac, p.destination_mac) = (last_hop.destination_mac, last_hop.source_mac);
    })
}

/// Every protocol and family, there and back, with the packet that begins the flow, one that finds
/// it in the cache, and one that finds it in the table.
#[test]
fn both_directions() {
    let bed = standard();
    for (client, vip, backend, is_tcp) in [
        (CLIENT4, VIP4_TCP, BACKEND4_TCP, true),
        (CLIENT6, VIP6_TCP, BACKEND6_TCP, true),
        (CLIENT4, VIP4_UDP, BACKEND4_UDP, false),
        (CLIENT6, VIP6_UDP, BACKEND6_UDP, false),
    ] {
        let (client, vip, backend) = (end(client), end(vip), end(backend));
        let make = |from, to, flags, data: &[u8]| {
            if is_tcp { Packet::tcp(from, to, flags) } else { Packet::udp(from, to, data) }
        };
        let first = make(client, vip, SYN, b"one");
        let second = make(client, vip, ACK, b"three");
        let reply = make(backend, client, SYN | ACK, b"four");
        let reply_data = make(backend, client, ACK, b"an odd number of octets!!");
        let rows = [
            ("first packet", first.clone(), Want::Tx(forwarded(&first, backend))),
            ("first packet again", first.clone(), Want::Tx(forwarded(&first, backend))),
            ("cached", second.clone(), Want::Tx(forwarded(&second, backend))),
            ("reply", reply.clone(), Want::Tx(returned(&reply, vip, &first))),
            ("reply with data", reply_data.clone(), Want::Tx(returned(&reply_data, vip, &first))),
            ("cached reply", reply_data.clone(), Want::Tx(returned(&reply_data, vip, &first))),
        ];
        check(&bed, &rows);
    }
    let flows: u64 = bed.snapshot().frontends.values().map(|counters| counters.new_flows).sum();
    assert_eq!(flows, 4, "one flow each");
}

#[test]
fn every_flag_of_tcp_is_forwarded() {
    let bed = standard();
    let (client, vip, backend) = (end(CLIENT4), end(VIP4_TCP), end(BACKEND4_TCP));
    let flags = [SYN, ACK, FIN | ACK, ACK, RST, RST | ACK, SYN, ACK, 0, 0xff];
    let rows: Vec<_> = flags
        .into_iter()
        .map(|flags| {
            let packet = Packet::tcp(client, vip, flags);
            ("flags", packet.clone(), Want::Tx(forwarded(&packet, backend)))
        })
        .collect();
    check(&bed, &rows);
}

#[test]
fn what_a_packet_carries_stays_as_it_was() {
    let bed = standard();
    let (client4, vip4, backend4) = (end(CLIENT4), end(VIP4_TCP), end(BACKEND4_TCP));
    let (client6, vip6, backend6) = (end(CLIENT6), end(VIP6_TCP), end(BACKEND6_TCP));
    let v4 = Packet::tcp(client4, vip4, ACK);
    let v6 = Packet::tcp(client6, vip6, ACK);
    let padded = v4.clone().with(|p| p.trailer = vec![0xee; 10]);
    let hop_by_hop = (0, vec![1, 4, 0, 0, 0, 0]);
    let routing = (43, vec![4, 0, 0, 0, 0, 0]);
    let long_options = (60, [&[1, 12][..], &[0; 12]].concat());
    let cases = [
        ("type of service", v4.clone().with(|p| p.tos = 0xb9), backend4),
        ("traffic class", v6.clone().with(|p| p.tos = 0xb9), backend6),
        ("fragmentation allowed", v4.clone().with(|p| p.dont_fragment = false), backend4),
        ("Ethernet padding", padded, backend4),
        ("TCP options", v4.clone().with(|p| p.tcp_mut().options = vec![1; 40]), backend4),
        ("TTL 2", v4.clone().with(|p| p.ttl = 2), backend4),
        ("TTL 255", v4.clone().with(|p| p.ttl = 255), backend4),
        ("hop limit 2", v6.clone().with(|p| p.ttl = 2), backend6),
        ("1400 octets", v4.clone().with(|p| p.tcp_mut().data = vec![7; 1400]), backend4),
        ("1399 octets", v6.clone().with(|p| p.tcp_mut().data = vec![7; 1399]), backend6),
        ("IPv4 options", v4.clone().with(|p| p.options = vec![7, 7, 4, 0, 0, 0, 0, 0]), backend4),
        ("forty octets of options", v4.clone().with(|p| p.options = vec![1; 40]), backend4),
        (
            "a hop-by-hop header",
            v6.clone().with(|p| p.extensions = vec![hop_by_hop.clone()]),
            backend6,
        ),
        (
            "three extension headers",
            v6.clone().with(|p| p.extensions = vec![hop_by_hop, routing, long_options]),
            backend6,
        ),
        ("an atomic fragment (RFC 6946)", v6.with(|p| p.fragment = Some(ATOMIC)), backend6),
    ];
    let rows: Vec<_> = cases
        .into_iter()
        .map(|(what, packet, backend)| {
            let want = forwarded(&packet, backend);
            (what, packet, Want::Tx(want))
        })
        .collect();
    check(&bed, &rows);
}

const ATOMIC: crate::wire::Fragment = crate::wire::Fragment { offset: 0, more: false };

/// The sums that a 16-bit ones' complement makes special.
#[test]
fn checksums_at_their_limits() {
    let bed = standard();
    let (client, vip, backend) = (end(CLIENT4), end(VIP4_UDP), end(BACKEND4_UDP));
    let mut rows = Vec::new();
    // Over all values of a 16-bit word the sum before and after the rewrite takes every value,
    // 0x0000 and 0xffff included; 0x101 is coprime to 0xffff's factors, so steps meet them all.
    for step in 0..=u16::MAX / 16 {
        let data = (step.wrapping_mul(16)).to_be_bytes();
        let packet = Packet::udp(client, vip, &data);
        rows.push(("a sum", packet.clone(), Want::Tx(forwarded(&packet, backend))));
    }
    let none = Packet::udp(client, vip, b"no sum").with(|p| p.udp_mut().checksum = false);
    rows.push(("no checksum stays none", none.clone(), Want::Tx(forwarded(&none, backend))));
    check(&bed, &rows);
}

/// The one datagram whose sum over the rewritten packet is zero must leave with 0xffff (RFC 768).
#[test]
fn a_sum_that_comes_out_as_zero_is_sent_as_all_ones() {
    let bed = standard();
    for (client, vip, backend, at) in
        [(CLIENT4, VIP4_UDP, BACKEND4_UDP, 40), (CLIENT6, VIP6_UDP, BACKEND6_UDP, 60)]
    {
        let (client, vip, backend) = (end(client), end(vip), end(backend));
        let seed = forwarded(&Packet::udp(client, vip, &[0, 0]), backend).bytes();
        // Adding the checksum itself to the data makes the sum all ones, its complement zero.
        let data = [seed[at], seed[at + 1]];
        let packet = Packet::udp(client, vip, &data);
        let want = forwarded(&packet, backend);
        assert_eq!(want.bytes()[at..at + 2], [0xff, 0xff], "the case is the one it claims to be");
        check(&bed, &[("zero", packet, Want::Tx(want))]);
    }
}

#[test]
fn another_link_is_redirected_to() {
    let mut bed = standard();
    let (client, vip, backend) = (end(CLIENT4), end(VIP4_TCP), end(BACKEND4_TCP));
    let hop = NextHop { link_index: OTHER_LINK, ..next_hop(backend.0) };
    bed.set_next_hop("10.1.0.11", Some(hop));
    let packet = Packet::tcp(client, vip, SYN);
    let want = forwarded(&packet, backend);
    check(&bed, &[("over another link", packet.clone(), Want::Redirect(want.clone()))]);

    // The flow follows when its backend is reached in another way, the cached packet too.
    let data = Packet::tcp(client, vip, ACK);
    let want = forwarded(&data, backend);
    check(&bed, &[("cached", data.clone(), Want::Redirect(want.clone()))]);
    bed.set_next_hop("10.1.0.11", Some(next_hop(backend.0)));
    check(&bed, &[("over the first link again", data.clone(), Want::Tx(want))]);
    bed.set_next_hop("10.1.0.11", None);
    check(&bed, &[("no next hop", data, Want::Drop("no_next_hop"))]);
}

#[test]
fn two_vips_and_ports_may_share_a_backend() {
    let mut bed = Bed::new();
    let second = "203.0.113.11";
    bed.plane.add_vip(second.parse().unwrap()).unwrap();
    bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
    bed.serve(tcp(VIP4, 81), &program(&[(BACKEND4_TCP, 1)]));
    bed.serve(tcp(second, 80), &program(&[(BACKEND4_TCP, 1)]));
    let backend = end(BACKEND4_TCP);
    for (client, vip) in [
        ("198.51.100.7:1001", "203.0.113.10:80"),
        ("198.51.100.7:1002", "203.0.113.10:81"),
        ("198.51.100.7:1003", "203.0.113.11:80"),
    ] {
        let (client, vip) = (end(client), end(vip));
        let first = Packet::tcp(client, vip, SYN);
        let reply = Packet::tcp(backend, client, SYN | ACK);
        let rows = [
            ("there", first.clone(), Want::Tx(forwarded(&first, backend))),
            ("back from the right VIP", reply.clone(), Want::Tx(returned(&reply, vip, &first))),
        ];
        check(&bed, &rows);
    }
}

/// Bytes and packets of each way, at the frontend and at its backend.
#[test]
fn counters_count() {
    let bed = standard();
    let (client, vip, backend) = (end(CLIENT4), end(VIP4_TCP), end(BACKEND4_TCP));
    let there = Packet::tcp(client, vip, ACK);
    let back = Packet::tcp(backend, client, ACK).with(|p| p.tcp_mut().data = vec![1; 100]);
    for _ in 0..3 {
        assert_eq!(bed.send(&there).verdict, Verdict::Tx);
    }
    for _ in 0..2 {
        assert_eq!(bed.send(&back).verdict, Verdict::Tx);
    }
    let snapshot = bed.snapshot();
    let frontend = snapshot.frontends[&tcp(VIP4, 80)];
    assert_eq!(frontend.to_backends.packets, 3);
    assert_eq!(frontend.to_backends.bytes, 3 * there.bytes().len() as u64);
    assert_eq!(frontend.to_clients.packets, 2);
    assert_eq!(frontend.to_clients.bytes, 2 * back.bytes().len() as u64);
    assert_eq!(frontend.new_flows, 1);
    let at_backend = snapshot.backends[&(tcp(VIP4, 80), BACKEND4_TCP.parse().unwrap())];
    assert_eq!(at_backend, frontend);
    let others = snapshot.frontends.iter().filter(|(f, _)| **f != tcp(VIP4, 80));
    assert!(others.into_iter().all(|(_, counters)| *counters == Default::default()));
}

/// A client uses one port towards two VIPs over the same endpoint: once one connection has closed,
/// the backend's packets belong to the one that began last, in whatever order the services are held.
#[test]
fn a_port_used_again_towards_another_vip_of_the_same_backend() {
    const OTHER_VIP: &str = "203.0.113.11";
    let (client, backend) = (end(CLIENT4), end(BACKEND4_TCP));
    let vips = [end(VIP4_TCP), (address(OTHER_VIP), 80)];
    for (old, new) in [(vips[0], vips[1]), (vips[1], vips[0])] {
        let mut bed = Bed::new();
        bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
        bed.serve(tcp(OTHER_VIP, 80), &program(&[(BACKEND4_TCP, 1)]));
        let reply = |flags| Packet::tcp(backend, client, flags);
        let there = |vip, flags| Packet::tcp(client, vip, flags);
        let row = |name, vip, flags| {
            (name, reply(flags), Want::Tx(returned(&reply(flags), vip, &there(vip, SYN))))
        };
        bed.send(&there(old, SYN));
        let first = [
            row("SYN-ACK", old, SYN | ACK),
            row("data", old, ACK),
            row("end", old, FIN | ACK),
            row("after the end", old, ACK),
        ];
        check(&bed, &first);
        // The coarse clock must see the second flow begin later; it ticks every few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        bed.send(&there(new, SYN));
        check(&bed, &[row("SYN-ACK", new, SYN | ACK)]);
        // The client's answer to it, without which no backend goes on.
        bed.send(&there(new, ACK).with(|p| p.tcp_mut().acknowledgment = 0x0102_0305));
        check(&bed, &[row("data", new, ACK)]);
    }
}
