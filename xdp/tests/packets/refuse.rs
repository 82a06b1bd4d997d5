//! What an owned VIP answers itself, what it drops, and what is none of its business.

use std::net::IpAddr;
use std::time::Duration;

use sluice_xdp::{NoBackend, Program};

use crate::bed::{
    Bed, Row, VIP4, VIP6, Verdict, Want, address, check, counted, end, program, tcp, udp,
};
use crate::forward::{CLIENT4, CLIENT6, standard};
use crate::wire::{ACK, Body, FIN, Icmp, Packet, RST, SYN};

/// The answer's outer shape: back where the packet came from, from the VIP, with a fresh TTL.
pub fn answer(packet: &Packet, body: Body) -> Packet {
    Packet::new(packet.destination, packet.source, body).with(|p| {
        (p.source_mac, p.destination_mac) = (packet.destination_mac, packet.source_mac);
        p.id = 0;
        p.vlans.clone_from(&packet.vlans);
    })
}

/// RFC 9293 section 3.10.7.1.
pub fn reset(packet: &Packet, flags: u8, sequence: u32, acknowledgment: u32) -> Packet {
    let Body::Tcp(tcp) = &packet.body else { panic!("not TCP: {packet:?}") };
    let mut answer_tcp = tcp.clone();
    (answer_tcp.source, answer_tcp.destination) = (tcp.destination, tcp.source);
    (answer_tcp.sequence, answer_tcp.acknowledgment) = (sequence, acknowledgment);
    (answer_tcp.flags, answer_tcp.window) = (flags, 0);
    answer_tcp.options.clear();
    answer_tcp.data.clear();
    answer(packet, Body::Tcp(answer_tcp))
}

/// RFC 792 and RFC 4443 section 3.1, quoting IP header and UDP header.
fn port_unreachable(packet: &Packet) -> Packet {
    let is_v4 = packet.source.is_ipv4();
    let (kind, code, quoted_bytes) = if is_v4 { (3, 3, 28) } else { (1, 4, 48) };
    let data = packet.ip_bytes()[..quoted_bytes].to_vec();
    answer(packet, Body::Icmp(Icmp { kind, code, rest: [0; 4], data }))
}

fn refused_segments(client: (IpAddr, u16), vip: (IpAddr, u16), reason: &'static str) -> Vec<Row> {
    let syn = Packet::tcp(client, vip, SYN);
    let sequence = 0x0102_0304;
    let options = syn.clone().with(|p| p.tcp_mut().options = vec![2, 4, 5, 0xb4, 1, 1, 4, 2]);
    let fast_open = syn.clone().with(|p| p.tcp_mut().data = vec![1, 2, 3]);
    let wrapping = syn.clone().with(|p| p.tcp_mut().sequence = u32::MAX);
    let ack = Packet::tcp(client, vip, ACK);
    let fin = Packet::tcp(client, vip, FIN | ACK);
    let null = Packet::tcp(client, vip, 0).with(|p| p.tcp_mut().data = vec![9; 9]);
    let padded = syn.clone().with(|p| p.trailer = vec![0xaa; 6]);
    let reset_syn = |packet: &Packet, next| reset(packet, RST | ACK, 0, next);
    vec![
        ("SYN", syn.clone(), Want::Answer(reason, reset_syn(&syn, sequence + 1))),
        (
            "SYN with options",
            options.clone(),
            Want::Answer(reason, reset_syn(&options, sequence + 1)),
        ),
        (
            "SYN with data",
            fast_open.clone(),
            Want::Answer(reason, reset_syn(&fast_open, sequence + 4)),
        ),
        ("SYN at the wrap", wrapping.clone(), Want::Answer(reason, reset_syn(&wrapping, 0))),
        (
            "SYN with padding",
            padded.clone(),
            Want::Answer(reason, reset_syn(&padded, sequence + 1)),
        ),
        ("ACK", ack.clone(), Want::Answer(reason, reset(&ack, RST, 0x1112_1314, 0))),
        ("FIN", fin.clone(), Want::Answer(reason, reset(&fin, RST, 0x1112_1314, 0))),
        ("no flags", null.clone(), Want::Answer(reason, reset_syn(&null, sequence + 9))),
        ("RST", Packet::tcp(client, vip, RST), Want::Drop(reason)),
        ("RST and ACK", Packet::tcp(client, vip, RST | ACK), Want::Drop(reason)),
    ]
}

