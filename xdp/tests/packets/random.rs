//! Random packets: whatever comes, the program neither fails nor leaks a VIP's packet to the kernel.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::bed::{Bed, NAT64_SOURCE, VIP4, VIP6, Verdict, address, end, program, tcp, udp};
use crate::forward::{BACKEND4_TCP, BACKEND6_TCP, CLIENT4, CLIENT6, VIP4_TCP, VIP6_TCP, standard};
use crate::full_nat::source;
use crate::wire::{ACK, Body, Fragment, ICMPV6, Icmp, Packet, SYN, checksum};

const CASES: u32 = 20_000;

/// Where the VIP of IPv6 has an IPv4 backend.
const NAT64_PORT: u16 = 64;

/// Serves every way there is; returns the source port of a flow under NAT64.
fn everything(bed: &mut Bed) -> u16 {
    for frontend in [tcp(VIP6, NAT64_PORT), udp(VIP6, NAT64_PORT)] {
        bed.serve(frontend, &program(&[(BACKEND4_TCP, 1)]));
    }
    let first = Packet::udp(end(CLIENT6), (address(VIP6), NAT64_PORT), b"x");
    source(&bed.send(&first).bytes).port()
}

/// Valid packets of every kind, as bytes.
fn seeds(nat64_port: u16) -> Vec<Vec<u8>> {
    let echo = |from: &str, to: &str, kind| {
        let icmp = Icmp { kind, code: 0, rest: [0, 1, 0, 2], data: vec![3; 40] };
        Packet::new(address(from), address(to), Body::Icmp(icmp))
    };
    let (c4, c6) = (end(CLIENT4), end(CLIENT6));
    let (v4, v6) = (end(VIP4_TCP), end(VIP6_TCP));
    let options = (60, vec![1, 4, 0, 0, 0, 0]);
    let (nat64, us) = ((address(VIP6), NAT64_PORT), (NAT64_SOURCE.into(), nat64_port));
    let packets = [
        Packet::tcp(c4, v4, SYN),
        Packet::tcp(c6, v6, ACK),
        Packet::udp(c4, end("203.0.113.10:53"), b"a query"),
        Packet::udp(c6, end("[2001:db8:113::10]:53"), b"a query"),
        Packet::tcp(c4, end("203.0.113.10:81"), SYN),
        Packet::udp(c4, end("203.0.113.10:81"), b"closed"),
        Packet::udp(c6, end("[2001:db8:113::10]:81"), b"closed"),
        Packet::tcp(end(BACKEND4_TCP), c4, ACK),
        Packet::tcp(end(BACKEND6_TCP), c6, ACK),
        echo("198.51.100.7", VIP4, 8),
        echo("2001:db8:77::7", VIP6, 128),
        Packet::tcp(c4, v4, ACK).with(|p| p.options = vec![7, 7, 4, 0, 0, 0, 0, 0]),
        Packet::tcp(c6, v6, SYN).with(|p| p.extensions = vec![options.clone(), options]),
        Packet::tcp(c4, v4, SYN).with(|p| p.vlans = vec![(0x88a8, 1), (0x8100, 2)]),
        Packet::udp(c6, end("[2001:db8:113::10]:53"), b"piece")
            .with(|p| p.fragment = Some(Fragment { offset: 8, more: true })),
        Packet::tcp(c6, nat64, SYN).with(|p| p.tcp_mut().options = vec![1, 2, 4, 5, 0xb4, 0, 0, 0]),
        Packet::udp(c6, nat64, b"six").with(|p| p.extensions = vec![(60, vec![1, 4, 0, 0, 0, 0])]),
        Packet::udp(end(BACKEND4_TCP), us, b"four"),
        Packet::udp(end(BACKEND4_TCP), us, b"four").with(|p| p.options = vec![1; 8]),
    ];
    packets.iter().map(Packet::bytes).collect()
}

/// A seed with some bytes replaced, then cut or extended.
fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    // Half of the changes aim at the headers' lengths, types and protocols.
    let aimed = proptest::collection::vec((12usize..60, any::<u8>()), 0..3);
    let length = prop_oneof![
        4 => Just(None),
        2 => any::<prop::sample::Index>().prop_map(Some),
    ];
    let tail = proptest::collection::vec(any::<u8>(), 0..64);
    (prop::sample::select(seeds), changes, aimed, length, tail).prop_map(
        |(mut bytes, changes, aimed, length, tail)| {
            for (index, value) in changes {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            for (index, value) in aimed {
                if let Some(byte) = bytes.get_mut(index) {
                    *byte = value;
                }
            }
            match length {
                // A test run takes no less than an Ethernet header.
                Some(length) => bytes.truncate(14 + length.index(bytes.len() - 13)),
                None => bytes.extend(tail),
            }
            bytes
        },
    )
}

