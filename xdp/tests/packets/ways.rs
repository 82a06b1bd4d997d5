//! Ways to clients as they are given: prefixes, routers that move, several at once, none; and what comes by a link that it
//! cannot come by. Forwarding is off in all of these, so that the kernel knows no way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nix::net::if_::if_nametoindex;
use sluice_xdp::{NextHop, Router, Way, Ways};
use sluice_xdp_abi::flow::{Flow, FlowKey, FlowState};
use sluice_xdp_abi::life::ANSWERED;
use sluice_xdp_abi::names;

use crate::bed::{Bed, INGRESS, Verdict, Want, address, check, end, next_hop, program, sh, tcp};
use crate::floods::{Connection, count};
use crate::forward::{
    BACKEND4_TCP, BACKEND6_TCP, CLIENT4, CLIENT6, VIP4_TCP, VIP6_TCP, forwarded, returned, standard,
};
use crate::wire::{ACK, FIN, Packet, RST, SYN};

const OTHER_CLIENT: &str = "198.51.100.8:40001";

pub fn hop(link_index: u32, last: u8) -> NextHop {
    NextHop { link_index, source_mac: [2, 3, 0, 0, 0, 1], destination_mac: [2, 3, 0, 0, 1, last] }
}

pub fn router(last: u8) -> Router {
    (INGRESS, IpAddr::from([192, 0, 2, last]))
}

pub fn ways(prefixes: &[(&str, Way)], routers: &[(Router, NextHop)]) -> Ways {
    Ways {
        prefixes: prefixes.iter().map(|(net, way)| (net.parse().unwrap(), way.clone())).collect(),
        routers: BTreeMap::from_iter(routers.iter().copied()),
    }
}

/// The whole world, both families, through these.
pub fn through(routers: &[(Router, NextHop)]) -> Ways {
    let way = Way::Routers(routers.iter().map(|(router, _)| *router).collect());
    ways(&[("0.0.0.0/0", way.clone()), ("::/0", way)], routers)
}

/// A flow from this client to the VIP of its family: the first packet, the reply and the reply as it leaves.
pub fn flow(client: &str) -> (Packet, Packet, Packet) {
    let client = end(client);
    let (vip, backend) = if client.0.is_ipv4() {
        (end(VIP4_TCP), end(BACKEND4_TCP))
    } else {
        (end(VIP6_TCP), end(BACKEND6_TCP))
    };
    let first = Packet::tcp(client, vip, SYN);
    let reply = Packet::tcp(backend, client, ACK);
    let back = returned(&reply, vip, &first);
    (first, reply, back)
}

pub fn by(packet: &Packet, hop: NextHop) -> Packet {
    packet
        .clone()
        .with(|p| (p.source_mac, p.destination_mac) = (hop.source_mac, hop.destination_mac))
}

/// Makes the program run on a link of its own, in name: nothing is sent.
fn attached(bed: &mut Bed, name: &str) -> u32 {
    sh(&format!("ip link add {name} type veth peer name {name}p && ip link set {name} up"));
    let link = if_nametoindex(name).unwrap();
    bed.plane.attach(link).unwrap();
    link
}

/// Every flow that exists moves when its router's MAC is another one, and when the route has another router; a router
/// that nobody knows leaves its flows to where their packets come from.
#[test]
fn replies_follow_the_router_and_the_route() {
    let mut bed = standard();
    bed.pretend_ingress_attached();
    let [one, other] = [router(1), router(2)];
    bed.plane.set_ways(&through(&[(one, hop(INGRESS, 1))])).unwrap();
    for client in [CLIENT4, CLIENT6] {
        let (first, reply, _) = flow(client);
        bed.backend_of(&first);
        bed.send(&reply);
    }
    for (what, given, wanted) in [
        ("as given", through(&[(one, hop(INGRESS, 1))]), Some(1)),
        ("the MAC moves", through(&[(one, hop(INGRESS, 9))]), Some(9)),
        ("the route moves", through(&[(other, hop(INGRESS, 2))]), Some(2)),
        ("over a link without the program", through(&[(other, hop(77, 2))]), None),
        ("back again", through(&[(one, hop(INGRESS, 9))]), Some(9)),
        (
            "the router is unknown",
            Ways { routers: BTreeMap::new(), ..through(&[(one, hop(INGRESS, 9))]) },
            None,
        ),
        ("no route", Ways::default(), None),
    ] {
        bed.plane.set_ways(&given).unwrap();
        for client in [CLIENT4, CLIENT6] {
            let (_, reply, back) = flow(client);
            let want = wanted.map_or(back.clone(), |last| by(&back, hop(INGRESS, last)));
            check(
                &bed,
                &[(what, reply.clone(), Want::Tx(want.clone())), (what, reply, Want::Tx(want))],
            );
        }
    }
}

