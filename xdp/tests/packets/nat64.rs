//! NAT64: an IPv6 VIP with IPv4 backends, which see an address of ours and answer to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use sluice_xdp::{Frontend, Program, ProgramError, Protocol};

use crate::bed::{
    Bed, NAT64_SOURCE, Row, VIP4, VIP6, Verdict, Want, address, check, counted, end, isolate,
    next_hop, options, program, sctp, sh, tcp, udp,
};
use crate::forward::returned;
use crate::full_nat::source;
use crate::sctp::chunks;
use crate::wire::{ACK, Body, FIN, Fragment, ICMP, Icmp, Packet, RST, SYN, TCP};

pub const BACKEND: &str = "10.1.0.11:8080";
pub const CLIENT: &str = "[2001:db8:77::7]:40001";

pub type End = (IpAddr, u16);

pub fn vip(frontend: &Frontend) -> End {
    (frontend.vip, frontend.port)
}

fn packet(frontend: &Frontend, from: End, to: End, flags: u8) -> Packet {
    match frontend.protocol {
        Protocol::Tcp => Packet::tcp(from, to, flags),
        Protocol::Udp => Packet::udp(from, to, &[flags; 9]),
        Protocol::Sctp => chunks(from, to, flags),
    }
}

/// A client's `packet` as a backend must see it: built anew as IPv4, with sums over all of it.
pub fn as_v4(packet: &Packet, backend: End, port: u16) -> Packet {
    let hop = next_hop(backend.0);
    packet.clone().with(|p| {
        p.set_source((NAT64_SOURCE.into(), port));
        p.set_destination(backend);
        p.ttl -= 1;
        (p.id, p.dont_fragment) = (0, true);
        p.extensions.clear();
        (p.source_mac, p.destination_mac) = (hop.source_mac, hop.destination_mac);
    })
}

/// A backend's `reply` as the client must see it.
pub fn as_v6(reply: &Packet, first: &Packet, client: End, vip: End) -> Packet {
    returned(reply, vip, first).with(|p| {
        p.set_destination(client);
        p.options.clear();
    })
}

/// A bed with one frontend and its only backend.
pub fn bed(frontend: Frontend) -> Bed {
    let mut bed = Bed::new();
    bed.serve(frontend, &program(&[(BACKEND, 1)]));
    bed
}

/// Opens a flow; returns its source port.
pub fn open(bed: &Bed, first: &Packet) -> u16 {
    let ran = bed.send(first);
    assert_eq!(ran.verdict, Verdict::Tx, "not forwarded: {first:?}");
    let from = source(&ran.bytes);
    assert_eq!(from.ip(), NAT64_SOURCE);
    from.port()
}

#[test]
fn both_directions() {
    let mut bed = Bed::new();
    for frontend in [tcp(VIP6, 80), udp(VIP6, 53), sctp(VIP6, 38412)] {
        bed.serve(frontend, &program(&[(BACKEND, 1)]));
        let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
        let marked = |p: &mut Packet| (p.tos, p.ttl) = (0xb9, 17);
        let first = packet(&frontend, client, vip, SYN).with(marked);
        let port = open(&bed, &first);
        let us = (NAT64_SOURCE.into(), port);
        let data = packet(&frontend, client, vip, ACK);
        let reply = packet(&frontend, backend, us, SYN | ACK).with(marked);
        let more = packet(&frontend, backend, us, ACK).with(|p| p.dont_fragment = false);
        let rows = [
            ("first again", first.clone(), Want::Tx(as_v4(&first, backend, port))),
            ("data", data.clone(), Want::Tx(as_v4(&data, backend, port))),
            ("reply", reply.clone(), Want::Tx(as_v6(&reply, &first, client, vip))),
            ("reply data", more.clone(), Want::Tx(as_v6(&more, &first, client, vip))),
        ];
        check(&bed, &rows);
        let counters = bed.snapshot().frontends[&frontend];
        assert_eq!((counters.to_backends.packets, counters.to_clients.packets), (3, 2));
        let lengths = (2 * first.bytes().len() + data.bytes().len()) as u64;
        assert_eq!(counters.to_backends.bytes, lengths, "frames count as they came");
        assert_eq!(counters.new_flows, 1);
    }
}