fn refused_datagrams(client: (IpAddr, u16), vip: (IpAddr, u16), reason: &'static str) -> Vec<Row> {
    let short = Packet::udp(client, vip, b"");
    let long = Packet::udp(client, vip, &[7; 1000]);
    let padded = short.clone().with(|p| p.trailer = vec![0; 18]);
    let no_sum = short.clone().with(|p| p.udp_mut().checksum = false);
    [("empty", short), ("long", long), ("padded", padded), ("without checksum", no_sum)]
        .into_iter()
        .map(|(what, packet)| {
            let want = port_unreachable(&packet);
            (what, packet, Want::Answer(reason, want))
        })
        .collect()
}

#[test]
fn unknown_ports_are_refused() {
    let bed = standard();
    check(&bed, &refused_segments(end(CLIENT4), end("203.0.113.10:81"), "no_service"));
    check(&bed, &refused_segments(end(CLIENT6), end("[2001:db8:113::10]:81"), "no_service"));
    check(&bed, &refused_datagrams(end(CLIENT4), end("203.0.113.10:81"), "no_service"));
    check(&bed, &refused_datagrams(end(CLIENT6), end("[2001:db8:113::10]:81"), "no_service"));
}

/// A port of one protocol is not a port of the other.
#[test]
fn protocols_do_not_mix() {
    let bed = standard();
    check(&bed, &refused_datagrams(end(CLIENT4), end("203.0.113.10:80"), "no_service"));
    check(&bed, &refused_segments(end(CLIENT4), end("203.0.113.10:53"), "no_service"));
}

#[test]
fn a_vip_without_services_refuses_everything() {
    let bed = Bed::new();
    check(&bed, &refused_segments(end(CLIENT4), end("203.0.113.10:80"), "no_service"));
    check(&bed, &refused_datagrams(end(CLIENT6), end("[2001:db8:113::10]:80"), "no_service"));
}

#[test]
fn a_service_without_backends_refuses_or_drops_as_it_says() {
    let mut bed = Bed::new();
    let reject = program(&[]);
    let drop = Program { no_backend: NoBackend::Drop, ..reject.clone() };
    for (vip, client) in [(VIP4, CLIENT4), (VIP6, CLIENT6)] {
        let client = end(client);
        let at = |port| (address(vip), port);
        for (frontend, program) in [
            (tcp(vip, 80), &reject),
            (udp(vip, 80), &reject),
            (tcp(vip, 81), &drop),
            (udp(vip, 81), &drop),
        ] {
            bed.serve(frontend, program);
        }
        check(&bed, &refused_segments(client, at(80), "no_backend"));
        check(&bed, &refused_datagrams(client, at(80), "no_backend"));
        let rows = [
            ("TCP", Packet::tcp(client, at(81), SYN), Want::Drop("no_backend")),
            ("TCP data", Packet::tcp(client, at(81), ACK), Want::Drop("no_backend")),
            ("UDP", Packet::udp(client, at(81), b"x"), Want::Drop("no_backend")),
        ];
        check(&bed, &rows);
    }
}

/// All backends at weight 0 is no backend, for new flows.
#[test]
fn drained_backends_take_nothing_new() {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &program(&[("10.1.0.11:8080", 0), ("10.1.0.12:8080", 0)]));
    check(&bed, &refused_segments(end(CLIENT4), end("203.0.113.10:80"), "no_backend"));
}

fn echo(client: IpAddr, vip: IpAddr, kind: u8, data: &[u8]) -> Packet {
    let rest = [0x12, 0x34, 0, 1];
    Packet::new(client, vip, Body::Icmp(Icmp { kind, code: 0, rest, data: data.to_vec() }))
}

