//! Replies whose flow is not known: translated where nobody else can be meant, and nothing is remembered of them.

use sluice_xdp::Way;
use sluice_xdp_abi::names;

use crate::bed::{Bed, INGRESS, VIP4, Verdict, Want, check, end, program, sh, tcp};
use crate::floods::count;
use crate::forward::{BACKEND4_TCP, BACKEND6_TCP, CLIENT4, CLIENT6, VIP4_TCP, VIP6_TCP, standard};
use crate::ways::{by, flow, hop, router, through, ways};
use crate::wire::{ACK, FIN, Packet, RST, SYN};

/// A reply whose flow is not known leaves as its frontend's, where nobody else can be meant.
#[test]
fn an_unknown_reply_of_one_frontend_is_translated() {
    let mut bed = standard();
    bed.pretend_ingress_attached();
    let routers = [(router(1), hop(INGRESS, 1))];
    let way = Way::Routers(vec![router(1)]);
    let given = [
        ("0.0.0.0/0", way.clone()),
        ("::/0", way),
        ("10.0.0.2/32", Way::Local),
        ("10.0.0.0/24", Way::Link(INGRESS)),
    ];
    bed.plane.set_ways(&ways(&given, &routers)).unwrap();
    let from = |to: &str, flags| Packet::tcp(end(BACKEND4_TCP), end(to), flags);
    let translated = |packet: &Packet, vip: &str| {
        let hop = hop(INGRESS, 1);
        Want::Tx(by(
            &packet.clone().with(|p| {
                p.set_source(end(vip));
                p.ttl -= 1;
            }),
            hop,
        ))
    };
    let (_, push6, _) = flow(CLIENT6);
    let push = from(CLIENT4, ACK);
    let fin = from(CLIENT4, FIN | ACK);
    let datagram = Packet::udp(end("10.1.0.11:5353"), end(CLIENT4), b"news");
    let opens = from(CLIENT4, SYN);
    let probe = from("10.0.0.2:45000", ACK);
    let neighbour = from("10.0.0.9:45000", ACK);
    let other_port = Packet::tcp(end("10.1.0.11:22"), end(CLIENT4), ACK);
    let mdns = Packet::udp(end("10.1.0.11:5353"), end("224.0.0.251:5353"), b"who");
    let broadcast = Packet::udp(end("10.1.0.11:5353"), end("255.255.255.255:68"), b"all");
    let multicast6 = Packet::tcp(end(BACKEND6_TCP), end("[ff02::fb]:5353"), ACK);
    check(
        &bed,
        &[
            ("a push", push.clone(), translated(&push, VIP4_TCP)),
            ("once more, uncached", push.clone(), translated(&push, VIP4_TCP)),
            ("over IPv6", push6.clone(), translated(&push6, VIP6_TCP)),
            ("the end", fin.clone(), translated(&fin, VIP4_TCP)),
            ("UDP", datagram.clone(), translated(&datagram, "203.0.113.10:53")),
            ("a connection that the backend opens", opens, Want::Pass),
            ("the answer to a health check", probe, Want::Pass),
            ("to a neighbour nobody knows", neighbour, Want::Pass),
            ("from another port", other_port, Want::Pass),
            ("multicast", mdns, Want::Pass),
            ("broadcast", broadcast, Want::Pass),
            ("multicast over IPv6", multicast6, Want::Pass),
        ],
    );

    // With two frontends nobody can tell which one is meant.
    let backends = [(BACKEND4_TCP, 1)];
    bed.serve(tcp(VIP4, 81), &program(&backends));
    check(&bed, &[("of two frontends", push.clone(), Want::Pass)]);
    bed.plane.remove_program(&tcp(VIP4, 81)).unwrap();
    // Under full NAT the client is not in the reply.
    let mut under_nat = program(&backends);
    under_nat.full_nat = vec!["198.51.100.0/24".parse().unwrap()];
    bed.serve(tcp(VIP4, 80), &under_nat);
    let other = from("192.0.2.77:40001", ACK);
    check(
        &bed,
        &[
            ("of a client under full NAT", push.clone(), Want::Pass),
            ("of another client", other.clone(), translated(&other, VIP4_TCP)),
        ],
    );
    // A client that may not open flows is sent nothing.
    let mut ranged = program(&backends);
    ranged.source_ranges = vec!["192.0.2.0/24".parse().unwrap()];
    bed.serve(tcp(VIP4, 80), &ranged);
    check(&bed, &[("outside the ranges", push.clone(), Want::Pass)]);
    bed.serve(tcp(VIP4, 80), &program(&backends));
    check(&bed, &[("again", push.clone(), translated(&push, VIP4_TCP))]);

    // A host that forwards may be the backend's router.
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.lo.forwarding=1");
    check(&bed, &[("the host forwards", push, Want::Pass)]);
}

/// A reply that is translated without a flow leaves none behind, so the next packet of its client's begins unconfirmed.
#[test]
fn stateless_replies_leave_nothing() {
    let mut bed = standard();
    bed.pretend_ingress_attached();
    bed.plane.set_ways(&through(&[(router(1), hop(INGRESS, 1))])).unwrap();
    let tables = |bed: &Bed| (count(bed, names::FLOWS), count(bed, names::UNCONFIRMED));
    for flags in [ACK, SYN | ACK, FIN | ACK, RST] {
        let reply = Packet::tcp(end(BACKEND4_TCP), end(CLIENT4), flags);
        assert_eq!(bed.send(&reply).verdict, Verdict::Tx);
    }
    assert_eq!(tables(&bed), (0, 0));
    bed.backend_of(&Packet::tcp(end(CLIENT4), end(VIP4_TCP), ACK));
    assert_eq!(tables(&bed), (0, 1));
    bed.send(&Packet::tcp(end(BACKEND4_TCP), end(CLIENT4), RST));
    assert_eq!(tables(&bed), (0, 1), "a reset of what nobody opened");
}