/// Sums stay right whatever they cover: every length and content of a datagram, and the sum that is zero.
#[test]
fn sums_are_right_for_any_payload() {
    let frontend = udp(VIP6, 53);
    let bed = bed(frontend);
    let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
    let first = Packet::udp(client, vip, b"x");
    let port = open(&bed, &first);
    let us = (NAT64_SOURCE.into(), port);
    let mut rows: Vec<Row> = Vec::new();
    for n in 0..600u32 {
        let len = n as usize % 70;
        let payload: Vec<u8> =
            (0..len).map(|at| (n.wrapping_mul(0x9e37_79b1) >> (at % 25)) as u8).collect();
        let there = Packet::udp(client, vip, &payload);
        let back = Packet::udp(backend, us, &payload);
        rows.push(("there", there.clone(), Want::Tx(as_v4(&there, backend, port))));
        rows.push(("back", back.clone(), Want::Tx(as_v6(&back, &first, client, vip))));
    }
    // Two octets that make the sum of the translated datagram zero, which is sent as all ones.
    for (made, translated) in [
        (
            Packet::udp(client, vip, &[0, 0]),
            as_v4(&Packet::udp(client, vip, &[0, 0]), backend, port),
        ),
        (Packet::udp(backend, us, &[0, 0]), {
            as_v6(&Packet::udp(backend, us, &[0, 0]), &first, client, vip)
        }),
    ] {
        let ip = translated.ip_bytes();
        let at = if translated.source.is_ipv4() { 20 } else { 40 } + 6;
        let zeroing = [ip[at], ip[at + 1]];
        let with = |packet: Packet| packet.with(|p| p.udp_mut().data = zeroing.to_vec());
        let (made, translated) = (with(made), with(translated));
        let ip = translated.ip_bytes();
        assert_eq!(ip[at..at + 2], [0xff, 0xff], "not the case this row is for");
        rows.push(("zero sum", made, Want::Tx(translated)));
    }
    check(&bed, &rows);
}

