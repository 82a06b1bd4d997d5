//! What anybody can send pushes nothing out that has proven to be a connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sluice_xdp::Options;
use sluice_xdp_abi::limits::MIN_MAX_FLOWS;
use sluice_xdp_abi::names;

use crate::bed::{
    Bed, VIP4, Verdict, Want, address, check, end, isolate, options, program, sctp, tcp, udp,
};
use crate::forward::{BACKEND4_TCP, CLIENT4, VIP4_TCP, returned};
use crate::sctp::{BACKEND4, VIP4_SCTP, chunks};
use crate::wire::{ACK, FIN, Packet, RST, SYN};

pub type End = (std::net::IpAddr, u16);

/// Where client and backend begin.
const CLIENT_FIRST: u32 = 1_000;
const BACKEND_FIRST: u32 = 7_000;

/// One connection, as both of its ends see it.
#[derive(Clone, Copy)]
pub struct Connection {
    pub client: End,
    pub vip: End,
    pub backend: End,
}

// === impl Connection ===

impl Connection {
    /// From the client, so many octets behind its SYN.
    pub fn there(&self, flags: u8, sent: u32) -> Packet {
        Packet::tcp(self.client, self.vip, flags).with(|p| {
            p.tcp_mut().sequence = CLIENT_FIRST + sent;
            p.tcp_mut().acknowledgment = if flags & ACK == 0 { 0 } else { BACKEND_FIRST + 1 };
        })
    }

    /// From the backend, which has seen so many octets.
    pub fn back(&self, flags: u8, seen: u32) -> Packet {
        Packet::tcp(self.backend, self.client, flags).with(|p| {
            p.tcp_mut().sequence = BACKEND_FIRST + u32::from(flags & SYN == 0);
            p.tcp_mut().acknowledgment = CLIENT_FIRST + seen;
        })
    }

    /// A handshake through the balancer.
    pub fn open(bed: &Bed, client: End, vip: End) -> Self {
        let syn = Self { client, vip, backend: client }.there(SYN, 0);
        let backend = bed.backend_of(&syn);
        let connection = Self { client, vip, backend: (backend.ip(), backend.port()) };
        assert_eq!(bed.send(&connection.back(SYN | ACK, 1)).verdict, Verdict::Tx);
        assert_eq!(bed.backend_of(&connection.there(ACK, 1)), backend);
        connection
    }
}

/// How many flows a table has.
pub fn count(bed: &Bed, table: &str) -> usize {
    bed.flows(table).keys().count()
}

fn small(backends: &[(&str, u16)]) -> Bed {
    let options = Options { max_flows: Some(MIN_MAX_FLOWS), ..options(&isolate()) };
    let mut bed = Bed::open(&options);
    bed.plane.add_vip(address(VIP4)).unwrap();
    bed.plane.set_gates(u32::MAX, u32::MAX).unwrap();
    bed.serve(tcp(VIP4, 80), &program(backends));
    bed
}

/// Goes on with a flood to three times what its table has room for, of flows like those that it left there: a million
/// packets through test runs would take minutes.
fn go_on(bed: &Bed) {
    let mut flows = bed.flows(names::UNCONFIRMED);
    let flow = flows.iter().next().unwrap().unwrap().1;
    for n in 0..3 * MIN_MAX_FLOWS {
        let mut key = [0x0101_0101; 10];
        key[0] = n;
        flows.insert(key, flow, 0).unwrap();
    }
}

/// Below the gate and far beyond the table: connections stay, whatever the backends answer, and still do after the table
/// of backends has changed.
#[test]
fn established_flows_outlive_floods_below_the_gate() {
    const CONNECTIONS: u16 = 100;
    let (a, b) = ((BACKEND4_TCP, 1), ("10.1.0.12:8080", 1));
    let mut bed = small(&[a, b]);
    let vip = end(VIP4_TCP);
    let connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|n| Connection::open(&bed, (address("198.51.100.7"), 20_000 + n), vip))
        .collect();
    assert_eq!(count(&bed, names::FLOWS), CONNECTIONS.into());
    for n in 0..250 {
        let forged = |flags, network| {
            let client = (address(&format!("192.0.{network}.{}", n + 1)), 1024 + n);
            Connection { client, vip, backend: end(BACKEND4_TCP) }.there(flags, 5)
        };
        for (packet, answer) in [(forged(ACK, 2), RST), (forged(SYN, 3), SYN | ACK)] {
            let backend = bed.backend_of(&packet);
            let client = (packet.source, 1024 + n);
            bed.send(&Packet::tcp((backend.ip(), backend.port()), client, answer));
        }
    }
    assert_eq!(count(&bed, names::UNCONFIRMED), 500);
    go_on(&bed);
    assert_eq!(count(&bed, names::FLOWS), CONNECTIONS.into());

    bed.serve(tcp(VIP4, 80), &program(&[a, b, ("10.1.0.13:8080", 2)]));
    let is: BTreeMap<u16, SocketAddr> =
        connections.iter().map(|c| (c.client.1, bed.backend_of(&c.there(ACK, 1)))).collect();
    let was = connections.iter().map(|c| (c.client.1, c.backend.into())).collect();
    assert_eq!(is, was);
    // A server that speaks up on a quiet connection.
    bed.plane.flush_cache().unwrap();
    let rows: Vec<_> = connections
        .iter()
        .map(|c| {
            let push = c.back(ACK, 1);
            ("a push", push.clone(), Want::Tx(returned(&push, vip, &c.there(ACK, 1))))
        })
        .collect();
    check(&bed, &rows);
}

