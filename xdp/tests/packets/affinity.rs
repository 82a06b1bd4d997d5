//! Session affinity: a client address keeps its backend.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use sluice_xdp::{Frontend, Program};

use crate::bed::{Bed, VIP4, VIP6, address, end, options, program, socket, tcp, udp};
use crate::wire::{ACK, Packet, SYN};

const V4: [&str; 3] = ["10.1.0.11:8080", "10.1.0.12:8080", "10.1.0.13:8080"];
const V6: [&str; 3] = ["[2001:db8:1::11]:8080", "[2001:db8:1::12]:8080", "[2001:db8:1::13]:8080"];
const CLIENTS: u16 = 60;
const LONG: Duration = Duration::from_secs(10_800);

fn affine(backends: &[(&str, u16)], timeout: Duration) -> Program {
    Program { affinity: Some(timeout), ..program(backends) }
}

fn all(backends: [&str; 3]) -> [(&str, u16); 3] {
    backends.map(|backend| (backend, 1))
}

/// Where a client's new connection goes.
fn opened(bed: &Bed, frontend: &Frontend, client: u16, port: u16) -> SocketAddr {
    let from = match frontend.vip.is_ipv4() {
        true => address(&format!("198.51.100.{client}")),
        false => address(&format!("2001:db8:77::{client:x}")),
    };
    let to = (frontend.vip, frontend.port);
    let packet = match frontend.protocol {
        sluice_xdp::Protocol::Udp => Packet::udp((from, port), to, b"x"),
        sluice_xdp::Protocol::Tcp => Packet::tcp((from, port), to, SYN),
        sluice_xdp::Protocol::Sctp => crate::sctp::chunks((from, port), to, SYN),
    };
    bed.backend_of(&packet)
}

fn spread(bed: &Bed, frontend: &Frontend, port: u16) -> Vec<SocketAddr> {
    (0..CLIENTS).map(|client| opened(bed, frontend, client, port)).collect()
}

#[test]
fn ports_of_a_client_go_one_way_and_clients_spread() {
    let mut bed = Bed::new();
    for (frontend, backends) in
        [(tcp(VIP4, 80), V4), (udp(VIP4, 53), V4), (tcp(VIP6, 80), V6), (udp(VIP6, 53), V6)]
    {
        bed.serve(frontend, &affine(&all(backends), LONG));
        let first = spread(&bed, &frontend, 1000);
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "{frontend:?}: spread");
        for port in 1001..1010 {
            assert_eq!(spread(&bed, &frontend, port), first, "{frontend:?}: port {port}");
        }
    }
}

#[test]
fn a_new_backend_takes_no_client_from_others() {
    let mut bed = Bed::new();
    for (frontend, backends) in [(tcp(VIP4, 80), V4), (tcp(VIP6, 80), V6)] {
        bed.serve(frontend, &affine(&[(backends[0], 1)], LONG));
        let first = spread(&bed, &frontend, 1000);
        bed.serve(frontend, &affine(&all(backends), LONG));
        assert_eq!(spread(&bed, &frontend, 1001), first);
        // The loader's death changes nothing.
        bed = bed.reopen();
        assert_eq!(spread(&bed, &frontend, 1002), first);
    }
}

#[test]
fn a_drained_or_vanished_backend_gets_no_affine_flow() {
    for left in [&[(V4[0], 0), (V4[1], 1), (V4[2], 1)][..], &[(V4[1], 1), (V4[2], 1)]] {
        let mut bed = Bed::new();
        let frontend = tcp(VIP4, 80);
        bed.serve(frontend, &affine(&[(V4[0], 1)], LONG));
        assert!(spread(&bed, &frontend, 1000).iter().all(|backend| *backend == socket(V4[0])));
        bed.serve(frontend, &affine(left, LONG));
        let chosen = spread(&bed, &frontend, 1001);
        assert!(!chosen.contains(&socket(V4[0])));
        // What was chosen anew is remembered: the old one's return changes nothing.
        bed.serve(frontend, &affine(&all(V4), LONG));
        assert_eq!(spread(&bed, &frontend, 1002), chosen);
    }
}