#[test]
fn the_longest_prefix_is_meant() {
    let mut bed = standard();
    bed.pretend_ingress_attached();
    let [one, two] = [router(1), router(2)];
    let routers = [(one, hop(INGRESS, 1)), (two, hop(INGRESS, 2))];
    let (first, reply, back) = flow(CLIENT4);
    bed.backend_of(&first);
    for (what, net, way, wanted) in [
        ("another net", "198.51.101.0/24", Way::Routers(vec![two]), Some(1)),
        ("its net", "198.51.100.0/24", Way::Routers(vec![two]), Some(2)),
        ("its address", "198.51.100.7/32", Way::Routers(vec![two]), Some(2)),
        ("rejected", "198.51.100.7/32", Way::Unknown, None),
        ("the host itself", "198.51.100.7/32", Way::Local, None),
        ("a neighbour", "198.51.100.0/24", Way::Link(INGRESS), None),
    ] {
        let given = [("0.0.0.0/0", Way::Routers(vec![one])), (net, way)];
        bed.plane.set_ways(&ways(&given, &routers)).unwrap();
        let want = wanted.map_or(back.clone(), |last| by(&back, hop(INGRESS, last)));
        check(&bed, &[(what, reply.clone(), Want::Tx(want))]);
    }
}

/// Where the route has several routers, the one that the client's packets come from is taken; else each flow has one, and
/// all have some.
#[test]
fn one_of_several_routers() {
    let mut bed = standard();
    bed.pretend_ingress_attached();
    let (first, reply, back) = flow(CLIENT4);
    let came_from = NextHop {
        link_index: INGRESS,
        source_mac: first.destination_mac,
        destination_mac: first.source_mac,
    };
    let all: Vec<_> =
        (1..=3).map(|n| (router(n), if n == 2 { came_from } else { hop(INGRESS, n) })).collect();
    bed.plane.set_ways(&through(&all)).unwrap();
    bed.backend_of(&first);
    check(&bed, &[("the same", reply, Want::Tx(back))]);

    let all: Vec<_> = (1..=3).map(|n| (router(n), hop(INGRESS, n))).collect();
    bed.plane.set_ways(&through(&all)).unwrap();
    let taken = |bed: &Bed| -> Vec<u8> {
        (0..60u16)
            .map(|n| {
                let client = (address("198.51.100.7"), 41_000 + n);
                bed.backend_of(&Packet::tcp(client, end(VIP4_TCP), SYN));
                bed.send(&Packet::tcp(end(BACKEND4_TCP), client, ACK)).bytes[5]
            })
            .collect()
    };
    let before = taken(&bed);
    assert_eq!(BTreeSet::from_iter(&before), BTreeSet::from([&1, &2, &3]), "all take part");
    assert_eq!(taken(&bed), before, "each flow stays with its own");
    let mut fewer = through(&all);
    fewer.routers.remove(&router(3));
    bed.plane.set_ways(&fewer).unwrap();
    let after = taken(&bed);
    for (before, after) in before.iter().zip(after) {
        assert!(after != 3 && (*before == 3 || *before == after), "{before} became {after}");
    }
}

