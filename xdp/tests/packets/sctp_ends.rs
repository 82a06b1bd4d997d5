//! SCTP: how flows end, and what nobody serves is refused with (RFC 9260 section 8.4).

use std::net::IpAddr;
use std::time::Duration;

use sluice_xdp::{NoBackend, Program};

use crate::bed::{Bed, Row, VIP4, VIP6, Verdict, Want, check, end, program, sctp};
use crate::refuse::answer;
use crate::sctp::{BACKEND4, CLIENT4, CLIENT6, End, VIP4_SCTP, chunks, families, standard};
use crate::wire::{ACK, Body, Chunk, FIN, Packet, RST, SYN, Sctp};

const REFLECTED: u8 = 1;

/// One chunk, back to the sender, with this tag.
fn refusal(packet: &Packet, kind: u8, flags: u8, tag: u32) -> Packet {
    let Body::Sctp(sctp) = &packet.body else { panic!("not SCTP: {packet:?}") };
    let chunks = vec![Chunk { flags, ..Chunk::new(kind, &[]) }];
    let (source, destination) = (sctp.destination, sctp.source);
    answer(packet, Body::Sctp(Sctp { source, destination, tag, chunks }))
}

fn refused(client: (IpAddr, u16), vip: (IpAddr, u16), reason: &'static str) -> Vec<Row> {
    const TAG: u32 = 0x2122_2324;
    let of = |chunks: &[Chunk]| Packet::sctp(client, vip, chunks);
    let empty = |kind| Chunk::new(kind, &[]);
    let init = of(&[Chunk::init(Chunk::INIT, 0x0a0b_0c0d)]);
    let aborted = |packet: Packet| {
        let want = refusal(&packet, Chunk::ABORT, REFLECTED, TAG);
        (packet, Want::Answer(reason, want))
    };
    let rows = [
        (
            "INIT",
            (init.clone(), Want::Answer(reason, refusal(&init, Chunk::ABORT, 0, 0x0a0b_0c0d))),
        ),
        ("data", aborted(of(&[Chunk::data(&[7; 1000])]))),
        ("short data", aborted(of(&[Chunk::data(b"")]))),
        ("padded", aborted(of(&[empty(Chunk::COOKIE_ECHO)]).with(|p| p.trailer = vec![0; 12]))),
        ("SACK and data", aborted(of(&[Chunk::new(Chunk::SACK, &[0; 12]), Chunk::data(b"x")]))),
        ("heartbeat", aborted(of(&[Chunk::new(Chunk::HEARTBEAT, &[0; 20])]))),
        ("SHUTDOWN", aborted(of(&[Chunk::new(Chunk::SHUTDOWN, &[0; 4])]))),
        ("INIT ACK", aborted(of(&[Chunk::init(Chunk::INIT_ACK, 9)]))),
        ("SHUTDOWN ACK", {
            let packet = of(&[empty(Chunk::SHUTDOWN_ACK)]);
            let want = refusal(&packet, Chunk::SHUTDOWN_COMPLETE, REFLECTED, TAG);
            (packet, Want::Answer(reason, want))
        }),
        ("ABORT", (of(&[empty(Chunk::ABORT)]), Want::Drop(reason))),
        ("ABORT behind a SACK", {
            (of(&[Chunk::new(Chunk::SACK, &[0; 12]), empty(Chunk::ABORT)]), Want::Drop(reason))
        }),
        ("SHUTDOWN COMPLETE", (of(&[empty(Chunk::SHUTDOWN_COMPLETE)]), Want::Drop(reason))),
        ("COOKIE ACK", (of(&[empty(Chunk::COOKIE_ACK)]), Want::Drop(reason))),
        ("ERROR", (of(&[Chunk::new(Chunk::ERROR, &[0, 3, 0, 8, 0, 0, 0, 1])]), Want::Drop(reason))),
        ("INIT with a tag", (init.clone().with(|p| p.sctp_mut().tag = 5), Want::Drop(reason))),
        ("INIT for tag 0", (of(&[Chunk::init(Chunk::INIT, 0)]), Want::Drop(reason))),
        ("a short INIT", (of(&[Chunk::new(Chunk::INIT, &[1; 8])]), Want::Drop(reason))),
        ("data without a tag", {
            (of(&[Chunk::data(b"x")]).with(|p| p.sctp_mut().tag = 0), Want::Drop(reason))
        }),
    ];
    rows.into_iter().map(|(what, (packet, want))| (what, packet, want)).collect()
}

#[test]
fn unknown_ports_are_refused() {
    let bed = standard();
    check(&bed, &refused(end(CLIENT4), end("203.0.113.10:81"), "no_service"));
    check(&bed, &refused(end(CLIENT6), end("[2001:db8:113::10]:81"), "no_service"));
}