/// Whether the destination that can be read is a VIP, by the plainest rule there is.
fn is_for_vip(bytes: &[u8]) -> bool {
    let octets = |at: usize, ip: &str| match address(ip) {
        std::net::IpAddr::V4(v4) => bytes.get(at..at + 4) == Some(&v4.octets()[..]),
        std::net::IpAddr::V6(v6) => bytes.get(at..at + 16) == Some(&v6.octets()[..]),
    };
    match bytes.get(12..14) {
        Some([0x08, 0x00]) => octets(30, VIP4),
        Some([0x86, 0xdd]) => octets(38, VIP6),
        _ => false,
    }
}

/// Neighbour discovery and multicast listeners are the kernel's, behind any extension header.
fn may_be_neighbour_discovery(bytes: &[u8]) -> bool {
    bytes.get(12..14) == Some(&[0x86, 0xdd]) && bytes[20..].contains(&ICMPV6)
}

/// Full checksums of a packet without IPv6 extension headers; `None` when there is nothing to say.
fn is_sound(bytes: &[u8]) -> Option<bool> {
    let (pseudo, protocol, transport) = match bytes.get(12..14)? {
        [0x08, 0x00] => {
            let header = 14 + usize::from(bytes.get(14)? & 15) * 4;
            let total = usize::from(u16::from_be_bytes([*bytes.get(16)?, *bytes.get(17)?]));
            if bytes[14] >> 4 != 4 || checksum(bytes.get(14..header)?) != 0 {
                return Some(false);
            }
            let transport = bytes.get(header..14 + total)?;
            (bytes.get(26..34)?, bytes[23], transport)
        }
        [0x86, 0xdd] => {
            let length = usize::from(u16::from_be_bytes([*bytes.get(18)?, *bytes.get(19)?]));
            (bytes.get(22..54)?, bytes[20], bytes.get(54..54 + length)?)
        }
        _ => return None,
    };
    let sum_at = match protocol {
        6 => 16,
        17 => 6,
        1 | 58 => 2,
        _ => return None,
    };
    let length = transport.len() as u16;
    let sum = transport.get(sum_at..sum_at + 2)?;
    if protocol == 17 && sum == [0, 0] {
        return None;
    }
    let mut covered = Vec::new();
    if protocol != 1 {
        covered.extend(pseudo);
        covered.extend([0, protocol]);
        covered.extend(length.to_be_bytes());
    }
    covered.extend(transport);
    Some(checksum(&covered) == 0)
}

#[test]
fn no_packet_fails_or_leaks() {
    let mut bed = standard();
    let seeds = seeds(everything(&mut bed));
    let verdicts = std::cell::RefCell::new(std::collections::BTreeMap::new());
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&mutated(seeds), |bytes| {
        let ran = bed.send_bytes(&bytes);
        *verdicts.borrow_mut().entry(format!("{:?}", ran.verdict)).or_insert(0u32) += 1;
        let fail = |what| Err(TestCaseError::fail(format!("{what}: {:?}", ran.verdict)));
        if ran.verdict == Verdict::Aborted {
            return fail("failed");
        }
        if is_for_vip(&bytes) && ran.verdict == Verdict::Pass && !may_be_neighbour_discovery(&bytes)
        {
            return fail("leaked to the kernel");
        }
        if matches!(ran.verdict, Verdict::Pass | Verdict::Drop) && ran.bytes != bytes {
            return fail("changed and not sent");
        }
        if ran.verdict == Verdict::Tx && is_sound(&bytes) == Some(true) {
            prop_assert_ne!(is_sound(&ran.bytes), Some(false), "sent with a broken checksum");
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let verdicts = verdicts.into_inner();
    // The generator reaches all of them, or it proves nothing.
    for verdict in ["Drop", "Pass", "Tx"] {
        assert!(verdicts.get(verdict).is_some_and(|count| *count > CASES / 50), "{verdicts:?}");
    }
}
