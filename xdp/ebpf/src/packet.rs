//! From a frame to addresses, ports and a kind.

use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::hash::pair;
use sluice_xdp_abi::limits::MAX_EXTENSION_HEADERS;

use crate::chunks::CHUNK_LEN;
use crate::cpu::Cpu;
use crate::memory::load;

pub const ETH_LEN: usize = 14;
pub const IPV4_LEN: usize = 20;
pub const IPV6_LEN: usize = 40;
pub const TCP_LEN: usize = 20;
pub const UDP_LEN: usize = 8;
pub const SCTP_LEN: usize = 12;
pub const ICMP_LEN: usize = 8;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

pub use sluice_xdp_abi::life::{ACK, FIN, RST, SYN};

const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();
const ETHERTYPE_VLAN: u16 = 0x8100u16.to_be();
const ETHERTYPE_QINQ: u16 = 0x88a8u16.to_be();
/// More-fragments and the fragment's offset, RFC 791 section 3.1; the reserved and don't-fragment bits are not in it.
const IPV4_FRAGMENT: u16 = 0x3fffu16.to_be();
/// The same of IPv6, RFC 8200 section 4.5.
const IPV6_FRAGMENT: u16 = 0xfff9u16.to_be();
/// IPv6 extension headers, RFC 8200 section 4.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// What a packet is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TCP or UDP with a whole header: `ports` are valid.
    Transport,
    /// SCTP with a whole header and the beginning of a chunk: `ports` are valid. Of `associations` it is a `Transport`.
    Association,
    /// ICMP or ICMPv6 with eight octets of header.
    Icmp,
    Fragment,
    Malformed,
    /// Anything in a VLAN tag.
    VlanTagged,
    /// Another protocol over IP.
    Other,
}

/// A parsed frame. `l4` is inside the frame for `Transport`, `Association` and `Icmp`.
pub struct Packet {
    pub data: usize,
    pub end: usize,
    pub is_v4: bool,
    pub kind: Kind,
    pub source: [u64; 2],
    pub destination: [u64; 2],
    pub l4: usize,
    /// Octets from `l4` to the end of the IP packet.
    pub l4_len: usize,
    /// Source and destination port as they lie in the packet.
    pub ports: u32,
    pub protocol: u8,
    /// Of TCP; of SCTP see `chunks`.
    pub flags: u8,
}

// === impl Packet ===

impl Packet {
    #[inline(always)]
    pub fn source_port_be(&self) -> u16 {
        self.ports as u16
    }

    #[inline(always)]
    pub fn destination_port_be(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// Length of the whole frame.
    #[inline(always)]
    pub fn len(&self) -> u64 {
        (self.end - self.data) as u64
    }
}

/// Parses a frame; `None` when it is no IP packet.
#[inline(always)]
pub fn parse(cpu: &Cpu, data: usize, end: usize) -> Option<Packet> {
    if data + ETH_LEN + IPV4_LEN > end {
        return None;
    }
    // SAFETY: inside the first 34 octets.
    let ethertype: u16 = unsafe { load(data + 12) };
    if ethertype == ETHERTYPE_IPV4 {
        let mut packet = ipv4(data, end, data + ETH_LEN);
        ipv4_transport(&mut packet);
        Some(packet)
    } else if ethertype == ETHERTYPE_IPV6 {
        let mut packet = ipv6(data, end, data + ETH_LEN)?;
        ipv6_transport(cpu, &mut packet);
        Some(packet)
    } else if ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ {
        tagged(data, end)
    } else {
        None
    }
}

/// Addresses of an IPv4 header that lies in the frame.
#[inline(always)]
fn ipv4(data: usize, end: usize, l3: usize) -> Packet {
    // SAFETY: the caller compared l3 + 20 with the end.
    let (source, destination, protocol) = unsafe { (load(l3 + 12), load(l3 + 16), load(l3 + 9)) };
    Packet {
        data,
        end,
        is_v4: true,
        kind: Kind::Malformed,
        source: pair(&Address::v4_word(source)),
        destination: pair(&Address::v4_word(destination)),
        l4: l3,
        l4_len: 0,
        ports: 0,
        protocol,
        flags: 0,
    }
}

#[inline(always)]
fn ipv4_transport(packet: &mut Packet) {
    let l3 = packet.data + ETH_LEN;
    // SAFETY: the first 34 octets are in the frame.
    let (version_ihl, length, fragment): (u8, u16, u16) =
        unsafe { (load(l3), load(l3 + 2), load(l3 + 6)) };
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    let total_len = usize::from(u16::from_be(length));
    let frame_len = packet.end - packet.data;
    if version_ihl >> 4 != 4 || header_len < IPV4_LEN || ETH_LEN + total_len > frame_len {
        return;
    }
    if fragment & IPV4_FRAGMENT != 0 {
        packet.kind = Kind::Fragment;
        return;
    }
    // Saturating would do as well: a total length below the header's makes the payload too short for anything.
    let payload_len = total_len.wrapping_sub(header_len);
    if payload_len > total_len {
        return;
    }
    packet.l4 = l3 + header_len;
    transport(packet, payload_len, ICMP);
}

/// Addresses of an IPv6 header.
#[inline(always)]
fn ipv6(data: usize, end: usize, l3: usize) -> Option<Packet> {
    if l3 + IPV6_LEN > end {
        return None;
    }
    // SAFETY: compared above.
    let (source, destination, protocol) = unsafe { (load(l3 + 8), load(l3 + 24), load(l3 + 6)) };
    Some(Packet {
        data,
        end,
        is_v4: false,
        kind: Kind::Malformed,
        source,
        destination,
        l4: l3,
        l4_len: 0,
        ports: 0,
        protocol,
        flags: 0,
    })
}

#[inline(always)]
fn ipv6_transport(cpu: &Cpu, packet: &mut Packet) {
    let l3 = packet.data + ETH_LEN;
    if l3 + IPV6_LEN > packet.end {
        return;
    }
    // SAFETY: compared above.
    let (version, length): (u8, u16) = unsafe { (load(l3), load(l3 + 4)) };
    let payload_len = usize::from(u16::from_be(length));
    if version >> 4 != 6 || ETH_LEN + IPV6_LEN + payload_len > packet.end - packet.data {
        return;
    }
    let mut offset = 0;
    if is_extension(packet.protocol) {
        let Some(found) = extensions(packet, l3 + IPV6_LEN) else {
            return;
        };
        let found = cpu.forget(found);
        packet.protocol = found as u8;
        packet.kind = if found & IS_FRAGMENT != 0 { Kind::Fragment } else { Kind::Malformed };
        offset = (found >> 32) as usize & EXTENSIONS_MASK;
    }
    if offset > payload_len || packet.kind == Kind::Fragment {
        return;
    }
    packet.l4 = l3 + IPV6_LEN + offset;
    transport(packet, payload_len - offset, ICMPV6);
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION | FRAGMENT)
}

