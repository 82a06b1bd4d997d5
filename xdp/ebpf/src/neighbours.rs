//! Who asks for the MAC of an owned VIP is told ours: ARP (RFC 826) and neighbour solicitations (RFC 4861 section 7.2).
//!
//! VIPs are no local addresses of the kernel, and even as such it would answer for them as it pleases: for IPv4 by
//! `arp_ignore`, for IPv6 only on the link that has the address. So where a VIP lies in the prefix of a link, it is
//! answered here, on every attached link, whatever the host's settings are. Everything else is the kernel's.

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use aya_ebpf::programs::XdpContext;
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::checksum::fold;

use crate::cpu::{Cpu, Runs};
use crate::header::total;
use crate::maps::{LINKS, VIPS};
use crate::memory::{load, store};
use crate::packet::{ETH_LEN, ICMPV6, IPV6_LEN, Kind, Packet};

const ETHERTYPE_ARP: u16 = 0x0806u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();
/// An ARP packet of Ethernet and IPv4.
const ARP_LEN: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, their address lengths, operation request: as they lie in the packet.
const ARP_REQUEST: [u32; 2] = [0x0001_0800u32.to_be(), 0x0604_0001u32.to_be()];
const ARP_REPLY: u16 = 2u16.to_be();

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u16 = u16::from_ne_bytes([136, 0]);
/// The fixed part of both, with the target.
const DISCOVERY_LEN: usize = 24;
/// A link-layer address option.
const OPTION_LEN: usize = 8;
const TARGET_LINK_LAYER_ADDRESS: u16 = u16::from_ne_bytes([2, 1]);
/// Proves that the sender is on the link (RFC 4861 section 7.1).
const HOP_LIMIT: u8 = 255;
/// Solicited, not overriding: several appliances may have the VIP, as with anycast (RFC 4861 section 7.2.7).
const SOLICITED: u32 = 0x4000_0000u32.to_be();
const ADVERTISEMENT_LEN: usize = DISCOVERY_LEN + OPTION_LEN;

/// True for what may be an ARP packet.
#[inline(always)]
pub fn is_arp(data: usize, end: usize) -> bool {
    if data + ETH_LEN + ARP_LEN > end {
        return false;
    }
    // SAFETY: compared above.
    let ethertype: u16 = unsafe { load(data + 12) };
    ethertype == ETHERTYPE_ARP
}

/// True for what may be a neighbour solicitation.
#[inline(always)]
pub fn is_solicitation(packet: &Packet) -> bool {
    if packet.kind != Kind::Icmp || packet.is_v4 || packet.l4 + 1 > packet.end {
        return false;
    }
    // SAFETY: compared above.
    let kind: u8 = unsafe { load(packet.l4) };
    kind == SOLICITATION
}

/// The program.
#[inline(always)]
pub fn run(context: &XdpContext) -> u32 {
    let Some(cpu) = Cpu::enter(context, Runs::Neighbours) else {
        return XDP_PASS;
    };
    let (data, end) = (context.data(), context.data_end());
    let len = (end - data) as u64;
    // SAFETY: user space replaces elements and never changes them in place.
    let mac = match unsafe { LINKS.get(&cpu.ingress()) } {
        Some(mac) if *mac != 0 => mac.to_ne_bytes(),
        _ => return cpu.pass(len),
    };
    let [a, b, c, d, e, f, _, _] = mac;
    let is_answered =
        arp(data, end, [a, b, c, d, e, f]) || solicitation(context, data, end, [a, b, c, d, e, f]);
    if is_answered { cpu.answer() } else { cpu.pass(len) }
}

