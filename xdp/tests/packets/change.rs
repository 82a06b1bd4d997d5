//! Services change while flows are running.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use sluice_xdp::Program;

use crate::bed::{
    Bed, VIP4, VIP6, Verdict, Want, address, check, end, options, program, socket, tcp, udp,
};
use crate::wire::{ACK, FIN, Packet, SYN};

const FLOWS: u16 = 300;
const A: &str = "10.1.0.11:8080";
const B: &str = "10.1.0.12:8080";
const C: &str = "10.1.0.13:8080";

fn client(flow: u16) -> String {
    format!("198.51.100.{}:{}", flow % 250 + 1, 20_000 + flow)
}

fn segment(flow: u16, flags: u8) -> Packet {
    Packet::tcp(end(&client(flow)), end("203.0.113.10:80"), flags)
}

/// Where each flow goes when it sends a segment with these flags.
fn spread(bed: &Bed, flows: std::ops::Range<u16>, flags: u8) -> BTreeMap<u16, SocketAddr> {
    flows.map(|flow| (flow, bed.backend_of(&segment(flow, flags)))).collect()
}

fn used(spread: &BTreeMap<u16, SocketAddr>) -> BTreeSet<SocketAddr> {
    spread.values().copied().collect()
}

fn serving(backends: &[(&str, u16)]) -> Bed {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &program(backends));
    bed
}

#[test]
fn flows_stay_when_a_backend_is_added() {
    let mut bed = serving(&[(A, 1), (B, 1)]);
    let before = spread(&bed, 0..FLOWS, SYN);
    assert_eq!(used(&before), [socket(A), socket(B)].into());
    bed.serve(tcp(VIP4, 80), &program(&[(A, 1), (B, 1), (C, 2)]));
    assert_eq!(spread(&bed, 0..FLOWS, ACK), before, "from the table");
    assert_eq!(spread(&bed, 0..FLOWS, ACK), before, "from the cache");
    let fresh = spread(&bed, FLOWS..2 * FLOWS, SYN);
    assert_eq!(used(&fresh), [socket(A), socket(B), socket(C)].into());
}

#[test]
fn draining_keeps_flows_and_takes_no_new_ones() {
    let mut bed = serving(&[(A, 1), (B, 1)]);
    let before = spread(&bed, 0..FLOWS, SYN);
    bed.serve(tcp(VIP4, 80), &program(&[(A, 0), (B, 1)]));
    assert_eq!(spread(&bed, 0..FLOWS, ACK), before);
    assert_eq!(used(&spread(&bed, FLOWS..2 * FLOWS, SYN)), [socket(B)].into());
    // Both: what runs still runs.
    bed.serve(tcp(VIP4, 80), &program(&[(A, 0), (B, 0)]));
    assert_eq!(spread(&bed, 0..FLOWS, ACK), before);
    assert_eq!(bed.send(&segment(3 * FLOWS, SYN)).verdict, Verdict::Tx, "refused");
    bed.serve(tcp(VIP4, 80), &program(&[(A, 1), (B, 1)]));
    assert_eq!(spread(&bed, 0..FLOWS, ACK), before);
}

#[test]
fn flows_of_a_removed_backend_are_chosen_again_and_others_stay() {
    let mut bed = serving(&[(A, 1), (B, 1), (C, 1)]);
    let before = spread(&bed, 0..FLOWS, SYN);
    bed.serve(tcp(VIP4, 80), &program(&[(A, 1), (C, 1)]));
    for (flow, backend) in spread(&bed, 0..FLOWS, ACK) {
        match before[&flow] {
            old if old == socket(B) => assert_ne!(backend, socket(B)),
            old => assert_eq!(backend, old, "flow {flow} had nothing to do with it"),
        }
    }
}

