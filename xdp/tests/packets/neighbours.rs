//! Who asks for a VIP's MAC is told the link's, for both families; what others are asked for is the kernel's.

use std::net::{Ipv4Addr, Ipv6Addr};

use aya::maps::{HashMap, Map, MapData};
use sluice_xdp_abi::names;

use crate::bed::{Bed, INGRESS, Verdict};

const OURS: [u8; 6] = [2, 9, 9, 9, 9, 9];
const THEIRS: [u8; 6] = [2, 7, 7, 7, 7, 7];
const VIP4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const ASKER4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10);
const ASKER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x77);

fn bed(mac: [u8; 6]) -> Bed {
    let bed = Bed::new();
    let map = MapData::from_pin(bed.pin_dir().join(names::LINKS)).unwrap();
    let mut links: HashMap<_, u32, [u8; 8]> = Map::HashMap(map).try_into().unwrap();
    let [a, b, c, d, e, f] = mac;
    links.insert(INGRESS, [a, b, c, d, e, f, 0, 0], 0).unwrap();
    bed
}

fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes()].concat()
}

fn arp(operation: u8, from: ([u8; 6], Ipv4Addr), to: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&head[..], &from.0, &from.1.octets(), &to.0, &to.1.octets()].concat()
}

fn request(asker: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let body = arp(1, (THEIRS, asker), ([0; 6], target));
    // Ethernet's shortest frame.
    let mut frame = [ethernet([0xff; 6], THEIRS, 0x0806), body].concat();
    frame.resize(60, 0);
    frame
}

fn discovery(
    from: Ipv6Addr,
    to: Ipv6Addr,
    head: [u8; 8],
    target: Ipv6Addr,
    options: &[u8],
) -> Vec<u8> {
    let mut icmp = [&head[..], &target.octets(), options].concat();
    let length = u16::try_from(icmp.len()).unwrap();
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 58]];
    let all = [&pseudo.concat()[..], &icmp].concat();
    let sum: u32 = all
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    icmp[2..4].copy_from_slice(&(!folded as u16).to_be_bytes());
    let ip =
        [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[58, 255], &from.octets(), &to.octets()];
    [ip.concat(), icmp].concat()
}

fn solicitation(from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let body = discovery(from, to, [135, 0, 0, 0, 0, 0, 0, 0], target, options);
    [ethernet([0x33, 0x33, 0xff, 0, 0, 0x10], THEIRS, 0x86dd), body].concat()
}

fn link_address(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

#[test]
fn arp_for_a_vip_is_answered_with_the_links_mac() {
    let bed = bed(OURS);
    for asker in [ASKER4, Ipv4Addr::UNSPECIFIED] {
        let ran = bed.send_bytes(&request(asker, VIP4));
        assert_eq!(ran.verdict, Verdict::Tx, "{asker}");
        let body = arp(2, (OURS, VIP4), (THEIRS, asker));
        assert_eq!(ran.bytes[..42], [ethernet(THEIRS, OURS, 0x0806), body].concat());
    }
}

#[test]
fn other_arp_is_the_kernels() {
    let bed = bed(OURS);
    let reply = [ethernet(OURS, THEIRS, 0x0806), arp(2, (THEIRS, ASKER4), (OURS, VIP4))].concat();
    let rows = [
        ("for another address", request(ASKER4, Ipv4Addr::new(203, 0, 113, 11))),
        ("an announcement of the VIP by somebody else", request(VIP4, VIP4)),
        ("a reply", reply.clone()),
        ("a cut one", request(ASKER4, VIP4)[..40].to_vec()),
    ];
    for (what, frame) in rows {
        let ran = bed.send_bytes(&frame);
        assert_eq!((ran.verdict, ran.bytes), (Verdict::Pass, frame), "{what}");
    }
}

#[test]
fn a_solicitation_for_a_vip_is_answered() {
    let bed = bed(OURS);
    let group: Ipv6Addr = "ff02::1:ff00:10".parse().unwrap();
    let rows = [
        ("to the group", group, link_address(1, THEIRS)),
        ("to the VIP itself, without option", VIP6, Vec::new()),
        ("with a nonce", group, [link_address(1, THEIRS), vec![14, 1, 1, 2, 3, 4, 5, 6]].concat()),
    ];
    for (what, to, options) in rows {
        let ran = bed.send_bytes(&solicitation(ASKER6, to, VIP6, &options));
        assert_eq!(ran.verdict, Verdict::Tx, "{what}");
        let head = [136, 0, 0, 0, 0x40, 0, 0, 0];
        let body = discovery(VIP6, ASKER6, head, VIP6, &link_address(2, OURS));
        let wanted = [ethernet(THEIRS, OURS, 0x86dd), body].concat();
        assert_eq!(ran.bytes, wanted, "{what}");
    }
}

#[test]
fn other_solicitations_are_the_kernels() {
    let bed = bed(OURS);
    let group: Ipv6Addr = "ff02::1:ff00:10".parse().unwrap();
    let option = link_address(1, THEIRS);
    let mut from_afar = solicitation(ASKER6, group, VIP6, &option);
    from_afar[21] = 254;
    let rows = [
        ("for another address", solicitation(ASKER6, group, ASKER6, &option)),
        ("by one without address", solicitation(Ipv6Addr::UNSPECIFIED, group, VIP6, &[])),
        ("from another link", from_afar),
        ("cut", solicitation(ASKER6, group, VIP6, &[])[..70].to_vec()),
    ];
    for (what, frame) in rows {
        let ran = bed.send_bytes(&frame);
        assert_eq!((ran.verdict, ran.bytes), (Verdict::Pass, frame), "{what}");
    }
}

#[test]
fn a_link_without_mac_answers_nobody() {
    let bed = bed([0; 6]);
    assert_eq!(bed.send_bytes(&request(ASKER4, VIP4)).verdict, Verdict::Pass);
}
