//! NAT64 and what fits: IPv6 headers are longer than those of IPv4, so replies grow.

use crate::bed::{NAT64_SOURCE, Row, VIP6, Want, check, end, sh, tcp, udp};
use crate::nat64::{BACKEND, CLIENT, as_v4, as_v6, bed, open, vip};
use crate::wire::{ACK, Body, Icmp, Packet, SYN};

/// Of the link that packets come from.
const MTU: usize = 1500;

#[test]
fn a_segment_size_is_lowered_to_what_fits_on_the_way_back() {
    let frontend = tcp(VIP6, 80);
    let bed = bed(frontend);
    sh(&format!("ip link set lo mtu {MTU}"));
    let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
    let syn = |flags, options: &[u8]| {
        Packet::tcp(client, vip, flags).with(|p| p.tcp_mut().options = options.to_vec())
    };
    let port = open(&bed, &syn(SYN, &[]));
    let mut rows: Vec<Row> = Vec::new();
    let [high, low] = (MTU as u16 - 60).to_be_bytes();
    for (what, flags, before, after) in [
        ("too large", SYN, vec![2, 4, 0x22, 0xec], vec![2, 4, high, low]),
        ("as large as fits", SYN, vec![2, 4, high, low], vec![2, 4, high, low]),
        ("one more", SYN, vec![2, 4, high, low + 1], vec![2, 4, high, low]),
        ("smaller", SYN, vec![2, 4, 0x04, 0xc4], vec![2, 4, 0x04, 0xc4]),
        (
            "at an odd octet",
            SYN,
            vec![1, 2, 4, 0x22, 0xec, 1, 1, 1],
            vec![1, 2, 4, high, low, 1, 1, 1],
        ),
        (
            "behind others",
            SYN,
            vec![4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, 0xff, 0xff],
            vec![4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, high, low],
        ),
        ("of another kind", SYN, vec![3, 4, 0xff, 0xff], vec![3, 4, 0xff, 0xff]),
        ("of a wrong length", SYN, vec![2, 3, 0xff, 0], vec![2, 3, 0xff, 0]),
        (
            "an endless option",
            SYN,
            vec![8, 0, 2, 4, 0xff, 0xff, 0, 0],
            vec![8, 0, 2, 4, 0xff, 0xff, 0, 0],
        ),
        (
            "behind the end",
            SYN,
            vec![0, 0, 0, 0, 2, 4, 0xff, 0xff],
            vec![0, 0, 0, 0, 2, 4, 0xff, 0xff],
        ),
        ("an option too long", SYN, vec![8, 255, 0, 0], vec![8, 255, 0, 0]),
        ("not a SYN", ACK, vec![2, 4, 0xff, 0xff], vec![2, 4, 0xff, 0xff]),
    ] {
        let want = as_v4(&syn(flags, &after), backend, port);
        rows.push((what, syn(flags, &before), Want::Tx(want)));
    }
    check(&bed, &rows);
}

/// The sender of what does not fit is told how much does; without the right to ask so, it is dropped.
#[test]
fn a_reply_that_does_not_fit_is_answered() {
    let frontend = udp(VIP6, 53);
    let bed = bed(frontend);
    sh(&format!("ip link set lo mtu {MTU}"));
    let (client, backend, vip) = (end(CLIENT), end(BACKEND), vip(&frontend));
    let first = Packet::udp(client, vip, b"x");
    let port = open(&bed, &first);
    let us = (NAT64_SOURCE.into(), port);
    let reply = |len: usize| Packet::udp(backend, us, &vec![7; len - 28]);
    let (fits, not) = (reply(MTU - 20), reply(MTU - 19));
    let [high, low] = (MTU as u16 - 20).to_be_bytes();
    let quoted = not.ip_bytes()[..28].to_vec();
    let icmp = Icmp { kind: 3, code: 4, rest: [0, 0, high, low], data: quoted };
    let answer = Packet::new(us.0, backend.0, Body::Icmp(icmp)).with(|p| {
        p.id = 0;
        (p.source_mac, p.destination_mac) = (not.destination_mac, not.source_mac);
    });
    check(
        &bed,
        &[
            ("fits", fits.clone(), Want::Tx(as_v6(&fits, &first, client, vip))),
            ("does not", not.clone(), Want::Answer("too_big", answer)),
            ("may be cut", not.with(|p| p.dont_fragment = false), Want::Drop("too_big")),
        ],
    );
}