/// The removed backend's number in the maps may be given to the next one: its flows must not
/// come along as if nothing had happened, and its late replies are not the new one's.
#[test]
fn a_replaced_backend_leaves_nothing_behind() {
    let mut bed = serving(&[(A, 1)]);
    let (client, vip) = (end(&client(1)), end("203.0.113.10:80"));
    assert_eq!(bed.backend_of(&segment(1, SYN)), socket(A));
    bed.serve(tcp(VIP4, 80), &program(&[(B, 1)]));
    let late = Packet::tcp(end(A), client, ACK);
    check(&bed, &[("a late reply", late, Want::Pass)]);
    assert_eq!(bed.backend_of(&segment(1, ACK)), socket(B));
    let reply = Packet::tcp(end(B), client, ACK);
    let want = crate::forward::returned(&reply, vip, &segment(1, ACK));
    check(&bed, &[("the new one's reply", reply, Want::Tx(want))]);
    let snapshot = bed.snapshot();
    assert_eq!(snapshot.backends.keys().copied().collect::<Vec<_>>(), [(tcp(VIP4, 80), socket(B))]);
    // What A moved stays in the frontend's sum.
    assert_eq!(snapshot.frontends[&tcp(VIP4, 80)].to_backends.packets, 2);
}

#[test]
fn the_last_backend_goes_and_comes_back() {
    let mut bed = serving(&[(A, 1)]);
    assert_eq!(bed.backend_of(&segment(1, SYN)), socket(A));
    bed.serve(tcp(VIP4, 80), &program(&[]));
    let before = bed.snapshot();
    assert_eq!(bed.send(&segment(1, ACK)).verdict, Verdict::Tx);
    assert_eq!(crate::bed::counted(&before, &bed.snapshot()), [("no_backend", 1)]);
    bed.serve(tcp(VIP4, 80), &program(&[(A, 1)]));
    assert_eq!(bed.backend_of(&segment(1, SYN)), socket(A));
}