/// The client's way over another link moves with its next packet.
#[test]
fn without_a_route_replies_go_where_the_last_packet_came_from() {
    let bed = standard();
    let (first, reply, back) = flow(CLIENT4);
    bed.backend_of(&first);
    check(&bed, &[("at first", reply.clone(), Want::Tx(back.clone()))]);
    let moved = first.with(|p| p.source_mac = [2, 7, 7, 7, 7, 7]);
    bed.backend_of(&moved);
    // The reply is cached for a second at most; a closing one asks the table.
    let last = reply.with(|p| p.tcp_mut().flags = FIN | ACK);
    let mut back = back.with(|p| p.tcp_mut().flags = FIN | ACK);
    back.destination_mac = [2, 7, 7, 7, 7, 7];
    check(&bed, &[("after its packet", last, Want::Tx(back))]);
}

#[test]
fn ways_survive_a_restart() {
    let mut bed = standard();
    bed.pretend_ingress_attached();
    let given = through(&[(router(1), hop(INGRESS, 1))]);
    bed.plane.set_ways(&given).unwrap();
    let (first, reply, back) = flow(CLIENT4);
    bed.backend_of(&first);
    let mut bed = bed.reopen();
    bed.pretend_ingress_attached();
    let wanted = by(&back, hop(INGRESS, 1));
    check(&bed, &[("adopted", reply.clone(), Want::Tx(wanted.clone()))]);
    bed.plane.set_ways(&given).unwrap();
    check(&bed, &[("given again", reply.clone(), Want::Tx(wanted))]);
    bed.plane.set_ways(&Ways::default()).unwrap();
    check(&bed, &[("no more", reply, Want::Tx(back))]);
}

/// A reply is not believed on the client's link while all ways to the backend lead over another one.
#[test]
fn a_reply_on_the_routers_link_is_not_believed() {
    let mut bed = standard();
    let back_link = attached(&mut bed, "back0");
    bed.pretend_ingress_attached();
    let over = |link_index| NextHop { link_index, ..next_hop(address("10.1.0.11")) };
    bed.set_next_hop("10.1.0.11", Some(over(back_link)));
    let (first, reply, back) = flow(CLIENT4);
    bed.send(&first);
    let [front, behind] = [(INGRESS, address("192.0.2.1")), (back_link, address("192.0.2.2"))];
    let both = [(front, hop(INGRESS, 1)), (behind, hop(back_link, 2))];
    let net = "10.1.0.0/24";
    for (what, hop, given, is_believed) in [
        ("nothing is known of ways", over(back_link), Ways::default(), true),
        (
            "a network of another link",
            over(back_link),
            ways(&[(net, Way::Link(back_link))], &[]),
            false,
        ),
        ("a network of this link", over(INGRESS), ways(&[(net, Way::Link(INGRESS))], &[]), true),
        (
            "by a router on another link",
            over(back_link),
            ways(&[(net, Way::Routers(vec![behind]))], &both),
            false,
        ),
        (
            "by one of two routers",
            over(back_link),
            ways(&[(net, Way::Routers(vec![behind, front]))], &both),
            true,
        ),
        (
            "a router nobody knows",
            over(back_link),
            ways(&[(net, Way::Routers(vec![behind]))], &[]),
            true,
        ),
        ("a link without the program", over(77), ways(&[(net, Way::Link(77))], &[]), true),
    ] {
        bed.set_next_hop("10.1.0.11", Some(hop));
        bed.plane.set_ways(&given).unwrap();
        let want = if is_believed { Want::Tx(back.clone()) } else { Want::Drop("wrong_link") };
        check(&bed, &[(what, reply.clone(), want)]);
        bed.plane.flush_cache().unwrap();
    }
}

/// State and signs of the table's only flow.
fn life(bed: &Bed, table: &str) -> (u64, u64) {
    const WORD: usize = std::mem::offset_of!(Flow, state) / 8;
    let flow = bed.flows(table).iter().next().unwrap().unwrap().1;
    (flow[WORD] >> 32 & 0xffff, flow[WORD] >> 48)
}

