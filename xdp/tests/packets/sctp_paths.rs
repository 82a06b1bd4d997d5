//! SCTP: clients of several addresses, at several of ours.

use std::collections::BTreeSet;
use std::time::Duration;

use sluice_xdp::Program;

use crate::bed::{Bed, VIP4, Want, address, check, end, program, sctp, socket};
use crate::forward::{forwarded, returned};
use crate::sctp::{BACKEND4, chunks, standard};
use crate::wire::{ACK, Chunk, FIN, Packet, SYN};

const BACKENDS: [&str; 3] = ["10.1.0.11:48412", "10.1.0.12:48412", "10.1.0.13:48412"];
const SECONDARY: &str = "203.0.113.39";

fn multihomed(backends: &[(&str, u16)]) -> Bed {
    let mut bed = Bed::new();
    bed.plane.add_vip(address(SECONDARY)).unwrap();
    let program = Program { multihomed: true, ..program(backends) };
    bed.serve(sctp(VIP4, 38412), &program);
    bed.serve(sctp(SECONDARY, 38412), &program);
    bed
}

#[test]
fn every_path_of_an_association_leads_to_one_backend() {
    let bed = multihomed(&BACKENDS.map(|backend| (backend, 1)));
    let mut used = BTreeSet::new();
    for port in 40_000..40_200 {
        let paths = ["198.51.100.7", "198.51.100.8", "192.0.2.9"].into_iter().flat_map(|client| {
            [VIP4, SECONDARY].map(|vip| ((address(client), port), (address(vip), 38412)))
        });
        let backends: BTreeSet<_> = paths
            .enumerate()
            .map(|(n, (client, vip))| {
                bed.backend_of(&chunks(client, vip, if n == 0 { SYN } else { ACK }))
            })
            .collect();
        assert_eq!(backends.len(), 1, "port {port}: {backends:?}");
        used.extend(backends);
    }
    assert_eq!(used, BACKENDS.map(socket).into(), "clients are spread by their ports");
    // Another appliance, with tables of its own, chooses the same.
    let other = multihomed(&BACKENDS.map(|backend| (backend, 1)));
    for port in 40_000..40_020 {
        let packet = chunks((address("198.51.100.7"), port), (address(SECONDARY), 38412), ACK);
        assert_eq!(other.backend_of(&packet), bed.backend_of(&packet));
    }
}

/// Each path has the address that its packets were sent to as the source of what comes back.
#[test]
fn replies_come_from_the_address_that_was_asked() {
    let bed = multihomed(&[(BACKEND4, 1)]);
    let backend = end(BACKEND4);
    for (client, vip) in [("198.51.100.7:40001", VIP4), ("198.51.100.8:40001", SECONDARY)] {
        let (client, vip) = (end(client), (address(vip), 38412));
        let first = chunks(client, vip, SYN);
        let reply = chunks(backend, client, SYN | ACK);
        let rows = [
            ("there", first.clone(), Want::Tx(forwarded(&first, backend))),
            ("back", reply.clone(), Want::Tx(returned(&reply, vip, &first))),
        ];
        check(&bed, &rows);
    }
}

#[test]
fn what_is_programmed_is_read_back() {
    let bed = multihomed(&[(BACKEND4, 1)]);
    let programs = bed.plane.programs().unwrap();
    assert!(programs[&sctp(SECONDARY, 38412)].multihomed);
    let bed = bed.reopen();
    assert_eq!(bed.plane.programs().unwrap(), programs);
    let standard = standard();
    assert!(!standard.plane.programs().unwrap().values().any(|program| program.multihomed));
}

/// A backend learns all addresses of its client from the INIT, and sends heartbeats to each. They come from the VIP that
/// the client knows: with another source it would end the association.
#[test]
fn a_backend_greets_the_other_addresses_of_its_client() {
    let mut bed = multihomed(&[(BACKEND4, 1)]);
    let (client, other, backend) =
        (end("198.51.100.7:40001"), end("192.0.2.9:40001"), end(BACKEND4));
    let vip = (address(SECONDARY), 38412);
    let heartbeat = |to| Packet::sctp(backend, to, &[Chunk::new(Chunk::HEARTBEAT, &[1; 20])]);
    check(&bed, &[("before the association", heartbeat(other), Want::Pass)]);
    let first = chunks(client, vip, SYN);
    bed.send(&first);
    let greeting = heartbeat(other);
    let want = returned(&greeting, vip, &first);
    let rows = [
        ("to an address not heard of", greeting.clone(), Want::Tx(want.clone())),
        ("cached", greeting.clone(), Want::Tx(want.clone())),
        ("to another port", heartbeat((other.0, 40_002)), Want::Pass),
    ];
    check(&bed, &rows);
    assert_eq!(bed.plane.sweep().unwrap(), 1);
    bed.plane.flush_cache().unwrap();
    check(&bed, &[("after a sweep", greeting.clone(), Want::Tx(want))]);
    // It goes with the flow.
    bed.send(&chunks(client, vip, FIN));
    bed.age_flows(Duration::from_secs(32));
    assert_eq!(bed.plane.sweep().unwrap(), 0);
    assert_eq!(bed.claimed_ports(), 0);
    check(&bed, &[("afterwards", greeting, Want::Pass)]);
}
