//! Headers of our own answers.

use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::checksum::fold;
use sluice_xdp_abi::hash::unpair;

use crate::memory::{load, store};
use crate::packet::{ETH_LEN, ICMP, ICMPV6, IPV4_LEN, IPV6_LEN, Packet};

/// RFC 1700's default TTL; what the kernel uses too.
const TTL: u8 = 64;
pub const DONT_FRAGMENT: u16 = 0x4000u16.to_be();

/// Six octets of destination and six of source change places.
#[inline(always)]
pub fn swap_macs(macs: [u32; 3]) -> [u32; 3] {
    let [a, b, c] = macs;
    [(b >> 16) | (c << 16), (c >> 16) | (a << 16), (a >> 16) | (b << 16)]
}

/// Whether an answer to this packet may be sent at all: never to a group, never to nobody (RFC 1122 section 3.2.2,
/// RFC 4443 section 2.4 (e)).
#[inline(always)]
pub fn may_answer(packet: &Packet) -> bool {
    // SAFETY: the first 34 octets are in the frame since `parse`.
    let first_mac_octet: u8 = unsafe { load(packet.data) };
    let source = unpair(&packet.source);
    let [first, ..] = source.words;
    let is_unicast = if packet.is_v4 {
        let octet = source.last_word() as u8;
        octet != 0 && octet != 127 && octet < 224
    } else {
        let [s0, s1] = packet.source;
        first as u8 != 0xff && (s0 | s1) != 0
    };
    first_mac_octet & 1 == 0 && is_unicast
}

/// Writes an Ethernet and an IP header from the VIP to the sender at `data`, without options, for `payload_len` octets
/// behind them. The caller compared the end of the headers with the frame's.
///
/// # Safety
/// As [`store`].
#[inline(always)]
pub unsafe fn write_answer_headers(
    data: usize,
    macs: [u32; 3],
    packet: &Packet,
    protocol: u8,
    payload_len: u16,
) {
    let l3 = data + ETH_LEN;
    let (client, vip) = (unpair(&packet.source), unpair(&packet.destination));
    // SAFETY: by the caller's comparison.
    unsafe {
        let ethertype: u16 = if packet.is_v4 { 0x0800 } else { 0x86dd };
        store(data, swap_macs(macs));
        store(data + 12, ethertype.to_be());
        if packet.is_v4 {
            let addresses = [vip.last_word(), client.last_word()];
            write_ipv4(l3, &Fields { class: 0, ttl: TTL, protocol, payload_len }, addresses);
        } else {
            let addresses = [vip, client];
            write_ipv6(l3, &Fields { class: 0, ttl: TTL, protocol, payload_len }, addresses);
        }
    }
}

/// What headers of both families say.
pub struct Fields {
    /// Type of service, or traffic class.
    pub class: u8,
    pub ttl: u8,
    pub protocol: u8,
    pub payload_len: u16,
}

/// Writes 20 octets: source and destination, no options, not to be fragmented and so without identification (RFC 6864).
///
/// # Safety
/// As [`store`].
#[inline(always)]
pub unsafe fn write_ipv4(l3: usize, fields: &Fields, addresses: [u32; 2]) {
    // SAFETY: by the caller's comparison.
    unsafe {
        store(l3, u16::from_ne_bytes([0x45, fields.class]));
        store(l3 + 2, (IPV4_LEN as u16 + fields.payload_len).to_be());
        store(l3 + 4, 0u16);
        store(l3 + 6, DONT_FRAGMENT);
        store(l3 + 8, fields.ttl);
        store(l3 + 9, fields.protocol);
        store(l3 + 10, 0u16);
        store(l3 + 12, addresses);
        let sum: [u32; 5] = load(l3);
        store(l3 + 10, !fold(total(&sum)));
    }
}

/// Writes 40 octets: source and destination, no extension headers, no flow label.
///
/// # Safety
/// As [`store`].
#[inline(always)]
pub unsafe fn write_ipv6(l3: usize, fields: &Fields, addresses: [Address; 2]) {
    let version_and_class = 6 << 28 | u32::from(fields.class) << 20;
    // SAFETY: by the caller's comparison.
    unsafe {
        store(l3, version_and_class.to_be());
        store(l3 + 4, fields.payload_len.to_be());
        store(l3 + 6, fields.protocol);
        store(l3 + 7, fields.ttl);
        store(l3 + 8, addresses);
    }
}

/// Length of the IP header that [`write_answer_headers`] writes.
#[inline(always)]
pub fn answer_header_len(packet: &Packet) -> usize {
    if packet.is_v4 { IPV4_LEN } else { IPV6_LEN }
}

/// The pseudo header's part of a transport sum (RFC 9293 section 3.1, RFC 8200 section 8.1). Which of the two addresses
/// is the source does not matter. ICMP over IPv4 has none.
#[inline(always)]
pub fn pseudo_header_sum(packet: &Packet, protocol: u8, len: u16) -> u64 {
    if protocol == ICMP && packet.is_v4 {
        return 0;
    }
    let (a, b) = (unpair(&packet.source), unpair(&packet.destination));
    let addresses = if packet.is_v4 {
        u64::from(a.last_word()) + u64::from(b.last_word())
    } else {
        total(&a.words) + total(&b.words)
    };
    addresses + u64::from(len.to_be()) + u64::from(u16::from(protocol).to_be())
}

/// The ICMP of this family.
#[inline(always)]
pub fn icmp_protocol(packet: &Packet) -> u8 {
    if packet.is_v4 { ICMP } else { ICMPV6 }
}

/// An unfolded sum.
#[inline(always)]
pub fn total<const N: usize>(words: &[u32; N]) -> u64 {
    let mut sum = 0;
    for word in words {
        sum += u64::from(*word);
    }
    sum
}