/// Set beside a protocol by [`extensions`].
const IS_FRAGMENT: u64 = 1 << 8;
/// Extension headers take at most 6 × 2048 octets.
const EXTENSIONS_MASK: usize = 0x3fff;

/// Walks the extension headers at `start`: the protocol behind them, a flag, and their length in the upper half.
#[inline(always)]
fn extensions(packet: &Packet, start: usize) -> Option<u64> {
    let mut offset = 0;
    let mut protocol = packet.protocol;
    for _ in 0..MAX_EXTENSION_HEADERS {
        if !is_extension(protocol) {
            break;
        }
        let header = start + offset;
        if header + 8 > packet.end {
            return None;
        }
        // SAFETY: compared above.
        let (following, length, fragment): (u8, u8, u16) =
            unsafe { (load(header), load(header + 1), load(header + 2)) };
        if protocol == FRAGMENT && fragment & IPV6_FRAGMENT != 0 {
            return Some(u64::from(protocol) | IS_FRAGMENT);
        }
        // RFC 8200 section 4: units of eight octets beyond the first; RFC 4302 section 2.2: of four, minus two. A
        // fragment header's second octet is reserved and its length fixed; with nothing cut off it is no fragment
        // (RFC 6946).
        offset += match protocol {
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            FRAGMENT => 8,
            _ => (usize::from(length) + 1) * 8,
        };
        protocol = following;
    }
    Some(u64::from(protocol) | (offset as u64) << 32)
}

/// The kind by protocol, and the ports. `payload_len` octets from `l4` on lie in the frame by the headers' word.
#[inline(always)]
fn transport(packet: &mut Packet, payload_len: usize, icmp: u8) {
    let l4 = packet.l4;
    packet.l4_len = payload_len;
    if packet.protocol == TCP {
        if payload_len < TCP_LEN || l4 + TCP_LEN > packet.end {
            return;
        }
        // SAFETY: compared above.
        unsafe { (packet.ports, packet.flags) = (load(l4), load(l4 + 13)) };
        packet.kind = Kind::Transport;
    } else if packet.protocol == UDP {
        if payload_len < UDP_LEN || l4 + UDP_LEN > packet.end {
            return;
        }
        // SAFETY: compared above.
        packet.ports = unsafe { load(l4) };
        packet.kind = Kind::Transport;
    } else if packet.protocol == icmp {
        if payload_len < ICMP_LEN || l4 + ICMP_LEN > packet.end {
            return;
        }
        packet.kind = Kind::Icmp;
    } else if packet.protocol == SCTP {
        if payload_len < SCTP_LEN + CHUNK_LEN || l4 + SCTP_LEN + CHUNK_LEN > packet.end {
            return;
        }
        // SAFETY: compared above.
        packet.ports = unsafe { load(l4) };
        packet.kind = Kind::Association;
    } else {
        packet.kind = Kind::Other;
    }
}

/// A frame with one or two tags: only its addresses, since nothing in a tag is balanced.
#[inline(always)]
fn tagged(data: usize, end: usize) -> Option<Packet> {
    const TAG_LEN: usize = 4;
    // SAFETY: a tag's two octets after the first type are inside the first 34.
    let mut ethertype: u16 = unsafe { load(data + 16) };
    let mut l3 = data + ETH_LEN + TAG_LEN;
    if ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_QINQ {
        // SAFETY: as above.
        ethertype = unsafe { load(data + 20) };
        l3 += TAG_LEN;
    }
    let mut packet = if ethertype == ETHERTYPE_IPV4 && l3 + IPV4_LEN <= end {
        ipv4(data, end, l3)
    } else if ethertype == ETHERTYPE_IPV6 {
        ipv6(data, end, l3)?
    } else {
        return None;
    };
    packet.kind = Kind::VlanTagged;
    Some(packet)
}