#[test]
fn echo_is_answered() {
    let bed = standard();
    let mut rows = Vec::new();
    for (client, vip, request, reply) in
        [("198.51.100.7", VIP4, 8, 0), ("2001:db8:77::7", VIP6, 128, 129)]
    {
        for data in [&[0u8; 0][..], &[0x5a; 56], &[0xff; 1401]] {
            for ttl in [1, 64, 255] {
                let packet = echo(address(client), address(vip), request, data).with(|p| {
                    p.ttl = ttl;
                    p.tos = 0x20;
                });
                // The reply keeps what the kernel's would: id and options do not matter to anybody.
                let want = packet.clone().with(|p| {
                    (p.source, p.destination) = (packet.destination, packet.source);
                    (p.source_mac, p.destination_mac) = (packet.destination_mac, packet.source_mac);
                    p.ttl = 64;
                    let Body::Icmp(icmp) = &mut p.body else { unreachable!() };
                    icmp.kind = reply;
                });
                rows.push(("echo", packet, Want::Tx(want)));
            }
        }
    }
    check(&bed, &rows);
    assert_eq!(bed.snapshot().drops.iter().map(|(_, count)| count).sum::<u64>(), 0);
}

#[test]
fn other_icmp_to_a_vip_is_dropped_and_neighbour_discovery_passes() {
    let bed = standard();
    let icmp4 = |kind| echo(address("198.51.100.7"), address(VIP4), kind, &[0; 28]);
    let icmp6 = |kind| echo(address("2001:db8:77::7"), address(VIP6), kind, &[0; 48]);
    let mut rows: Vec<Row> = Vec::new();
    for kind in [0, 3, 5, 9, 11, 13, 17, 255] {
        rows.push(("ICMP", icmp4(kind), Want::Drop("icmp")));
    }
    for kind in [1, 2, 3, 129, 138, 200] {
        rows.push(("ICMPv6", icmp6(kind), Want::Drop("icmp")));
    }
    for kind in 133..=136 {
        rows.push(("neighbour discovery", icmp6(kind), Want::Pass));
    }
    check(&bed, &rows);
}

#[test]
fn other_protocols_to_a_vip_are_dropped() {
    let bed = standard();
    let (client4, client6) = (address("198.51.100.7"), address("2001:db8:77::7"));
    let mut rows: Vec<Row> = Vec::new();
    // GRE, ESP, OSPF, DCCP, an unassigned one, and each family's ICMP over the other.
    for protocol in [47, 50, 89, 33, 253] {
        let body = Body::Raw(protocol, vec![0; 40]);
        rows.push((
            "IPv4",
            Packet::new(client4, address(VIP4), body.clone()),
            Want::Drop("protocol"),
        ));
        rows.push(("IPv6", Packet::new(client6, address(VIP6), body), Want::Drop("protocol")));
    }
    let crossed = Packet::new(client4, address(VIP4), Body::Raw(58, vec![128; 40]));
    rows.push(("ICMPv6 over IPv4", crossed, Want::Drop("protocol")));
    check(&bed, &rows);
}

#[test]
fn what_is_not_ours_passes() {
    let bed = standard();
    let (client4, client6) = (end(CLIENT4), end(CLIENT6));
    let (other4, other6) = (end("203.0.113.11:80"), end("[2001:db8:113::11]:80"));
    let sent_by_vip = Packet::tcp(end("203.0.113.10:80"), client4, ACK);
    let backend_own = Packet::tcp(end("10.1.0.11:8080"), client4, SYN | ACK);
    let backend_ssh = Packet::tcp(end("10.1.0.11:22"), client4, ACK);
    let rows = [
        ("TCP to another address", Packet::tcp(client4, other4, SYN), Want::Pass),
        ("UDP to another address", Packet::udp(client4, other4, b"x"), Want::Pass),
        ("TCP over IPv6", Packet::tcp(client6, other6, SYN), Want::Pass),
        ("UDP over IPv6", Packet::udp(client6, other6, b"x"), Want::Pass),
        ("ping", echo(client4.0, other4.0, 8, &[1; 56]), Want::Pass),
        ("TTL 1", Packet::udp(client4, other4, b"traceroute").with(|p| p.ttl = 1), Want::Pass),
        (
            "a tag",
            Packet::tcp(client4, other4, SYN).with(|p| p.vlans = vec![(0x8100, 5)]),
            Want::Pass,
        ),
        ("from the VIP", sent_by_vip, Want::Pass),
        ("from a backend without flow", backend_own, Want::Pass),
        ("from a backend's other port", backend_ssh, Want::Pass),
        (
            "another protocol",
            Packet::new(client4.0, other4.0, Body::Raw(89, vec![0; 44])),
            Want::Pass,
        ),
    ];
    check(&bed, &rows);
}

