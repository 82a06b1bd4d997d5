//! NAT64, the second half: from IPv6 to IPv4 towards a backend, and back (RFC 7915).
//!
//! Different from that RFC: IPv4 packets are never to be fragmented, since the links between us and the backends carry
//! what IPv6 demands of any link. Options and extension headers are left out, as it says.

use aya_ebpf::helpers::{bpf_check_mtu, bpf_ktime_get_coarse_ns, bpf_xdp_adjust_head};
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::flow::NextHop;
use sluice_xdp_abi::hash::{flow_hash, unpair};

use crate::cache::traffic_index;
use crate::chunks;
use crate::cpu::Cpu;
use crate::datagram_sum;
use crate::flows::{Sender, touch};
use crate::header::{DONT_FRAGMENT, Fields, write_ipv4, write_ipv6};
use crate::maps::{BACKENDS, NEXT_HOPS};
use crate::memory::{load, store};
use crate::packet::{
    ETH_LEN, IPV4_LEN, IPV6_LEN, Kind, Packet, SYN, TCP, TCP_LEN, UDP, UDP_LEN, parse,
};
use crate::reply::translated;
use crate::rewrite::{count, deltas, out, transport};
use crate::segment_size;
use crate::unreachable::fragmentation_needed;
use crate::ways::{self, Reply};

const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();
/// What `bpf_check_mtu` answers when a packet is too long.
const FRAGMENTATION_NEEDED: i64 = 1;

/// What a packet becomes.
struct Change {
    source: Address,
    destination: Address,
    source_port_be: u16,
    destination_port_be: u16,
}

/// Translates the packet that was handed over, whichever way it goes.
#[inline(always)]
pub fn run(cpu: &Cpu) -> u32 {
    let (data, end) = (cpu.context.data(), cpu.context.data_end());
    let Some(mut packet) = parse(cpu, data, end) else {
        return cpu.drop(DropReason::Malformed);
    };
    if packet.kind == Kind::Association {
        packet.flags = chunks::flags(cpu, &packet);
    }
    let sent = if packet.is_v4 { to_client(cpu, &packet) } else { to_backend(cpu, &packet) };
    match sent {
        Ok(link_index) => out(cpu, link_index),
        Err(action) => action,
    }
}

#[inline(always)]
fn to_backend(cpu: &Cpu, packet: &Packet) -> Result<u32, u32> {
    let (id, nat_port_be) = (cpu.state().handover.backend, cpu.state().handover.nat_port_be);
    let next_hop = NEXT_HOPS.get(id).filter(|hop| hop.link_index != 0);
    let (Some(backend), Some(next_hop)) = (BACKENDS.get(id), next_hop) else {
        return Err(cpu.drop(DropReason::NoNextHop));
    };
    let l3 = packet.data + ETH_LEN;
    if l3 + IPV6_LEN > packet.end {
        return Err(cpu.drop(DropReason::Malformed));
    }
    // SAFETY: compared above.
    let (version_and_class, hop_limit): (u16, u8) = unsafe { (load(l3), load(l3 + 7)) };
    if hop_limit <= 1 {
        return Err(cpu.drop(DropReason::TtlExpired));
    }
    // RFC 8200 section 8.1: a datagram without a sum is to be discarded.
    if is_without_sum(packet) {
        return Err(cpu.drop(DropReason::Malformed));
    }
    if packet.protocol == TCP && packet.flags & SYN != 0 {
        segment_size::limit(cpu, packet.l4, packet.end, segment_limit(cpu));
    }
    let change = Change {
        source: Address::v4_word(cpu.control.nat64_source),
        destination: backend.address,
        source_port_be: nat_port_be,
        destination_port_be: backend.port_be,
    };
    let ttl = hop_limit - 1;
    let class = (u16::from_be(version_and_class) >> 4) as u8;
    let (protocol, payload_len) = (packet.protocol, packet.l4_len as u16);
    let (data, end) = move_head(cpu, packet, &change, IPV4_LEN)?;
    let l3 = data + ETH_LEN;
    if l3 + IPV4_LEN > end {
        return Err(cpu.drop(DropReason::Malformed));
    }
    let fields = Fields { class, ttl, protocol, payload_len };
    // SAFETY: compared above.
    unsafe {
        store(data, next_hop.macs);
        store(data + 12, ETHERTYPE_IPV4);
        write_ipv4(l3, &fields, [change.source.last_word(), change.destination.last_word()]);
    }
    count(traffic_index(cpu, id), true, packet.len());
    Ok(next_hop.link_index)
}