#[test]
fn a_service_without_backends_refuses_or_drops_as_it_says() {
    let mut bed = Bed::new();
    let drop = Program { no_backend: NoBackend::Drop, ..program(&[]) };
    for (vip, client) in [(VIP4, CLIENT4), (VIP6, CLIENT6)] {
        let ip = vip.parse().unwrap();
        bed.serve(sctp(vip, 80), &program(&[]));
        bed.serve(sctp(vip, 81), &drop);
        check(&bed, &refused(end(client), (ip, 80), "no_backend"));
        let packet = chunks(end(client), (ip, 81), SYN);
        check(&bed, &[("silence", packet, Want::Drop("no_backend"))]);
    }
}

#[test]
fn some_senders_get_no_answer() {
    let bed = standard();
    for source in ["0.0.0.0:9", "127.0.0.1:9", "224.0.0.1:9", "255.255.255.255:9"] {
        let packet = chunks(end(source), end("203.0.113.10:81"), SYN);
        check(&bed, &[(source, packet, Want::Drop("impossible_source"))]);
    }
}

/// One backend with a long time-out.
fn lasting() -> Bed {
    let mut bed = Bed::new();
    let hours = Program { idle_timeout: Duration::from_secs(7200), ..program(&[(BACKEND4, 1)]) };
    bed.serve(sctp(VIP4, 38412), &hours);
    bed
}

#[test]
fn flows_last_as_long_as_what_was_seen_of_them() {
    let (client, vip, backend) = (end(CLIENT4), end(VIP4_SCTP), end(BACKEND4));
    type Sent = (End, End, u8);
    let (init, data) = ((client, vip, SYN), (client, vip, ACK));
    let answer = (backend, client, ACK);
    let ends: [(&str, &[Sent], u64); 9] = [
        ("INIT", &[init], 60),
        ("INIT again", &[init, init], 60),
        ("INIT ACK", &[init, (backend, client, SYN | ACK)], 60),
        ("not answered", &[init, data], 240),
        ("established", &[init, data, answer], 7200),
        ("a forged ABORT", &[init, data, answer, (client, vip, RST), answer], 7200),
        ("aborted by the client", &[init, data, (client, vip, RST)], 30),
        ("aborted by the backend", &[init, data, (backend, client, RST)], 30),
        ("shut down", &[init, data, (client, vip, FIN)], 30),
    ];
    for (what, packets, timeout_s) in ends {
        for (age_s, flows) in [(timeout_s - 2, 1), (timeout_s + 2, 0)] {
            let mut bed = lasting();
            for (from, to, flags) in packets {
                assert_eq!(bed.send(&chunks(*from, *to, *flags)).verdict, Verdict::Tx, "{what}");
                // As a second of time does: the next packet visits the flow table.
                bed.plane.flush_cache().unwrap();
            }
            bed.age_flows(Duration::from_secs(age_s));
            assert_eq!(bed.plane.sweep().unwrap(), flows, "{what}, after {age_s} s");
        }
    }
}

/// An ABORT behind other control chunks ends the association as well.
#[test]
fn an_abort_is_seen_behind_other_chunks() {
    let (client, vip) = (end(CLIENT4), end(VIP4_SCTP));
    let mut bed = lasting();
    bed.send(&chunks(client, vip, ACK));
    let bundle = [Chunk::new(Chunk::SACK, &[0; 13]), Chunk::new(Chunk::ABORT, &[])];
    assert_eq!(bed.send(&Packet::sctp(client, vip, &bundle)).verdict, Verdict::Tx);
    bed.age_flows(Duration::from_secs(32));
    assert_eq!(bed.plane.sweep().unwrap(), 0);
}

/// A new association on old ports may go elsewhere once the old one has ended, and not before.
#[test]
fn ports_are_used_again() {
    let (client, vip) = (end(CLIENT4), end(VIP4_SCTP));
    let mut bed = lasting();
    let old = bed.backend_of(&chunks(client, vip, SYN));
    bed.serve(sctp(VIP4, 38412), &program(&[(BACKEND4, 0), ("10.1.0.12:48412", 1)]));
    assert_eq!(bed.backend_of(&chunks(client, vip, SYN)), old, "a restart of the association");
    bed.send(&chunks(client, vip, FIN));
    assert_eq!(bed.backend_of(&chunks(client, vip, ACK)), old, "late data");
    assert_ne!(bed.backend_of(&chunks(client, vip, SYN)), old, "a new association");
}

#[test]
fn both_families_end_alike() {
    for (client, vip, _) in families() {
        let mut bed = standard();
        bed.send(&chunks(client, vip, ACK));
        bed.send(&chunks(client, vip, RST));
        bed.age_flows(Duration::from_secs(32));
        assert_eq!(bed.plane.sweep().unwrap(), 0);
    }
}