/// What comes in where the backend cannot be confirms no flow, ends none, gives none away and is not translated for
/// anybody.
#[test]
fn a_forged_reply_changes_nothing() {
    let mut bed = standard();
    let back_link = attached(&mut bed, "back0");
    bed.pretend_ingress_attached();
    let hop_back = NextHop { link_index: back_link, ..next_hop(address("10.1.0.11")) };
    bed.set_next_hop("10.1.0.11", Some(hop_back));
    let one = router(1);
    let given = [
        ("0.0.0.0/0", Way::Routers(vec![one])),
        ("10.1.0.0/24", Way::Link(back_link)),
        ("10.0.0.2/32", Way::Local),
    ];
    let routers = [(one, hop(INGRESS, 1))];
    bed.plane.set_ways(&ways(&given, &routers)).unwrap();
    let forged = |to: &str, flags| Packet::tcp(end(BACKEND4_TCP), end(to), flags);
    let wrong = || Want::Drop("wrong_link");
    check(
        &bed,
        &[
            ("of no flow", forged(CLIENT4, ACK), wrong()),
            ("of no flow, SYN-ACK", forged(CLIENT4, SYN | ACK), wrong()),
            ("of no flow, RST", forged(CLIENT4, RST), wrong()),
            ("for the host itself", forged("10.0.0.2:45000", ACK), Want::Pass),
        ],
    );
    let syn = Packet::tcp(end(CLIENT4), end(VIP4_TCP), SYN);
    assert_eq!(bed.send(&syn).verdict, Verdict::Redirect);
    let tables = |bed: &Bed| (count(bed, names::FLOWS), count(bed, names::UNCONFIRMED));
    let kinds = [SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, 0, SYN | FIN | RST];
    for flags in kinds {
        check(&bed, &[("of an opening flow", forged(CLIENT4, flags), wrong())]);
    }
    assert_eq!(tables(&bed), (0, 1), "nothing is confirmed");
    assert_eq!(life(&bed, names::UNCONFIRMED), (FlowState::Opening as u64, 0), "nothing was seen");

    // A true handshake over the other link; then once more over this one.
    let net = "10.1.0.0/24";
    let over_this = [given[0].clone(), (net, Way::Link(INGRESS)), given[2].clone()];
    bed.plane.set_ways(&ways(&over_this, &routers)).unwrap();
    bed.set_next_hop("10.1.0.11", Some(NextHop { link_index: INGRESS, ..hop_back }));
    Connection::open(&bed, end(CLIENT4), end(VIP4_TCP));
    bed.set_next_hop("10.1.0.11", Some(hop_back));
    assert_eq!(tables(&bed), (1, 0));
    bed.plane.set_ways(&ways(&given, &routers)).unwrap();
    for flags in kinds {
        check(&bed, &[("of a confirmed flow", forged(CLIENT4, flags), wrong())]);
    }
    let (state, seen) = life(&bed, names::FLOWS);
    assert_eq!(state, FlowState::Established as u64, "nothing has ended it");
    assert_eq!(seen, u64::from(ANSWERED));
}

/// Packets that nobody would send, at moments when they might hurt.
#[test]
fn odd_packets_at_odd_moments() {
    let mut bed = standard();
    bed.pretend_ingress_attached();
    bed.plane.set_ways(&through(&[(router(1), hop(INGRESS, 1))])).unwrap();
    let tables = |bed: &Bed| (count(bed, names::FLOWS), count(bed, names::UNCONFIRMED));
    let connection = Connection::open(&bed, end(CLIENT4), end(VIP4_TCP));
    assert_eq!(tables(&bed), (1, 0));
    // Every flag at once, and none, from the client's address: one that is alive stays so.
    for flags in [0xff, 0, SYN | FIN, SYN | RST] {
        bed.send(&connection.there(flags, 0x5000_0000));
        bed.plane.flush_cache().unwrap();
    }
    assert_eq!(life(&bed, names::FLOWS).0, FlowState::Established as u64);
    // The client's packets in the name of its backend, to the VIP: no reply, and no flow of the client's.
    let from_backend = Packet::tcp(connection.backend, connection.vip, RST | ACK);
    bed.send(&from_backend);
    assert_eq!(life_of(&bed, connection.client), FlowState::Established as u64);
    // A reply of the same ports by another protocol.
    let other = Packet::udp(connection.backend, connection.client, b"x");
    check(&bed, &[("UDP from the port of TCP", other, Want::Pass)]);
    assert_eq!(life_of(&bed, connection.client), FlowState::Established as u64);
    // An answer before the question, from the backend, then a blind acknowledgment: unconfirmed.
    let early = (address("198.51.100.7"), 50_001);
    let blind = Connection { client: early, ..connection };
    bed.send(&blind.back(SYN | ACK, 1));
    bed.send(&blind.there(ACK, 1));
    assert_eq!(tables(&bed).0, 1, "the answer was seen by no flow");
    // A SYN-ACK in the middle of a connection that lives, as after a backend's restart: it goes on.
    bed.send(&connection.back(SYN | ACK, 0x100));
    assert_eq!(life_of(&bed, connection.client), FlowState::Established as u64);
}