#[inline(always)]
fn to_client(cpu: &Cpu, packet: &Packet) -> Result<u32, u32> {
    // Found no more, it is the kernel's like any other packet for its address: a late one of a flow that is over.
    let found = ways::flow_key().and_then(|key| {
        *key = cpu.state().handover.flow;
        translated(packet, key).map(|kept| (&*key, kept))
    });
    let Some((key, kept)) = found else {
        return Err(cpu.pass(packet.len()));
    };
    let l3 = packet.data + ETH_LEN;
    if l3 + IPV4_LEN > packet.end {
        return Err(cpu.drop(DropReason::Malformed));
    }
    // SAFETY: compared above.
    let (class, flags, ttl): (u8, u16, u8) = unsafe { (load(l3 + 1), load(l3 + 6), load(l3 + 8)) };
    if ttl <= 1 {
        return Err(cpu.drop(DropReason::TtlExpired));
    }
    let index = traffic_index(cpu, kept.flow.backend);
    let Some(last_hop) = ways::held(&kept.flow.last_hop) else {
        return Err(cpu.drop(DropReason::NoNextHop));
    };
    // SAFETY: a plain helper call.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    touch(cpu, packet, key, kept, Sender::Backend, now_ns);
    let reply = Reply {
        protocol: packet.protocol,
        is_v4: false,
        vip: &key.vip,
        client: &key.client,
        hash: flow_hash(&packet.source, &packet.destination, packet.ports, packet.protocol),
    };
    let Some(way) = ways::back(cpu, &reply, last_hop) else {
        return Err(cpu.drop(DropReason::NoNextHop));
    };
    let NextHop { link_index, macs } = *way;
    if let Some(mtu) = exceeded_mtu(cpu, link_index, (IPV6_LEN + packet.l4_len) as u32) {
        return Err(too_big(cpu, packet, flags, mtu));
    }
    if is_without_sum(packet) && !datagram_sum::make(cpu, packet) {
        return Err(cpu.drop(DropReason::Untranslatable));
    }
    let change = Change {
        source: key.vip,
        destination: key.client,
        source_port_be: key.vip_port_be,
        destination_port_be: key.client_port_be,
    };
    let (protocol, payload_len) = (packet.protocol, packet.l4_len as u16);
    let (data, end) = move_head(cpu, packet, &change, IPV6_LEN)?;
    let l3 = data + ETH_LEN;
    if l3 + IPV6_LEN > end {
        return Err(cpu.drop(DropReason::Malformed));
    }
    let fields = Fields { class, ttl: ttl - 1, protocol, payload_len };
    // SAFETY: compared above.
    unsafe {
        store(data, macs);
        store(data + 12, ETHERTYPE_IPV6);
        write_ipv6(l3, &fields, [change.source, change.destination]);
    }
    count(index, false, packet.len());
    Ok(link_index)
}

/// Whether this is a datagram whose sender has made no sum (RFC 768).
#[inline(always)]
fn is_without_sum(packet: &Packet) -> bool {
    if packet.protocol != UDP || packet.l4 + UDP_LEN > packet.end {
        return false;
    }
    // SAFETY: compared above.
    let sum: u16 = unsafe { load(packet.l4 + 6) };
    sum == 0
}

/// Rewrites the transport header and moves the beginning of the frame to where an IP header of this length fits before
/// it. Returns the frame; what lies there until the headers are written is anything.
#[inline(always)]
fn move_head(
    cpu: &Cpu,
    packet: &Packet,
    change: &Change,
    header_len: usize,
) -> Result<(usize, usize), u32> {
    let ports = u32::from(change.source_port_be) | u32::from(change.destination_port_be) << 16;
    // Length and protocol in the pseudo header are the same in both families, and mapped addresses count as plain ones.
    let (_, l4_delta) = deltas(
        [
            (unpair(&packet.source), change.source),
            (unpair(&packet.destination), change.destination),
        ],
        (packet.ports, ports),
    );
    if !transport(cpu, packet, ports, l4_delta) {
        return Err(cpu.drop(DropReason::Malformed));
    }
    let by = (packet.l4 - packet.data) as i32 - (ETH_LEN + header_len) as i32;
    // SAFETY: a plain helper call; the callers use no old pointer after it.
    if unsafe { bpf_xdp_adjust_head(cpu.context.ctx, by) } != 0 {
        return Err(cpu.drop(DropReason::Untranslatable));
    }
    Ok((cpu.context.data(), cpu.context.data_end()))
}

/// The MTU of a link if a packet of `len` octets does not fit.
#[inline(always)]
fn exceeded_mtu(cpu: &Cpu, link_index: u32, len: u32) -> Option<u32> {
    let mut mtu = len;
    // SAFETY: a plain helper call: the length goes in, the link's MTU comes out.
    let answer = unsafe { bpf_check_mtu(cpu.context_ptr(), link_index, &raw mut mtu, 0, 0) };
    if answer == FRAGMENTATION_NEEDED { Some(mtu) } else { None }
}

/// The largest segment that fits, translated, into the link the client's packets come from. A client asks for what fits
/// into its own link, and a backend fills its own, and then the longer header is too much for the way back.
#[inline(always)]
fn segment_limit(cpu: &Cpu) -> u16 {
    let mut mtu = 0;
    // SAFETY: a plain helper call; the number 0 is this link.
    let answer = unsafe { bpf_check_mtu(cpu.context_ptr(), 0, &raw mut mtu, 0, 0) };
    if answer < 0 || mtu > 0xffff {
        return u16::MAX;
    }
    (mtu as u16).saturating_sub((IPV6_LEN + TCP_LEN) as u16)
}

/// RFC 7915 section 1.4: the sender is to leave room for the longer header.
#[inline(always)]
fn too_big(cpu: &Cpu, packet: &Packet, flags: u16, mtu: u32) -> u32 {
    let mtu = mtu.wrapping_sub((IPV6_LEN - IPV4_LEN) as u32);
    if flags & DONT_FRAGMENT == 0 || mtu > 0xffff {
        return cpu.drop(DropReason::TooBig);
    }
    fragmentation_needed(cpu, packet, mtu as u16)
}