/// Makes the reply of a request for a VIP.
#[inline(always)]
fn arp(data: usize, end: usize, mac: [u8; 6]) -> bool {
    if data + ETH_LEN + ARP_LEN > end {
        return false;
    }
    let packet = data + ETH_LEN;
    // SAFETY: compared above.
    unsafe {
        let (ethertype, kind): (u16, [u32; 2]) = (load(data + 12), load(packet));
        let (asker_mac, asker, vip): ([u8; 6], u32, u32) =
            (load(packet + 8), load(packet + 14), load(packet + 24));
        let [first, ..] = asker_mac;
        // Somebody who announces that he has the VIP asks nothing.
        let asks = ethertype == ETHERTYPE_ARP && kind == ARP_REQUEST && asker != vip;
        if !asks || first & 1 != 0 || VIPS.get_ptr(&Address::v4_word(vip)).is_none() {
            return false;
        }
        store(data, asker_mac);
        store(data + 6, mac);
        store(packet + 6, ARP_REPLY);
        store(packet + 8, mac);
        store(packet + 14, vip);
        store(packet + 18, asker_mac);
        store(packet + 24, asker);
    }
    true
}

/// Makes the advertisement for a solicitation of a VIP.
#[inline(always)]
fn solicitation(context: &XdpContext, data: usize, end: usize, mac: [u8; 6]) -> bool {
    let (l3, l4) = (data + ETH_LEN, data + ETH_LEN + IPV6_LEN);
    if l4 + DISCOVERY_LEN > end {
        return false;
    }
    // SAFETY: compared above.
    let (asker_mac, asker, vip) = unsafe {
        let (ethertype, next, hops): (u16, u8, u8) = (load(data + 12), load(l3 + 6), load(l3 + 7));
        let kind: u16 = load(l4);
        let is_valid = ethertype == ETHERTYPE_IPV6
            && next == ICMPV6
            && hops == HOP_LIMIT
            && kind == u16::from_ne_bytes([SOLICITATION, 0]);
        if !is_valid {
            return false;
        }
        let (mac, asker, vip): ([u8; 6], Address, Address) =
            (load(data + 6), load(l3 + 8), load(l4 + 8));
        (mac, asker, vip)
    };
    let [w0, w1, w2, w3] = asker.words;
    let [first, ..] = asker_mac;
    // One without address asks whether it may have the VIP (RFC 4862): that is between him and who gave it to him.
    let is_unicast = w0 as u8 != 0xff && (w0 | w1 | w2 | w3) != 0 && first & 1 == 0;
    if !is_unicast || VIPS.get_ptr(&vip).is_none() {
        return false;
    }
    let wanted = (ETH_LEN + IPV6_LEN + ADVERTISEMENT_LEN) as i32;
    let by = wanted - (end - data) as i32;
    // SAFETY: the context is the one the program was given.
    if unsafe { bpf_xdp_adjust_tail(context.ctx, by) } != 0 {
        return false;
    }
    let (data, end) = (context.data(), context.data_end());
    let (l3, l4) = (data + ETH_LEN, data + ETH_LEN + IPV6_LEN);
    if l4 + ADVERTISEMENT_LEN > end {
        return false;
    }
    // SAFETY: compared above.
    unsafe {
        store(data, asker_mac);
        store(data + 6, mac);
        store(l3 + 4, (ADVERTISEMENT_LEN as u16).to_be());
        store(l3 + 8, vip);
        store(l3 + 24, asker);
        store(l4, ADVERTISEMENT);
        store(l4 + 2, 0u16);
        store(l4 + 4, SOLICITED);
        store(l4 + 8, vip);
        store(l4 + DISCOVERY_LEN, TARGET_LINK_LAYER_ADDRESS);
        store(l4 + DISCOVERY_LEN + 2, mac);
        let body: [u32; ADVERTISEMENT_LEN / 4] = load(l4);
        let pseudo_header = total(&vip.words)
            + total(&asker.words)
            + u64::from((ADVERTISEMENT_LEN as u16).to_be())
            + u64::from(u16::from(ICMPV6).to_be());
        store(l4 + 2, !fold(total(&body) + pseudo_header));
    }
    true
}