/// After which packets a flow is kept where floods do not reach it.
#[test]
fn a_flow_is_confirmed_by_what_cannot_be_forged() {
    let connection =
        Connection { client: end(CLIENT4), vip: end(VIP4_TCP), backend: end(BACKEND4_TCP) };
    let Connection { client, vip, backend } = connection;
    let guess = connection.there(ACK, 1).with(|p| p.tcp_mut().acknowledgment = 0x5555_5555);
    let datagram = Packet::udp(client, (vip.0, 53), b"query");
    let answer = Packet::udp((backend.0, 5353), client, b"answer");
    let there = |flags| chunks(client, end(VIP4_SCTP), flags);
    let back = |flags| chunks(end(BACKEND4), client, flags);
    let (syn, syn_ack) = (connection.there(SYN, 0), connection.back(SYN | ACK, 1));
    let ack = connection.there(ACK, 1);
    let cases: [(&str, Vec<Packet>, bool); 14] = [
        ("SYN", vec![syn.clone()], false),
        ("SYN, SYN-ACK", vec![syn.clone(), syn_ack.clone()], false),
        ("a handshake", vec![syn.clone(), syn_ack.clone(), ack.clone()], true),
        ("a blind one", vec![syn.clone(), syn_ack.clone(), guess], false),
        ("a connection refused", vec![syn.clone(), connection.back(RST | ACK, 1)], false),
        ("segments", vec![ack.clone(), ack.clone(), connection.there(FIN | ACK, 9)], false),
        ("a segment and its reset", vec![ack.clone(), connection.back(RST, 0)], false),
        ("met in the middle", vec![ack.clone(), connection.back(ACK, 1)], true),
        ("a question", vec![datagram.clone(), datagram.clone()], false),
        ("an answer", vec![datagram.clone(), answer.clone()], false),
        ("going on", vec![datagram.clone(), answer, datagram], true),
        ("INIT ACK and data", vec![there(SYN), back(SYN | ACK), there(ACK)], false),
        ("data and ABORT", vec![there(ACK), back(RST)], false),
        ("an association", vec![there(SYN), back(SYN | ACK), there(ACK), back(ACK)], true),
    ];
    let mut bed = small(&[(BACKEND4_TCP, 1)]);
    for (what, packets, is_confirmed) in cases {
        bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
        bed.serve(udp(VIP4, 53), &program(&[("10.1.0.11:5353", 1)]));
        bed.serve(sctp(VIP4, 38412), &program(&[(BACKEND4, 1)]));
        for packet in packets {
            assert_eq!(bed.send(&packet).verdict, Verdict::Tx, "{what}: {packet:?}");
        }
        let tables = (count(&bed, names::FLOWS), count(&bed, names::UNCONFIRMED));
        assert_eq!(tables, if is_confirmed { (1, 0) } else { (0, 1) }, "{what}");
        assert_eq!(bed.plane.sweep().unwrap(), 1, "{what}");
        bed.age_flows(std::time::Duration::from_secs(301));
        assert_eq!(bed.plane.sweep().unwrap(), 0, "{what}");
    }
}

/// What begins in a confirmed flow's place has to be confirmed again.
#[test]
fn a_flow_is_never_in_both_tables() {
    let mut bed = small(&[(BACKEND4_TCP, 1)]);
    let connection = Connection::open(&bed, end(CLIENT4), end(VIP4_TCP));
    let tables = |bed: &Bed| (count(bed, names::FLOWS), count(bed, names::UNCONFIRMED));
    assert_eq!(tables(&bed), (1, 0));
    bed.send(&connection.there(FIN | ACK, 1));
    bed.send(&connection.back(FIN | ACK, 2));
    bed.send(&connection.there(SYN, 90));
    assert_eq!(tables(&bed), (0, 1), "opened again");
    let connection = Connection::open(&bed, end(CLIENT4), end(VIP4_TCP));
    assert_eq!(tables(&bed), (1, 0));
    bed.serve(tcp(VIP4, 80), &program(&[("10.1.0.12:8080", 1)]));
    bed.send(&connection.there(ACK, 1));
    assert_eq!(tables(&bed), (0, 1), "its backend is gone");
}
