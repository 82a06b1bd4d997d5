//! Full NAT: backends see the VIP, and answer through us.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluice_xdp::{Frontend, Program, Protocol};

use crate::bed::{
    Bed, VIP4, VIP6, Verdict, Want, address, check, counted, end, program, sctp, socket, tcp, udp,
};
use crate::forward::{forwarded, returned};
use crate::sctp::chunks;
use crate::wire::{ACK, FIN, Packet, RST, SYN};

/// Nodes and pods of a cluster.
const CLUSTER: [&str; 2] = ["10.0.0.0/8", "2001:db8:1::/48"];

type End = (IpAddr, u16);

fn translated(backends: &[(&str, u16)], clients: &[&str]) -> Program {
    let full_nat = clients.iter().map(|text| text.parse().unwrap()).collect();
    Program { full_nat, ..program(backends) }
}

fn packet(frontend: &Frontend, from: End, to: End, flags: u8) -> Packet {
    match frontend.protocol {
        Protocol::Tcp => Packet::tcp(from, to, flags),
        Protocol::Udp => Packet::udp(from, to, &[flags; 9]),
        Protocol::Sctp => chunks(from, to, flags),
    }
}

fn vip(frontend: &Frontend) -> End {
    (frontend.vip, frontend.port)
}

/// `packet` as a backend must see it: from the VIP.
fn as_vip(packet: &Packet, backend: End, port: u16) -> Packet {
    let vip = packet.destination;
    forwarded(packet, backend).with(|p| p.set_source((vip, port)))
}

/// A backend's `reply` to the VIP, as the client must see it.
fn back(reply: &Packet, first: &Packet, client: End, vip: End) -> Packet {
    returned(reply, vip, first).with(|p| p.set_destination(client))
}

/// Who a forwarded frame claims to be from.
pub fn source(frame: &[u8]) -> SocketAddr {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if frame[12..14] == [0x08, 0x00] {
        let octets: [u8; 4] = frame[26..30].try_into().unwrap();
        (IpAddr::from(octets), port(34)).into()
    } else {
        let octets: [u8; 16] = frame[22..38].try_into().unwrap();
        (IpAddr::from(octets), port(54)).into()
    }
}

fn cases() -> [(Frontend, &'static str, &'static str); 6] {
    [
        (tcp(VIP4, 80), "10.1.0.11:8080", "10.2.0.7:40001"),
        (udp(VIP4, 53), "10.1.0.11:5353", "10.2.0.7:40001"),
        (tcp(VIP6, 80), "[2001:db8:1::11]:8080", "[2001:db8:1:2::7]:40001"),
        (udp(VIP6, 53), "[2001:db8:1::11]:5353", "[2001:db8:1:2::7]:40001"),
        (sctp(VIP4, 38412), "10.1.0.11:48412", "10.2.0.7:40001"),
        (sctp(VIP6, 38412), "[2001:db8:1::11]:48412", "[2001:db8:1:2::7]:40001"),
    ]
}

/// Each family and protocol: the packet that begins the flow, one from the cache, and both kinds of reply.
#[test]
fn both_directions() {
    let mut bed = Bed::new();
    for (frontend, backend, client) in cases() {
        bed.serve(frontend, &translated(&[(backend, 1)], &CLUSTER));
        let (client, backend, vip) = (end(client), end(backend), vip(&frontend));
        let first = packet(&frontend, client, vip, SYN);
        let data = packet(&frontend, client, vip, ACK);
        let reply = packet(&frontend, backend, (vip.0, client.1), SYN | ACK);
        let more = packet(&frontend, backend, (vip.0, client.1), ACK);
        let rows = [
            ("first", first.clone(), Want::Tx(as_vip(&first, backend, client.1))),
            ("first again", first.clone(), Want::Tx(as_vip(&first, backend, client.1))),
            ("cached", data.clone(), Want::Tx(as_vip(&data, backend, client.1))),
            ("reply", reply.clone(), Want::Tx(back(&reply, &first, client, vip))),
            ("reply data", more.clone(), Want::Tx(back(&more, &first, client, vip))),
            ("cached reply", more.clone(), Want::Tx(back(&more, &first, client, vip))),
        ];
        check(&bed, &rows);
        let counters = bed.snapshot().frontends[&frontend];
        assert_eq!((counters.to_backends.packets, counters.to_clients.packets), (3, 3));
        assert_eq!(counters.new_flows, 1);
    }
}

