//! One port of a client's towards two VIPs over the same backend, which sees one connection.

use crate::bed::{Bed, VIP4, Want, address, check, end, program, tcp};
use crate::floods::{Connection, End};
use crate::forward::{BACKEND4_TCP, CLIENT4, VIP4_TCP, forwarded, returned};
use crate::refuse::reset;
use crate::wire::{ACK, FIN, RST, SYN};

const OTHER_VIP: &str = "203.0.113.11";

fn bed() -> (Bed, End) {
    let mut bed = Bed::new();
    bed.serve(tcp(VIP4, 80), &program(&[(BACKEND4_TCP, 1)]));
    bed.serve(tcp(OTHER_VIP, 80), &program(&[(BACKEND4_TCP, 1)]));
    bed.plane.add_vip(address(OTHER_VIP)).unwrap();
    (bed, (address(OTHER_VIP), 80))
}

/// The backend takes the second SYN for a segment of the first connection, and says where that one is (RFC 5961 section
/// 4.2). Then the client is told, and the first goes on.
#[test]
fn a_second_live_connection_of_one_port_is_refused() {
    let (bed, other) = bed();
    let first = Connection::open(&bed, end(CLIENT4), end(VIP4_TCP));
    let second = Connection { vip: other, ..first };
    let syn = second.there(SYN, 500);
    let Connection { vip, backend, .. } = first;
    let (there, back) = (first.there(ACK, 1), first.back(ACK, 1));
    let (fin, forged) = (first.back(FIN | ACK, 1), second.there(ACK, 700));
    let neighbour = Connection { client: (first.client.0, 40_002), ..second }.there(SYN, 0);
    let refused = reset(&syn, RST | ACK, 0, 1_000 + 500 + 1);
    let rows = [
        ("the second", syn.clone(), Want::Tx(forwarded(&syn, backend))),
        ("the backend is elsewhere", back.clone(), Want::Tx(returned(&back, vip, &there))),
        ("the second again", syn, Want::Answer("port_in_use", refused)),
        ("the first goes on", there.clone(), Want::Tx(forwarded(&there, backend))),
        ("and is answered", back.clone(), Want::Tx(returned(&back, vip, &there))),
        ("another port", neighbour.clone(), Want::Tx(forwarded(&neighbour, backend))),
        ("a segment that anybody sent", forged.clone(), Want::Tx(forwarded(&forged, backend))),
        ("takes no answer away", fin.clone(), Want::Tx(returned(&fin, vip, &there))),
    ];
    check(&bed, &rows);
}

/// A backend that has forgotten the first connection accepts the second.
#[test]
fn the_backend_decides_which_connection_lives() {
    let (bed, other) = bed();
    let first = Connection::open(&bed, end(CLIENT4), end(VIP4_TCP));
    bed.send(&first.back(ACK, 1));
    // The coarse clock must see the second flow begin later; it ticks every few milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let second = Connection::open(&bed, first.client, other);
    let back = second.back(FIN | ACK, 1);
    let want = returned(&back, other, &second.there(ACK, 1));
    check(&bed, &[("its answer", back, Want::Tx(want))]);
}

#[test]
fn a_port_is_free_once_its_connection_is_over() {
    for is_closed in [true, false] {
        let (mut bed, other) = bed();
        let first = Connection::open(&bed, end(CLIENT4), end(VIP4_TCP));
        if is_closed {
            bed.send(&first.there(FIN | ACK, 1));
            bed.send(&first.back(FIN | ACK, 2));
        } else {
            bed.age_flows(std::time::Duration::from_secs(301));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        let second = Connection::open(&bed, first.client, other);
        let back = second.back(ACK, 1);
        let want = returned(&back, other, &second.there(ACK, 1));
        check(&bed, &[("its answer", back, Want::Tx(want))]);
    }
}
