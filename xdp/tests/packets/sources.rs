//! Source ranges: who may open flows.

use sluice_xdp::{Frontend, Program};

use crate::bed::{Bed, Row, VIP4, VIP6, Verdict, Want, check, counted, end, program, tcp, udp};
use crate::forward::{
    BACKEND4_TCP, BACKEND6_TCP, CLIENT4, CLIENT6, VIP4_TCP, VIP6_TCP, forwarded, returned,
};
use crate::wire::{ACK, Packet, SYN};

const REFUSED: &str = "source_range";

fn within(base: &Program, ranges: &[&str]) -> Program {
    let source_ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
    Program { source_ranges, ..base.clone() }
}

/// A frontend of each family with these ranges.
fn ranged(ranges: &[&str]) -> Bed {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &within(&program(&[(BACKEND4_TCP, 1)]), ranges));
    bed.serve(tcp(VIP6, 80), &within(&program(&[(BACKEND6_TCP, 1)]), ranges));
    bed
}

fn syn(client: &str, is_let_in: bool) -> Row {
    let client = end(client);
    let (vip, backend) = if client.0.is_ipv4() {
        (end(VIP4_TCP), end(BACKEND4_TCP))
    } else {
        (end(VIP6_TCP), end(BACKEND6_TCP))
    };
    let packet = Packet::tcp(client, vip, SYN);
    if is_let_in {
        let want = Want::Tx(forwarded(&packet, backend));
        ("within", packet, want)
    } else {
        ("outside", packet, Want::Drop(REFUSED))
    }
}

#[test]
fn clients_outside_are_dropped_in_both_families() {
    let bed = ranged(&["198.51.100.0/25", "192.0.2.9/32", "2001:db8:77::/64", "2001:db8:9::9/128"]);
    let rows = [
        syn("198.51.100.0:1", true),
        syn("198.51.100.127:2", true),
        syn("198.51.100.128:3", false),
        syn("198.51.99.255:4", false),
        syn("192.0.2.9:5", true),
        syn("192.0.2.8:6", false),
        syn("[2001:db8:77::]:7", true),
        syn("[2001:db8:77::ffff:ffff:ffff:ffff]:8", true),
        syn("[2001:db8:78::1]:9", false),
        syn("[2001:db8:9::9]:10", true),
        syn("[2001:db8:9::8]:11", false),
    ];
    check(&bed, &rows);
    let new_flows: u64 = bed.snapshot().frontends.values().map(|c| c.new_flows).sum();
    assert_eq!(new_flows, 6, "a refused client opens nothing");
}

#[test]
fn a_family_without_prefix_is_refused_altogether() {
    let rows4 = [syn("198.51.100.7:1", true), syn("[2001:db8:77::7]:1", false)];
    check(&ranged(&["0.0.0.0/0"]), &rows4);
    let rows6 = [syn("198.51.100.7:1", false), syn("[2001:db8:77::7]:1", true)];
    check(&ranged(&["::/0"]), &rows6);
    // The prefix that mapped IPv4 addresses have inside the maps is an IPv6 prefix to a user.
    check(&ranged(&["::ffff:0:0/96"]), &[syn("198.51.100.7:1", false)]);
}

#[test]
fn datagrams_are_refused_too_and_silently_without_backends() {
    let mut bed = Bed::new();
    for (vip, backend, client) in
        [(VIP4, "10.1.0.11:53", CLIENT4), (VIP6, "[2001:db8:1::11]:53", CLIENT6)]
    {
        let ranges = ["203.0.113.0/24", "2001:db8:113::/48"];
        bed.serve(udp(vip, 53), &within(&program(&[(backend, 1)]), &ranges));
        bed.serve(udp(vip, 54), &within(&program(&[]), &ranges));
        for port in [53, 54] {
            let packet = Packet::udp(end(client), (vip.parse().unwrap(), port), b"query");
            check(&bed, &[("UDP", packet, Want::Drop(REFUSED))]);
        }
    }
}

/// What Kubernetes' own test does: it tightens the ranges and expects a new connection to fail.
#[test]
fn tightened_ranges_hold_for_new_connections_and_end_flows_outside() {
    let base = program(&[(BACKEND4_TCP, 1)]);
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &base);
    let (vip, backend) = (end(VIP4_TCP), end(BACKEND4_TCP));
    let (inside, outside) = (end("198.51.100.7:1000"), end("198.51.100.200:1000"));
    for client in [inside, outside] {
        for flags in [SYN, ACK, ACK] {
            assert_eq!(bed.send(&Packet::tcp(client, vip, flags)).verdict, Verdict::Tx);
        }
    }
    bed.serve(tcp(VIP4, 80), &within(&base, &["198.51.100.0/25"]));
    let data = Packet::tcp(inside, vip, ACK);
    let rows = [
        ("a flow inside goes on", data.clone(), Want::Tx(forwarded(&data, backend))),
        ("a flow outside ends", Packet::tcp(outside, vip, ACK), Want::Drop(REFUSED)),
        ("and stays ended", Packet::tcp(outside, vip, ACK), Want::Drop(REFUSED)),
        ("its replies are nobody's", Packet::tcp(backend, outside, ACK), Want::Pass),
        ("a new one", Packet::tcp((outside.0, 1001), vip, SYN), Want::Drop(REFUSED)),
    ];
    check(&bed, &rows);

    // Any other list that has the client lets its flow go on; none lets in everybody.
    bed.serve(tcp(VIP4, 80), &within(&base, &["198.51.0.0/16"]));
    check(&bed, &[("wider", data.clone(), Want::Tx(forwarded(&data, backend)))]);
    bed.serve(tcp(VIP4, 80), &base);
    let again = Packet::tcp(outside, vip, SYN);
    let reply = Packet::tcp(backend, outside, SYN | ACK);
    let rows = [
        ("all", again.clone(), Want::Tx(forwarded(&again, backend))),
        ("with its reply", reply.clone(), Want::Tx(returned(&reply, vip, &again))),
    ];
    check(&bed, &rows);
    assert_eq!(bed.snapshot().frontends[&tcp(VIP4, 80)].new_flows, 3, "two, and one anew");
}