#[test]
fn others_keep_their_address_and_all_means_all() {
    let mut bed = Bed::new();
    let backend = "10.1.0.11:8080";
    bed.serve(tcp(VIP4, 80), &translated(&[(backend, 1)], &CLUSTER));
    bed.serve(tcp(VIP4, 81), &translated(&[(backend, 1)], &["0.0.0.0/0", "::/0"]));
    let stranger = end("198.51.100.7:40001");
    let kept = Packet::tcp(stranger, (address(VIP4), 80), SYN);
    let reply = Packet::tcp(end(backend), stranger, SYN | ACK);
    let replaced = Packet::tcp(stranger, (address(VIP4), 81), SYN);
    let rows = [
        ("kept", kept.clone(), Want::Tx(forwarded(&kept, end(backend)))),
        ("its reply", reply.clone(), Want::Tx(returned(&reply, (address(VIP4), 80), &kept))),
        ("replaced", replaced.clone(), Want::Tx(as_vip(&replaced, end(backend), 40001))),
    ];
    check(&bed, &rows);
}

/// A backend that calls the VIP and is given itself.
#[test]
fn a_backend_may_call_itself() {
    let mut bed = Bed::new();
    let (backend, client) = (end("10.1.0.11:8080"), end("10.1.0.11:51000"));
    bed.serve(tcp(VIP4, 80), &translated(&[("10.1.0.11:8080", 1)], &CLUSTER));
    let vip = vip(&tcp(VIP4, 80));
    let first = Packet::tcp(client, vip, SYN);
    let reply = Packet::tcp(backend, (vip.0, client.1), SYN | ACK);
    let rows = [
        ("there", first.clone(), Want::Tx(as_vip(&first, backend, client.1))),
        ("back", reply.clone(), Want::Tx(back(&reply, &first, client, vip))),
    ];
    check(&bed, &rows);
}

/// Many clients with one port, to one backend: each gets a port of its own, and its own replies.
#[test]
fn ports_never_collide() {
    let mut bed = Bed::new();
    for (frontend, backend, client) in cases() {
        bed.serve(frontend, &translated(&[(backend, 1)], &CLUSTER));
        let (backend, vip) = (end(backend), vip(&frontend));
        let clients: Vec<End> = (1..=200u16)
            .map(|n| {
                let text = if end(client).0.is_ipv4() {
                    format!("10.2.{n}.7")
                } else {
                    format!("2001:db8:1:2::{n:x}")
                };
                // Privileged ports are replaced, the others are kept by the first who comes.
                (address(&text), if n % 2 == 0 { 40_001 } else { 123 })
            })
            .collect();
        let mut given = std::collections::BTreeMap::new();
        for client in &clients {
            let ran = bed.send(&packet(&frontend, *client, vip, SYN));
            assert_eq!(ran.verdict, Verdict::Tx);
            let from = source(&ran.bytes);
            assert_eq!(from.ip(), vip.0);
            assert!(from.port() >= 1024, "{from}");
            assert_eq!(given.insert(from.port(), *client), None, "{from} is given twice");
        }
        assert!(given.contains_key(&40_001), "the own port, if free");
        for (port, client) in given {
            let reply = packet(&frontend, backend, (vip.0, port), ACK);
            let want = back(&reply, &packet(&frontend, client, vip, SYN), client, vip);
            check(&bed, &[("its own reply", reply, Want::Tx(want))]);
        }
    }
}

