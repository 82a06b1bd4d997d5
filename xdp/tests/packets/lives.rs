//! How long flows of TCP are remembered, by what both sides have sent.

use std::time::Duration;

use sluice_xdp::Program;

use crate::bed::{Bed, VIP4, Want, check, end, program, tcp};
use crate::floods::Connection;
use crate::forward::{BACKEND4_TCP, CLIENT4, VIP4_TCP, returned};
use crate::wire::{ACK, FIN, Packet, RST, SYN};

const IDLE_S: u64 = 7440;

fn bed() -> Bed {
    let mut bed = Bed::new();
    let backends = program(&[(BACKEND4_TCP, 1)]);
    bed.serve(tcp(VIP4, 80), &Program { idle_timeout: Duration::from_secs(IDLE_S), ..backends });
    bed
}

fn open(bed: &Bed) -> Connection {
    Connection::open(bed, end(CLIENT4), end(VIP4_TCP))
}

/// The client sends its request and closes its side; the server takes 45 seconds for the answer.
#[test]
fn a_half_closed_connection_gets_its_answer() {
    let mut bed = bed();
    let connection = open(&bed);
    bed.send(&connection.there(ACK, 1));
    bed.send(&connection.there(FIN | ACK, 17));
    bed.send(&connection.back(ACK, 18));
    bed.age_flows(Duration::from_secs(45));
    assert_eq!(bed.plane.sweep().unwrap(), 1);
    let answer = connection.back(ACK, 18);
    let want = returned(&answer, connection.vip, &connection.there(ACK, 1));
    check(&bed, &[("the answer", answer, Want::Tx(want))]);
    // Both sides have closed.
    bed.send(&connection.back(FIN | ACK, 18));
    bed.send(&connection.there(ACK, 18));
    bed.age_flows(Duration::from_secs(32));
    assert_eq!(bed.plane.sweep().unwrap(), 0);
}

#[test]
fn forged_ends_shorten_nothing() {
    const GUESS: u32 = 0x5555_5555;
    type Sent = fn(&Connection) -> Vec<Packet>;
    let cases: [(&str, Sent, u64); 10] = [
        ("nothing", |_| vec![], IDLE_S),
        ("a forged FIN", |c| vec![c.there(FIN, GUESS)], IDLE_S),
        ("a forged RST", |c| vec![c.there(RST, GUESS)], IDLE_S),
        ("many of both", |c| [FIN, RST, FIN | ACK].map(|f| c.there(f, GUESS)).into(), IDLE_S),
        ("a SYN", |c| vec![c.there(SYN, GUESS)], IDLE_S),
        (
            "a forged RST, and the client goes on",
            |c| vec![c.there(RST, 9), c.there(ACK, 1)],
            IDLE_S,
        ),
        ("a forged RST, and the backend does", |c| vec![c.there(RST, 9), c.back(ACK, 1)], IDLE_S),
        ("the client's RST", |c| vec![c.there(ACK, 1), c.there(RST, 17)], 30),
        ("the backend's RST", |c| vec![c.back(RST, 0)], 30),
        ("the backend's FIN", |c| vec![c.back(FIN | ACK, 1), c.there(ACK, 1)], IDLE_S),
    ];
    let mut bed = bed();
    for (what, packets, timeout_s) in cases {
        let connection = open(&bed);
        for packet in packets(&connection) {
            bed.send(&packet);
            // As a second of time does: the next packet visits the flow table.
            bed.plane.flush_cache().unwrap();
        }
        for (seconds_more, flows) in [(timeout_s - 2, 1), (4, 0)] {
            bed.age_flows(Duration::from_secs(seconds_more));
            assert_eq!(bed.plane.sweep().unwrap(), flows, "{what}");
        }
    }
}