/// Services share a list; changing one service's ranges must leave the others'.
#[test]
fn a_shared_list_outlives_its_first_user() {
    let base = program(&[(BACKEND4_TCP, 1)]);
    let ranges = ["198.51.100.0/24"];
    let mut bed = Bed::new();
    let ports = [80u16, 81, 82];
    ports.iter().for_each(|port| bed.serve(tcp(VIP4, *port), &within(&base, &ranges)));
    let sent = |bed: &Bed, client: &str, port: u16| {
        bed.send(&Packet::tcp(end(client), (VIP4.parse().unwrap(), port), SYN)).verdict
    };
    bed.serve(tcp(VIP4, 80), &within(&base, &["192.0.2.0/24"]));
    bed.plane.remove_program(&tcp(VIP4, 81)).unwrap();
    assert_eq!(sent(&bed, "198.51.100.7:1", 80), Verdict::Drop);
    assert_eq!(sent(&bed, "198.51.100.7:1", 82), Verdict::Tx);
    assert_eq!(sent(&bed, "192.0.2.7:1", 80), Verdict::Tx);
    assert_eq!(sent(&bed, "192.0.2.7:1", 82), Verdict::Drop);
    // Everything of a list goes with its last user, and its place can be taken.
    bed.plane.remove_program(&tcp(VIP4, 82)).unwrap();
    assert_eq!(bed.prefixes(), 1);
    let mut bed = bed.reopen();
    assert_eq!(bed.prefixes(), 1);
    bed.serve(tcp(VIP4, 83), &within(&base, &["192.0.2.0/24"]));
    assert_eq!(bed.prefixes(), 1, "an adopted list is shared as well");
    bed.plane.remove_program(&tcp(VIP4, 80)).unwrap();
    assert_eq!(sent(&bed, "192.0.2.7:2", 83), Verdict::Tx);
    assert_eq!(sent(&bed, "198.51.100.7:2", 83), Verdict::Drop);
}

#[test]
fn lists_are_read_back_normal_and_survive_the_loader() {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let given = ["2001:db8:77::1/64", "198.51.100.7/24", "198.51.100.0/24", "10.0.0.0/8", "::/0"];
    let normal = nets(&["10.0.0.0/8", "198.51.100.0/24", "::/0", "2001:db8:77::/64"]);
    let base = program(&[(BACKEND4_TCP, 1)]);
    let mut bed = Bed::new();
    let frontend: Frontend = tcp(VIP4, 80);
    let wanted = Program {
        full_nat: nets(&["10.0.0.9/8", "::/0"]),
        affinity: Some(std::time::Duration::from_millis(10_001)),
        ..within(&base, &given)
    };
    bed.serve(frontend, &wanted);
    let expected = Program {
        source_ranges: normal,
        full_nat: nets(&["10.0.0.0/8", "::/0"]),
        affinity: Some(std::time::Duration::from_secs(11)),
        ..base
    };
    assert_eq!(bed.plane.programs().unwrap()[&frontend], expected);
    let bed = bed.reopen();
    assert!(bed.plane.adopted());
    assert_eq!(bed.plane.programs().unwrap()[&frontend], expected);
}

#[test]
fn too_many_prefixes_are_an_error_and_change_nothing() {
    let mut bed = ranged(&["198.51.100.0/24"]);
    let before = bed.plane.programs().unwrap();
    let many = (0..=sluice_xdp_abi::limits::MAX_PREFIXES)
        .map(|n| ipnet::Ipv4Net::new(std::net::Ipv4Addr::from(n << 8), 24).unwrap().into())
        .collect();
    let wanted = Program { source_ranges: many, ..program(&[(BACKEND4_TCP, 1)]) };
    let error = bed.plane.put_program(tcp(VIP4, 80), &wanted).unwrap_err();
    assert!(error.to_string().contains("65536 prefixes"), "{error}");
    assert_eq!(bed.plane.programs().unwrap(), before);
    let packet = Packet::tcp(end("192.0.2.1:1"), end(VIP4_TCP), SYN);
    let counts = bed.snapshot();
    assert_eq!(bed.send(&packet).verdict, Verdict::Drop);
    assert_eq!(counted(&counts, &bed.snapshot()), [(REFUSED, 1)]);
}