/// One client port to two ports of the VIP that one backend serves is two connections to that backend.
#[test]
fn one_client_port_towards_two_services_of_one_endpoint() {
    let mut bed = Bed::new();
    let (backend, client) = (end("10.1.0.11:8080"), end("10.2.0.7:40001"));
    for port in [80, 81] {
        bed.serve(tcp(VIP4, port), &translated(&[("10.1.0.11:8080", 1)], &CLUSTER));
    }
    let ports: Vec<u16> = [80, 81]
        .map(|port| {
            let ran = bed.send(&Packet::tcp(client, (address(VIP4), port), SYN));
            source(&ran.bytes).port()
        })
        .into();
    assert_ne!(ports[0], ports[1]);
    for (nat_port, port) in ports.into_iter().zip([80, 81]) {
        let vip = (address(VIP4), port);
        let reply = Packet::tcp(backend, (vip.0, nat_port), SYN | ACK);
        let want = back(&reply, &Packet::tcp(client, vip, SYN), client, vip);
        check(&bed, &[("back", reply, Want::Tx(want))]);
    }
}

#[test]
fn a_flow_chosen_again_has_a_new_way_back_and_no_old_one() {
    let mut bed = Bed::new();
    let (a, b) = ("10.1.0.11:8080", "10.1.0.12:8080");
    let frontend = tcp(VIP4, 80);
    let (client, vip) = (end("10.2.0.7:40001"), vip(&frontend));
    bed.serve(frontend, &translated(&[(a, 1)], &CLUSTER));
    let first = Packet::tcp(client, vip, SYN);
    assert_eq!(bed.backend_of(&first), socket(a));
    bed.serve(frontend, &translated(&[(b, 1)], &CLUSTER));
    let data = Packet::tcp(client, vip, ACK);
    let reply = Packet::tcp(end(b), (vip.0, client.1), ACK);
    let rows = [
        ("to the other", data.clone(), Want::Tx(as_vip(&data, end(b), client.1))),
        ("and back", reply.clone(), Want::Tx(back(&reply, &first, client, vip))),
    ];
    check(&bed, &rows);
    assert_eq!(bed.claimed_ports(), 2);
    assert_eq!(bed.plane.sweep().unwrap(), 1);
    assert_eq!(bed.claimed_ports(), 1, "the old way back is gone");
    check(&bed, &[("still", reply.clone(), Want::Tx(back(&reply, &first, client, vip)))]);
    // The removed backend is nobody now: what it sends to the VIP is a stranger's.
    let before = bed.snapshot();
    bed.send(&Packet::tcp(end(a), (vip.0, client.1), ACK));
    assert_eq!(counted(&before, &bed.snapshot()), [("no_service", 1)]);
}

#[test]
fn draining_keeps_the_flow_and_its_port() {
    let mut bed = Bed::new();
    let (a, b) = ("10.1.0.11:8080", "10.1.0.12:8080");
    let frontend = tcp(VIP4, 80);
    let (client, vip) = (end("10.2.0.7:40001"), vip(&frontend));
    bed.serve(frontend, &translated(&[(a, 1)], &CLUSTER));
    let first = Packet::tcp(client, vip, SYN);
    bed.send(&first);
    bed.serve(frontend, &translated(&[(a, 0), (b, 1)], &CLUSTER));
    let data = Packet::tcp(client, vip, ACK);
    let reply = Packet::tcp(end(a), (vip.0, client.1), ACK);
    let rows = [
        ("there", data.clone(), Want::Tx(as_vip(&data, end(a), client.1))),
        ("back", reply.clone(), Want::Tx(back(&reply, &first, client, vip))),
    ];
    check(&bed, &rows);
}