/// Two backends of each family, and a datagram of some flow.
fn datagrams() -> [(sluice_xdp::Frontend, [&'static str; 2], &'static str); 2] {
    [
        (udp(VIP4, 53), ["10.1.0.11:53", "10.1.0.12:53"], "198.51.100.7"),
        (udp(VIP6, 53), ["[2001:db8:1::11]:53", "[2001:db8:1::12]:53"], "2001:db8:77::7"),
    ]
}

fn datagram(frontend: &sluice_xdp::Frontend, client: &str, flow: u16) -> Packet {
    Packet::udp((address(client), 20_000 + flow), (frontend.vip, frontend.port), b"query")
}

#[test]
fn udp_flows_are_chosen_again_too() {
    let mut bed = Bed::new();
    for (frontend, [a, b], client) in datagrams() {
        bed.serve(frontend, &program(&[(a, 1), (b, 1)]));
        let chosen = |bed: &Bed, flow| bed.backend_of(&datagram(&frontend, client, flow));
        let before: Vec<_> = (0..FLOWS).map(|flow| chosen(&bed, flow)).collect();
        assert!(before.contains(&socket(a)) && before.contains(&socket(b)));
        bed.serve(frontend, &program(&[(b, 1)]));
        assert!((0..FLOWS).all(|flow| chosen(&bed, flow) == socket(b)));
    }
}

#[test]
fn udp_flows_stay_on_a_draining_backend() {
    let mut bed = Bed::new();
    for (frontend, [a, b], client) in datagrams() {
        bed.serve(frontend, &program(&[(a, 1), (b, 1)]));
        let chosen = |bed: &Bed, flow| bed.backend_of(&datagram(&frontend, client, flow));
        let before: Vec<_> = (0..FLOWS).map(|flow| chosen(&bed, flow)).collect();
        bed.serve(frontend, &program(&[(a, 0), (b, 1)]));
        let after: Vec<_> = (0..FLOWS).map(|flow| chosen(&bed, flow)).collect();
        assert_eq!(before, after);
        assert!((FLOWS..2 * FLOWS).all(|flow| chosen(&bed, flow) == socket(b)));
    }
}

#[test]
fn a_removed_service_refuses_and_a_removed_vip_passes() {
    let mut bed = serving(&[(A, 1)]);
    bed.serve(tcp(VIP4, 81), &program(&[(A, 1)]));
    assert_eq!(bed.backend_of(&segment(1, SYN)), socket(A));
    assert_eq!(bed.backend_of(&segment(1, ACK)), socket(A));
    bed.plane.remove_program(&tcp(VIP4, 80)).unwrap();
    let before = bed.snapshot();
    assert_eq!(bed.send(&segment(1, ACK)).verdict, Verdict::Tx);
    assert_eq!(crate::bed::counted(&before, &bed.snapshot()), [("no_service", 1)]);
    assert_eq!(bed.plane.programs().unwrap().len(), 1);
    bed.plane.remove_program(&tcp(VIP4, 81)).unwrap();
    bed.plane.remove_vip(address(VIP4)).unwrap();
    check(&bed, &[("to a former VIP", segment(1, ACK), Want::Pass)]);
    assert_eq!(bed.plane.vips().unwrap(), [address(VIP6)].into());
}

/// The same backends in another order, on another appliance: every flow goes the same way.
#[test]
fn two_appliances_agree() {
    let backends = [(A, 3), (B, 1), (C, 2)];
    let one = serving(&backends);
    let reversed: Vec<_> = backends.into_iter().rev().collect();
    let mut other = Bed::open(&options(&one.pin_dir().with_file_name("other")));
    other.plane.add_vip(address(VIP4)).unwrap();
    // Another history as well: other numbers in the maps.
    other.serve(tcp(VIP4, 1), &program(&[(C, 1), (A, 1)]));
    other.serve(tcp(VIP4, 80), &program(&[(C, 1)]));
    other.serve(tcp(VIP4, 80), &program(&reversed));
    assert_eq!(spread(&one, 0..FLOWS, SYN), spread(&other, 0..FLOWS, SYN));
}

#[test]
fn weights_are_kept() {
    let bed = serving(&[(A, 3), (B, 1)]);
    let flows = 4000;
    let spread = spread(&bed, 0..flows, SYN);
    let to_a = spread.values().filter(|backend| **backend == socket(A)).count();
    // Five standard deviations of a fair choice around three quarters.
    assert!((2863..=3137).contains(&to_a), "{to_a} of {flows}");
}

/// A client that reuses its port right after closing must not be sent to where its old connection
/// was, if that is drained.
#[test]
fn a_new_connection_on_a_closed_one_avoids_a_drained_backend() {
    let mut bed = serving(&[(A, 1)]);
    assert_eq!(bed.backend_of(&segment(1, SYN)), socket(A));
    assert_eq!(bed.backend_of(&segment(1, FIN | ACK)), socket(A));
    bed.send(&Packet::tcp(end(A), end(&client(1)), FIN | ACK));
    bed.serve(tcp(VIP4, 80), &program(&[(A, 0), (B, 1)]));
    assert_eq!(bed.backend_of(&segment(1, ACK)), socket(A), "the rest of the old one");
    assert_eq!(bed.backend_of(&segment(1, SYN)), socket(B));
}

#[test]
fn programs_are_read_back() {
    let mut bed = Bed::new();
    let wanted: BTreeMap<_, Program> = [
        (tcp(VIP4, 80), program(&[(A, 1), (B, 0), (C, 7)])),
        (udp(VIP4, 80), program(&[])),
        (tcp(VIP6, 443), program(&[("[2001:db8:1::1]:8443", 65535)])),
    ]
    .into();
    for (frontend, program) in &wanted {
        bed.serve(*frontend, program);
    }
    assert_eq!(bed.plane.programs().unwrap(), wanted);
    assert_eq!(bed.plane.vips().unwrap(), [address(VIP4), address(VIP6)].into());
}