/// The state of the confirmed flow of this client.
fn life_of(bed: &Bed, client: (IpAddr, u16)) -> u64 {
    const WORD: usize = std::mem::offset_of!(Flow, state) / 8;
    const PORT: usize = std::mem::offset_of!(FlowKey, client_port_be) / 4;
    let port = u32::from(client.1.to_be());
    let flows = bed.flows(names::FLOWS);
    let mut of_client = flows.iter().map(Result::unwrap).filter(|(key, _)| {
        let shift = 8 * (std::mem::offset_of!(FlowKey, client_port_be) % 4);
        key[PORT] >> shift & 0xffff == port
    });
    of_client.next().unwrap().1[WORD] >> 32 & 0xffff
}

/// Who cannot be a client opens nothing and finds nothing.
#[test]
fn impossible_sources_are_dropped() {
    let mut bed = standard();
    bed.plane.add_vip(address("203.0.113.11")).unwrap();
    bed.serve(tcp("203.0.113.12", 80), &program(&[(BACKEND4_TCP, 1)]));
    let mut rows = Vec::new();
    for source in [
        "203.0.113.10:40001",
        "203.0.113.11:40001",
        "0.0.0.0:40001",
        "0.1.2.3:40001",
        "127.0.0.1:40001",
        "224.0.0.5:40001",
        "239.1.2.3:40001",
        "240.0.0.1:40001",
        "255.255.255.255:40001",
    ] {
        for flags in [SYN, ACK] {
            let packet = Packet::tcp(end(source), end(VIP4_TCP), flags);
            rows.push((source, packet, Want::Drop("impossible_source")));
        }
        let datagram = Packet::udp(end(source), end("203.0.113.10:53"), b"x");
        rows.push((source, datagram, Want::Drop("impossible_source")));
    }
    for source in
        ["[::]:1", "[::1]:1", "[ff02::1]:1", "[2001:db8:113::10]:1", "[::ffff:198.51.100.7]:1"]
    {
        let packet = Packet::tcp(end(source), end(VIP6_TCP), SYN);
        rows.push((source, packet, Want::Drop("impossible_source")));
    }
    // Not for a VIP of ours: the kernel's.
    let elsewhere = Packet::tcp(end("127.0.0.1:1"), end("203.0.113.99:80"), SYN);
    rows.push(("not for us", elsewhere, Want::Pass));
    for source in ["128.0.0.1:1", "223.255.255.255:1", "169.254.1.1:1", "1.0.0.1:1", OTHER_CLIENT] {
        let packet = Packet::tcp(end(source), end(VIP4_TCP), SYN);
        rows.push((source, packet.clone(), Want::Tx(forwarded(&packet, end(BACKEND4_TCP)))));
    }
    let link_local = Packet::tcp(end("[fe80::7]:1"), end(VIP6_TCP), SYN);
    rows.push((
        "link-local",
        link_local.clone(),
        Want::Tx(forwarded(&link_local, end(BACKEND6_TCP))),
    ));
    check(&bed, &rows);
}