/// Flows keep the way they began with when the list changes, in both senses.
#[test]
fn it_is_switched_while_flows_run() {
    let mut bed = Bed::new();
    let backend = "10.1.0.11:8080";
    let frontend = tcp(VIP4, 80);
    let vip = vip(&frontend);
    let (old, new) = (end("10.2.0.7:1001"), end("10.2.0.7:1002"));
    let (plain, nat) = (translated(&[(backend, 1)], &[]), translated(&[(backend, 1)], &CLUSTER));
    let port_of =
        |bed: &Bed, client: End, flags| source(&bed.send(&Packet::tcp(client, vip, flags)).bytes);
    bed.serve(frontend, &plain);
    assert_eq!(port_of(&bed, old, SYN).ip(), old.0);
    bed.serve(frontend, &nat);
    assert_eq!(port_of(&bed, old, ACK).ip(), old.0);
    let new_port = port_of(&bed, new, SYN);
    assert_eq!(new_port.ip(), vip.0);
    bed.serve(frontend, &plain);
    assert_eq!(port_of(&bed, new, ACK), new_port);
    let mut bed = bed.reopen();
    assert_eq!(port_of(&bed, new, ACK), new_port, "over a restart as well");
    let reply = Packet::tcp(end(backend), (vip.0, new_port.port()), ACK);
    let want = back(&reply, &Packet::tcp(new, vip, SYN), new, vip);
    check(&bed, &[("its reply", reply, Want::Tx(want))]);
    bed.plane.remove_program(&frontend).unwrap();
    bed.plane.sweep().unwrap();
}

/// RST and FIN close a flow from either side; a new connection on the old port is a flow again.
#[test]
fn closing_and_opening_again() {
    let mut bed = Bed::new();
    let frontend = tcp(VIP4, 80);
    let (backend, client, vip) = (end("10.1.0.11:8080"), end("10.2.0.7:40001"), vip(&frontend));
    bed.serve(frontend, &translated(&[("10.1.0.11:8080", 1)], &CLUSTER));
    let there = |flags| Packet::tcp(client, vip, flags);
    let here = |flags| Packet::tcp(backend, (vip.0, client.1), flags);
    for closing in [FIN | ACK, RST] {
        for from_backend in [false, true] {
            let row_there =
                |flags| ("there", there(flags), Want::Tx(as_vip(&there(flags), backend, client.1)));
            let row_back = |flags| {
                ("back", here(flags), Want::Tx(back(&here(flags), &there(SYN), client, vip)))
            };
            let close = if from_backend { row_back(closing) } else { row_there(closing) };
            let rows = [row_there(SYN), row_back(SYN | ACK), row_there(ACK), close];
            check(&bed, &rows);
            check(&bed, &[row_back(ACK), row_there(ACK)]);
        }
    }
    assert_eq!(bed.claimed_ports(), 1);
}

#[test]
fn ports_of_expired_flows_are_free_again() {
    let mut bed = Bed::new();
    let frontend = udp(VIP4, 53);
    let short = Program {
        idle_timeout: Duration::from_secs(100),
        ..translated(&[("10.1.0.11:53", 1)], &CLUSTER)
    };
    bed.serve(frontend, &short);
    let vip = vip(&frontend);
    let one = Packet::udp(end("10.2.0.7:40001"), vip, b"x");
    let other = Packet::udp(end("10.2.0.8:40001"), vip, b"x");
    assert_eq!(source(&bed.send(&one).bytes).port(), 40_001);
    assert_ne!(source(&bed.send(&other).bytes).port(), 40_001);
    assert_eq!(bed.plane.sweep().unwrap(), 2);
    assert_eq!(bed.claimed_ports(), 2);
    bed.age_flows(Duration::from_secs(101));
    assert_eq!(bed.plane.sweep().unwrap(), 0);
    assert_eq!(bed.claimed_ports(), 0);
    assert_eq!(source(&bed.send(&other).bytes).port(), 40_001, "the own port is free now");
}