#[test]
fn frames_that_are_no_ip_pass() {
    let bed = standard();
    let frames = [
        ("ARP", &[0x08, 0x06][..], 46),
        ("LLDP", &[0x88, 0xcc], 100),
        ("a length, not a type", &[0x00, 0x26], 46),
        ("the shortest", &[0x08, 0x06], 0),
    ];
    for (what, ethertype, bytes) in frames {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 9]);
        frame.extend(ethertype);
        frame.extend(vec![0x5a; bytes]);
        let ran = bed.send_bytes(&frame);
        assert_eq!((ran.verdict, &ran.bytes), (Verdict::Pass, &frame), "{what}");
    }
}

/// Never an answer to a group, to nobody or from a group (RFC 1122 3.2.2, RFC 4443 2.4 e).
#[test]
fn some_senders_get_no_answer() {
    let bed = standard();
    let mut failures = Vec::new();
    for (source, vip) in [
        ("0.0.0.0:9", "203.0.113.10:81"),
        ("127.0.0.1:9", "203.0.113.10:81"),
        ("224.0.0.1:9", "203.0.113.10:81"),
        ("255.255.255.255:9", "203.0.113.10:81"),
        ("[::]:9", "[2001:db8:113::10]:81"),
        ("[ff02::1]:9", "[2001:db8:113::10]:81"),
    ] {
        let (source, vip) = (end(source), end(vip));
        for packet in [Packet::tcp(source, vip, SYN), Packet::udp(source, vip, b"x")] {
            if bed.send(&packet).verdict != Verdict::Drop {
                failures.push(source);
            }
        }
    }
    let to_group = Packet::tcp(end(CLIENT4), end("203.0.113.10:81"), SYN)
        .with(|p| p.destination_mac = [1, 0, 0x5e, 0, 0, 1]);
    assert_eq!(bed.send(&to_group).verdict, Verdict::Drop, "frames to a group");
    assert!(failures.is_empty(), "answered {failures:?}");
}

/// A port scan over UDP must not make us a source of ICMP floods.
#[test]
fn port_unreachables_are_limited() {
    let bed = standard();
    let packet = Packet::udp(end(CLIENT4), end("203.0.113.10:81"), b"x");
    let before = bed.snapshot();
    let verdicts: Vec<_> = (0..500).map(|_| bed.send(&packet).verdict).collect();
    let answered = verdicts.iter().filter(|verdict| **verdict == Verdict::Tx).count();
    let dropped = verdicts.iter().filter(|verdict| **verdict == Verdict::Drop).count();
    assert_eq!(answered + dropped, 500);
    assert!(answered > 0 && dropped > 0, "{answered} answered, {dropped} dropped");
    assert_eq!(counted(&before, &bed.snapshot()), [("no_service", 500)]);
}

/// Time passes in these tests only where a flow must expire.
#[test]
fn expired_flows_are_chosen_again() {
    let mut bed = Bed::new();
    let short = Program { idle_timeout: Duration::from_secs(1), ..program(&[("10.1.0.11:53", 1)]) };
    bed.serve(udp(VIP4, 53), &short);
    let packet = Packet::udp(end(CLIENT4), end("203.0.113.10:53"), b"x");
    assert_eq!(bed.send(&packet).verdict, Verdict::Tx);
    assert_eq!(bed.plane.sweep().unwrap(), 1);
    // Beyond the time-out and beyond what the cache keeps without looking.
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(bed.plane.sweep().unwrap(), 0);
    assert_eq!(bed.send(&packet).verdict, Verdict::Tx);
    let new_flows = bed.snapshot().frontends[&udp(VIP4, 53)].new_flows;
    assert_eq!(new_flows, 2);
}