#[test]
fn options_and_extension_headers_are_left_out() {
    let frontend = tcp(VIP6, 80);
    let bed = bed(frontend);
    let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
    let first = Packet::tcp(client, vip, SYN).with(|p| {
        p.extensions = vec![
            (0, vec![1, 4, 0, 0, 0, 0]),
            (60, vec![1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ];
    });
    let port = open(&bed, &first);
    let us = (NAT64_SOURCE.into(), port);
    let data = Packet::tcp(client, vip, ACK);
    // Router alert, and what fills the frame up to the least an Ethernet carries.
    let reply = Packet::tcp(backend, us, ACK).with(|p| p.options = vec![0x94, 4, 0, 0]);
    let long = Packet::tcp(backend, us, ACK).with(|p| p.options = vec![1; 40]);
    let padded = Packet::tcp(backend, us, SYN | ACK).with(|p| p.trailer = vec![0; 6]);
    let rows = [
        ("extension headers", first.clone(), Want::Tx(as_v4(&first, backend, port))),
        ("none", data.clone(), Want::Tx(as_v4(&data, backend, port))),
        ("options", reply.clone(), Want::Tx(as_v6(&reply, &data, client, vip))),
        ("many options", long.clone(), Want::Tx(as_v6(&long, &data, client, vip))),
        ("padding", padded.clone(), Want::Tx(as_v6(&padded, &data, client, vip))),
    ];
    check(&bed, &rows);
}

#[test]
fn the_last_hop_is_not_translated() {
    let frontend = tcp(VIP6, 80);
    let bed = bed(frontend);
    let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
    let port = open(&bed, &Packet::tcp(client, vip, SYN));
    let last = |packet: Packet| packet.with(|p| p.ttl = 1);
    let there = last(Packet::tcp(client, vip, ACK));
    let back = last(Packet::tcp(backend, (NAT64_SOURCE.into(), port), ACK));
    check(
        &bed,
        &[("there", there, Want::Drop("ttl_expired")), ("back", back, Want::Drop("ttl_expired"))],
    );
}

/// Many clients with one port: each gets a port of its own, none of the kernel's, and its own replies.
#[test]
fn ports_never_collide() {
    let mut bed = Bed::new();
    for frontend in [tcp(VIP6, 80), udp(VIP6, 53)] {
        bed.serve(frontend, &program(&[(BACKEND, 1)]));
        let (backend, vip) = (end(BACKEND), vip(&frontend));
        let mut given = BTreeMap::new();
        for n in 1..=300u16 {
            let client = (address(&format!("2001:db8:77::{n:x}")), 40_001);
            let port = open(&bed, &packet(&frontend, client, vip, SYN));
            assert!((1024..=32_767).contains(&port), "{port} may be one of the kernel's own");
            assert_eq!(given.insert(port, client), None, "{port} is given twice");
        }
        for (port, client) in given {
            let first = packet(&frontend, client, vip, SYN);
            let reply = packet(&frontend, backend, (NAT64_SOURCE.into(), port), ACK);
            let want = as_v6(&reply, &first, client, vip);
            check(&bed, &[("its own reply", reply, Want::Tx(want))]);
        }
    }
}

#[test]
fn exhausted_ports_are_counted() {
    let frontend = tcp(VIP6, 80);
    let mut bed = bed(frontend);
    bed.take_all_ports(end(BACKEND), NAT64_SOURCE.into(), TCP.into());
    let first = Packet::tcp(end(CLIENT), vip(&frontend), SYN);
    check(&bed, &[("none is free", first.clone(), Want::Drop("nat_ports"))]);
    assert_eq!(bed.plane.sweep().unwrap(), 0);
    assert_eq!(bed.claimed_ports(), 0, "they were nobody's");
    open(&bed, &first);
}

/// What is for our address and of no flow is the kernel's: health checks go from there, too.
#[test]
fn unknown_replies_pass() {
    let frontend = tcp(VIP6, 80);
    let bed = bed(frontend);
    let port = open(&bed, &Packet::tcp(end(CLIENT), vip(&frontend), SYN));
    let (backend, us) = (end(BACKEND), (NAT64_SOURCE.into(), port));
    let other_port = (us.0, port + 1);
    let icmp = Icmp { kind: 3, code: 3, rest: [0; 4], data: vec![0; 28] };
    let fragment = Some(Fragment { offset: 0, more: true });
    assert_eq!(ICMP, 1);
    check(
        &bed,
        &[
            ("another port of ours", Packet::tcp(backend, other_port, ACK), Want::Pass),
            ("the kernel's own", Packet::tcp(backend, (us.0, 45_000), SYN | ACK), Want::Pass),
            ("from another port", Packet::tcp((backend.0, 8081), us, ACK), Want::Pass),
            ("from another host", Packet::tcp(end("10.1.0.12:8080"), us, ACK), Want::Pass),
            ("another protocol", Packet::udp(backend, us, b"x"), Want::Pass),
            ("an error", Packet::new(backend.0, us.0, Body::Icmp(icmp)), Want::Pass),
            (
                "a fragment",
                Packet::tcp(backend, us, ACK).with(|p| p.fragment = fragment),
                Want::Pass,
            ),
        ],
    );
}

#[test]
fn a_reply_of_a_flow_that_is_over_passes() {
    let frontend = udp(VIP6, 53);
    let mut bed = bed(frontend);
    let port = open(&bed, &Packet::udp(end(CLIENT), vip(&frontend), b"x"));
    let reply = Packet::udp(end(BACKEND), (NAT64_SOURCE.into(), port), b"y");
    bed.serve(frontend, &program(&[("10.1.0.12:8080", 1)]));
    check(&bed, &[("its backend is gone", reply.clone(), Want::Pass)]);
    bed.age_flows(Duration::from_secs(301));
    bed.plane.sweep().unwrap();
    assert_eq!(bed.claimed_ports(), 0);
    check(&bed, &[("its port is nobody's", reply, Want::Pass)]);
}

/// IPv4 allows datagrams without a sum. IPv6 does not, so replies are given one.
#[test]
fn datagrams_without_a_sum() {
    let frontend = udp(VIP6, 53);
    let bed = bed(frontend);
    let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
    let first = Packet::udp(client, vip, b"x");
    let us = (NAT64_SOURCE.into(), open(&bed, &first));
    let without = |packet: Packet| packet.with(|p| p.udp_mut().checksum = false);
    let mut rows: Vec<Row> =
        vec![("IPv6", without(Packet::udp(client, vip, b"x")), Want::Drop("malformed"))];
    for len in (0..100).chain([1471, 1472, 3000]) {
        let data: Vec<u8> = (0..len).map(|at: usize| (at * 37 + len) as u8).collect();
        let reply = Packet::udp(backend, us, &data);
        let want = as_v6(&reply, &first, client, vip);
        rows.push(("a reply", without(reply.clone()), Want::Tx(want)));
        // What fills a frame up is not summed.
        let padded = reply.with(|p| p.trailer = vec![0xff; 7]);
        let want = as_v6(&padded, &first, client, vip);
        rows.push(("padded", without(padded), Want::Tx(want)));
    }
    check(&bed, &rows);
    // The length in the UDP header is more than there is.
    let mut bytes = without(Packet::udp(backend, us, b"four")).bytes();
    bytes[39] += 1;
    let before = bed.snapshot();
    assert_eq!(bed.send_bytes(&bytes).verdict, Verdict::Drop);
    assert_eq!(counted(&before, &bed.snapshot()), [("untranslatable", 1)]);
}

#[test]
fn what_is_asked_of_the_client_is_asked_of_its_ipv6_address() {
    let mut bed = Bed::new();
    let frontend = tcp(VIP6, 80);
    let ranges = vec!["2001:db8:77::/64".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
    let backends = ["10.1.0.11:8080", "10.1.0.12:8080", "10.1.0.13:8080"].map(|b| (b, 1));
    let sticky = Program {
        source_ranges: ranges,
        affinity: Some(Duration::from_secs(60)),
        // Has no say: the source is replaced in any case.
        full_nat: vec!["::/0".parse().unwrap()],
        ..program(&backends)
    };
    bed.serve(frontend, &sticky);
    let vip = vip(&frontend);
    let stranger = Packet::tcp(end("[2001:db8:78::7]:40001"), vip, SYN);
    check(&bed, &[("outside", stranger, Want::Drop("source_range"))]);
    let of = |client: &str| bed.backend_of(&Packet::tcp(end(client), vip, SYN));
    let sticks: Vec<_> = (0..20).map(|n| of(&format!("[2001:db8:77::7]:{}", 5000 + n))).collect();
    assert!(sticks.iter().all(|backend| *backend == sticks[0]), "{sticks:?}");
    let others: std::collections::BTreeSet<_> =
        (1..60).map(|n| of(&format!("[2001:db8:77::{n:x}]:5000"))).collect();
    assert_eq!(others.len(), 3);
}

#[test]
fn draining_keeps_the_flow_and_a_restart_its_port() {
    let frontend = tcp(VIP6, 80);
    let mut bed = bed(frontend);
    let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
    let first = Packet::tcp(client, vip, SYN);
    let port = open(&bed, &first);
    bed.serve(frontend, &program(&[(BACKEND, 0), ("10.1.0.12:8080", 1)]));
    assert_eq!(bed.plane.sweep().unwrap(), 1);
    assert_eq!(bed.claimed_ports(), 1);
    let data = Packet::tcp(client, vip, ACK);
    let reply = Packet::tcp(backend, (NAT64_SOURCE.into(), port), ACK);
    let rows = |first: &Packet| {
        [
            ("there", data.clone(), Want::Tx(as_v4(&data, backend, port))),
            ("back", reply.clone(), Want::Tx(as_v6(&reply, first, client, vip))),
        ]
    };
    check(&bed, &rows(&first));
    let bed = bed.reopen();
    check(&bed, &rows(&first));
    // A sweep that took the flow for dead is mended by the client's next packet.
    bed.forget_ports();
    check(&bed, &rows(&first));
}

#[test]
fn closing_and_opening_again() {
    let frontend = tcp(VIP6, 80);
    let bed = bed(frontend);
    let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
    let first = Packet::tcp(client, vip, SYN);
    let port = open(&bed, &first);
    for closing in [FIN | ACK, RST] {
        for flags in [SYN, ACK, closing, ACK] {
            let there = Packet::tcp(client, vip, flags);
            let back = Packet::tcp(backend, (NAT64_SOURCE.into(), port), flags | ACK);
            check(
                &bed,
                &[
                    ("there", there.clone(), Want::Tx(as_v4(&there, backend, port))),
                    ("back", back.clone(), Want::Tx(as_v6(&back, &first, client, vip))),
                ],
            );
        }
    }
    assert_eq!(bed.claimed_ports(), 1, "the same flow, the same port");
}

#[test]
fn without_next_hop_it_is_dropped() {
    let frontend = tcp(VIP6, 80);
    let mut bed = bed(frontend);
    bed.set_next_hop("10.1.0.11", None);
    let first = Packet::tcp(end(CLIENT), vip(&frontend), SYN);
    check(&bed, &[("no way", first, Want::Drop("no_next_hop"))]);
}

/// Replies go where IPv6 routes lead, as without NAT64.
#[test]
fn a_route_to_the_client_is_taken() {
    let frontend = tcp(VIP6, 80);
    let mut bed = bed(frontend);
    sh("ip link add up0 address 02:03:00:00:00:01 type veth peer name up1");
    sh("ip link set up1 up && ip link set up0 up");
    sh(
        "ip -6 addr add 2001:db8:2::1/64 dev up0 nodad && sysctl -qw net.ipv6.conf.all.forwarding=1",
    );
    sh("ip -6 neigh replace 2001:db8:2::2 lladdr 02:03:00:00:00:02 dev up0 nud permanent");
    sh("ip -6 route add 2001:db8:77::/64 via 2001:db8:2::2");
    bed.plane.attach(if_nametoindex("up0").unwrap()).unwrap();
    let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
    let first = Packet::tcp(client, vip, SYN);
    let port = open(&bed, &first);
    let reply = Packet::tcp(backend, (NAT64_SOURCE.into(), port), SYN | ACK);
    let want = as_v6(&reply, &first, client, vip).with(|p| {
        (p.source_mac, p.destination_mac) = ([2, 3, 0, 0, 0, 1], [2, 3, 0, 0, 0, 2]);
    });
    check(&bed, &[("back", reply, Want::Redirect(want))]);
}

/// A flow that the gate keeps out of the table has no way back: it is not half opened.
#[test]
fn a_shut_gate_opens_no_flow() {
    let frontend = tcp(VIP6, 80);
    let mut bed = bed(frontend);
    bed.plane.set_gates(0, 0).unwrap();
    let before = bed.snapshot();
    let refused = (1..=60_000u32).find(|n| {
        let client = (address(&format!("2001:db8:77::{n:x}")), 1024);
        bed.send(&Packet::tcp(client, vip(&frontend), SYN)).verdict == Verdict::Drop
    });
    assert!(refused.is_some());
    assert_eq!(counted(&before, &bed.snapshot()), [("nat_flow", 1)]);
}

/// One VIP of each family over the same backend, and the health checks' own connections to it: all at once.
#[test]
fn the_same_backend_behind_both_families() {
    let frontend = tcp(VIP6, 80);
    let mut bed = bed(frontend);
    bed.serve(tcp(VIP4, 80), &program(&[(BACKEND, 1)]));
    let (client, backend) = (end(CLIENT), end(BACKEND));
    let first = Packet::tcp(client, vip(&frontend), SYN);
    let port = open(&bed, &first);
    let client4 = end("198.51.100.7:40001");
    let first4 = Packet::tcp(client4, (address(VIP4), 80), SYN);
    assert_eq!(bed.backend_of(&first4), BACKEND.parse().unwrap());
    let reply = Packet::tcp(backend, (NAT64_SOURCE.into(), port), ACK);
    let reply4 = Packet::tcp(backend, client4, ACK);
    let probe = Packet::tcp(backend, (NAT64_SOURCE.into(), 50_000), SYN | ACK);
    check(
        &bed,
        &[
            ("IPv6", reply.clone(), Want::Tx(as_v6(&reply, &first, client, vip(&frontend)))),
            ("IPv4", reply4.clone(), Want::Tx(returned(&reply4, (address(VIP4), 80), &first4))),
            ("a health check's", probe, Want::Pass),
        ],
    );
}

#[test]
fn without_a_source_it_is_refused() {
    let mut options = options(&isolate());
    options.nat64_source = None;
    let mut bed = Bed::open(&options);
    let refused = bed.plane.put_program(tcp(VIP6, 80), &program(&[(BACKEND, 1)]));
    assert!(matches!(refused, Err(ProgramError::NoNat64Source { .. })), "{refused:?}");
    let refused = bed.plane.put_program(tcp(VIP4, 80), &program(&[("[2001:db8:1::11]:80", 1)]));
    assert!(matches!(refused, Err(ProgramError::FamilyMismatch { .. })), "{refused:?}");
}