/// A port that a sweep took away from a living flow comes back with the flow's next visit to the table.
#[test]
fn a_lost_way_back_is_renewed() {
    let mut bed = Bed::new();
    let frontend = tcp(VIP4, 80);
    let (backend, client, vip) = (end("10.1.0.11:8080"), end("10.2.0.7:40001"), vip(&frontend));
    bed.serve(frontend, &translated(&[("10.1.0.11:8080", 1)], &CLUSTER));
    let first = Packet::tcp(client, vip, SYN);
    bed.send(&first);
    bed.forget_ports();
    assert_eq!(bed.claimed_ports(), 0);
    assert_eq!(bed.send(&first).verdict, Verdict::Tx);
    let reply = Packet::tcp(backend, (vip.0, client.1), SYN | ACK);
    check(&bed, &[("back", reply.clone(), Want::Tx(back(&reply, &first, client, vip)))]);
}

/// A port that another flow has taken meanwhile is not shared: whoever comes back gets another one.
#[test]
fn a_lost_port_that_is_taken_is_replaced() {
    let mut bed = Bed::new();
    let frontend = tcp(VIP4, 80);
    let vip = vip(&frontend);
    bed.serve(frontend, &translated(&[("10.1.0.11:8080", 1)], &CLUSTER));
    let first = Packet::tcp(end("10.2.0.7:40001"), vip, SYN);
    let other = Packet::tcp(end("10.2.0.8:40001"), vip, SYN);
    assert_eq!(source(&bed.send(&first).bytes).port(), 40_001);
    bed.forget_ports();
    assert_eq!(source(&bed.send(&other).bytes).port(), 40_001);
    let port = source(&bed.send(&first).bytes).port();
    assert_ne!(port, 40_001);
    assert_eq!(source(&bed.send(&first).bytes).port(), port, "and keeps it");
    assert_eq!(source(&bed.send(&other).bytes).port(), 40_001);
}

/// With every port taken the flow is dropped and counted; ports of nobody are free after a sweep.
#[test]
fn exhausted_ports_are_counted() {
    let mut bed = Bed::new();
    let frontend = tcp(VIP4, 80);
    let (backend, vip) = (end("10.1.0.11:8080"), vip(&frontend));
    bed.serve(frontend, &translated(&[("10.1.0.11:8080", 1)], &CLUSTER));
    bed.take_all_ports(backend, vip.0, 6);
    let before = bed.snapshot();
    let packet = Packet::tcp(end("10.2.0.7:40001"), vip, SYN);
    assert_eq!(bed.send(&packet).verdict, Verdict::Drop);
    assert_eq!(counted(&before, &bed.snapshot()), [("nat_ports", 1)]);
    assert_eq!(bed.plane.sweep().unwrap(), 0);
    assert_eq!(bed.claimed_ports(), 0, "they were nobody's");
    assert_eq!(bed.send(&packet).verdict, Verdict::Tx);
}

/// A flow that the gate keeps out of the table has no way back: it is not half opened.
#[test]
fn a_shut_gate_opens_no_translated_flow() {
    let mut bed = Bed::new();
    let frontend = tcp(VIP4, 80);
    bed.serve(frontend, &translated(&[("10.1.0.11:8080", 1)], &CLUSTER));
    bed.plane.set_gates(0, 0).unwrap();
    // What the gate has saved up may still pass.
    let drops = |bed: &Bed| {
        bed.snapshot().drops.iter().find(|(name, _)| *name == "nat_flow").map_or(0, |(_, n)| *n)
    };
    let limit = 60_000;
    let sent = (1..=limit).find(|n| {
        let client = (address(&format!("10.2.{}.{}", n >> 8, n & 255)), 1024);
        bed.send(&Packet::tcp(client, vip(&frontend), SYN)).verdict == Verdict::Drop
    });
    assert!(sent.is_some() && drops(&bed) == 1);
}