/// The number that a service or backend had in the maps is given to others.
#[test]
fn a_reused_number_inherits_nothing() {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &affine(&[(V4[0], 1)], LONG));
    spread(&bed, &tcp(VIP4, 80), 1000);
    bed.plane.remove_program(&tcp(VIP4, 80)).unwrap();
    bed.serve(tcp(VIP4, 81), &affine(&[(V4[1], 1), (V4[2], 1)], LONG));
    let chosen: BTreeSet<_> = spread(&bed, &tcp(VIP4, 81), 1000).into_iter().collect();
    assert_eq!(chosen, [socket(V4[1]), socket(V4[2])].into());
}

#[test]
fn frontends_remember_by_themselves() {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &affine(&[(V4[0], 1)], LONG));
    bed.serve(tcp(VIP4, 81), &affine(&[(V4[1], 1)], LONG));
    assert_eq!(opened(&bed, &tcp(VIP4, 80), 1, 1000), socket(V4[0]));
    assert_eq!(opened(&bed, &tcp(VIP4, 81), 1, 1001), socket(V4[1]));
    bed.serve(tcp(VIP4, 80), &affine(&all(V4), LONG));
    bed.serve(tcp(VIP4, 81), &affine(&all(V4), LONG));
    assert_eq!(opened(&bed, &tcp(VIP4, 80), 1, 1002), socket(V4[0]));
    assert_eq!(opened(&bed, &tcp(VIP4, 81), 1, 1003), socket(V4[1]));
}

#[test]
fn it_is_switched_on_and_off_while_flows_run() {
    let mut bed = Bed::new();
    let frontend = tcp(VIP4, 80);
    bed.serve(frontend, &program(&all(V4)));
    let ports = |bed: &Bed| -> BTreeSet<_> {
        (2000..2040).map(|port| opened(bed, &frontend, 1, port)).collect()
    };
    assert_eq!(ports(&bed).len(), 3, "off");
    let running = opened(&bed, &frontend, 2, 3000);
    bed.serve(frontend, &affine(&all(V4), LONG));
    let data = Packet::tcp(end("198.51.100.2:3000"), end("203.0.113.10:80"), ACK);
    assert_eq!(bed.backend_of(&data), running, "a flow that runs is not moved");
    let fresh = |from: u16| -> BTreeSet<_> {
        (from..from + 40).map(|port| opened(&bed, &frontend, 3, port)).collect()
    };
    assert_eq!(fresh(4000).len(), 1, "on");
    bed.serve(frontend, &program(&all(V4)));
    let fresh: BTreeSet<_> = (5000..5040).map(|port| opened(&bed, &frontend, 3, port)).collect();
    assert_eq!(fresh.len(), 3, "off again");
}

#[test]
fn the_time_out_is_refreshed_by_new_flows_and_then_over() {
    let mut bed = Bed::new();
    let frontend = tcp(VIP4, 80);
    let timeout = Duration::from_secs(100);
    bed.serve(frontend, &affine(&[(V4[0], 1)], timeout));
    spread(&bed, &frontend, 1000);
    bed.serve(frontend, &affine(&all(V4), timeout));
    // Twice three quarters of the time-out: only the refresh in between carries it over.
    for port in [1001, 1002] {
        bed.age_affinities(Duration::from_secs(75));
        let backends = spread(&bed, &frontend, port);
        assert!(backends.iter().all(|backend| *backend == socket(V4[0])), "port {port}");
    }
    bed.age_affinities(Duration::from_secs(101));
    assert!(spread(&bed, &frontend, 1003).iter().any(|backend| *backend != socket(V4[0])));
}

/// Another appliance, and this one with its memory lost, choose the same way.
#[test]
fn what_is_not_remembered_is_agreed_upon() {
    let mut one = Bed::new();
    let frontend = tcp(VIP4, 80);
    one.serve(frontend, &affine(&all(V4), LONG));
    let mut other = Bed::open(&options(&one.pin_dir().with_file_name("other")));
    other.plane.add_vip(address(VIP4)).unwrap();
    other.serve(frontend, &affine(&all(V4), LONG));
    assert_eq!(spread(&one, &frontend, 1000), spread(&other, &frontend, 2000));
}
