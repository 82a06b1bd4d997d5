//! From a client to a VIP.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use sluice_xdp_abi::affinity::AffinityKey;
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::flow::{Direction, Flow, FlowKey, FlowState, NextHop};
use sluice_xdp_abi::hash::{flow_hash, pair, slot, unpair};
use sluice_xdp_abi::limits::MAGLEV_SLOTS;
use sluice_xdp_abi::prefix::NO_LIST;
use sluice_xdp_abi::program::{Backend, NO_TABLE, NoBackend, Service, ServiceKey, Spread};

use crate::affinity::{client_hash, recall, remember};
use crate::cache::{CacheKey, Rewrite, traffic_index};
use crate::cpu::{Cpu, Runs};
use crate::echo::echo;
use crate::flows::{Sender, find, forget, signs, touch};
use crate::header::swap_macs;
use crate::lists::contains;
use crate::maps::{BACKENDS, FLOWS, NEXT_HOPS, SERVICES, TABLES, TRAFFIC, UNCONFIRMED, VIPS};
use crate::memory::load;
use crate::nat;
use crate::nat64;
use crate::packet::{Kind, Packet, SYN, TCP};
use crate::reject::reject;
use crate::rewrite::send;
use crate::ways;

/// Decides over a packet whose destination may be a VIP; `None` when it turns out not to be one.
#[inline(always)]
pub fn to_vip(cpu: &Cpu, packet: &Packet, key: &CacheKey) -> Option<u32> {
    if packet.kind != Kind::Transport {
        return unbalanced(cpu, packet);
    }
    // In this CPU's memory: the stack has no room for it.
    let flow_key = ways::flow_key()?;
    *flow_key = FlowKey {
        client: unpair(&packet.source),
        vip: unpair(&packet.destination),
        client_port_be: packet.source_port_be(),
        vip_port_be: packet.destination_port_be(),
        protocol: u32::from(packet.protocol),
    };
    let service_key = ServiceKey {
        vip: flow_key.vip,
        port_be: flow_key.vip_port_be,
        protocol: u16::from(packet.protocol),
    };
    // SAFETY: user space replaces elements and never changes them in place.
    let Some(service) = (unsafe { SERVICES.get(&service_key) }) else {
        VIPS.get_ptr(&flow_key.vip)?;
        return Some(reject(cpu, packet, DropReason::NoService));
    };
    // SAFETY: a plain helper call.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    let kept = find(flow_key);
    let let_in_by = kept.as_ref().map_or(NO_LIST, |kept| kept.flow.source_list);
    if service.source_list != NO_LIST
        && service.source_list != let_in_by
        && !contains(service.source_list, &flow_key.client)
    {
        // Also ends a flow that was let in by a wider list.
        if let Some(kept) = kept {
            forget(if kept.is_confirmed { &FLOWS } else { &UNCONFIRMED }, flow_key);
        }
        return Some(cpu.drop(DropReason::SourceRange));
    }
    if let Some(kept) = kept {
        if packet.protocol == TCP && kept.flow.is_in_vain(packet.flags) {
            forget(&UNCONFIRMED, flow_key);
            return Some(reject(cpu, packet, DropReason::PortInUse));
        }
        if let Some((id, backend)) = standing(cpu, packet, flow_key, kept.flow, now_ns) {
            kept.flow.source_list = service.source_list;
            kept.flow.last_hop = last_hop(cpu, packet);
            let nat_port_be = kept.flow.nat_port_be;
            let is_kept = touch(cpu, packet, flow_key, kept, Sender::Client, now_ns);
            let way = Way { id, backend, nat_port_be, is_kept };
            return Some(to_backend(cpu, packet, key, &way));
        }
        // What begins in its place has to be confirmed again.
        if kept.is_confirmed {
            forget(&FLOWS, flow_key);
        }
    }
    Some(new_flow(cpu, packet, key, flow_key, service, now_ns))
}

/// The flow's backend, if flow, backend and port still stand.
#[inline(always)]
fn standing(
    cpu: &Cpu,
    packet: &Packet,
    flow_key: &FlowKey,
    flow: &Flow,
    now_ns: u64,
) -> Option<(u32, &'static Backend)> {
    let (id, backend) = chosen(packet, flow, now_ns)?;
    let port_be = flow.nat_port_be;
    let stands = port_be == 0 || nat::renew(cpu, flow_key, backend, port_be);
    if stands { Some((id, backend)) } else { None }
}

/// Where a packet goes, and as whose.
struct Way<'a> {
    id: u32,
    backend: &'a Backend,
    /// The source port under full NAT and NAT64; 0 keeps the client's address and port.
    nat_port_be: u16,
    /// Whether packets that follow may pass from the cache.
    is_kept: bool,
}

/// The flow's backend, if the flow and the backend still stand. A SYN on a flow that was closing is a new connection
/// on old ports, and may be sent elsewhere.
#[inline(always)]
fn chosen(packet: &Packet, flow: &Flow, now_ns: u64) -> Option<(u32, &'static Backend)> {
    let is_reopened = packet.flags & SYN != 0 && flow.state == FlowState::Closing as u16;
    if is_reopened || flow.is_expired(now_ns) {
        return None;
    }
    let backend = BACKENDS.get(flow.backend)?;
    let stands = backend.used != 0 && backend.generation == flow.backend_generation;
    if stands { Some((flow.backend, backend)) } else { None }
}

/// Chooses a backend and remembers it, unless the gate is shut.
#[inline(always)]
fn new_flow(
    cpu: &Cpu,
    packet: &Packet,
    key: &CacheKey,
    flow_key: &FlowKey,
    service: &Service,
    now_ns: u64,
) -> u32 {
    let affinity_key = AffinityKey { client: flow_key.client, service: u32::from(service.id) };
    let Some((id, backend)) = choose(cpu, packet, key, &affinity_key, service, now_ns) else {
        if service.no_backend == NoBackend::Drop as u16 {
            return cpu.drop(DropReason::NoBackend);
        }
        return reject(cpu, packet, DropReason::NoBackend);
    };
    let is_let_in = cpu.state().flow_gate.take(cpu.tick(), cpu.control.new_flows_per_tick);
    if !is_let_in {
        cpu.state().gated_flows += 1;
    }
    let mut nat_port_be = 0;
    if nat::is_between_families(flow_key, backend)
        || service.full_nat_list != NO_LIST && contains(service.full_nat_list, &flow_key.client)
    {
        if !is_let_in {
            return cpu.drop(DropReason::NatFlow);
        }
        match nat::claim(cpu, flow_key, backend, key.hash) {
            Some(port_be) => nat_port_be = port_be,
            None => return cpu.drop(DropReason::NatPorts),
        }
    }
    let mut flow = Flow {
        last_seen_ns: now_ns,
        created_ns: now_ns,
        backend: id,
        backend_generation: backend.generation,
        idle_timeout_s: service.idle_timeout_s,
        last_hop: last_hop(cpu, packet),
        nat_port_be,
        source_list: service.source_list,
        ..Flow::default()
    };
    flow.begin(&signs(packet));
    let is_held = is_let_in && UNCONFIRMED.insert(flow_key, &flow, 0).is_ok();
    if !is_held {
        if is_let_in {
            cpu.state().failed_flows += 1;
        }
        if nat_port_be != 0 {
            // Its replies could not be told from strangers' packets. The sweep frees the port.
            return cpu.drop(DropReason::NatFlow);
        }
        remember_reply(cpu, packet, backend, id, &flow.last_hop);
    } else if service.affinity_s != 0 {
        remember(&affinity_key, id, backend, now_ns);
    } else if is_spread_by_ports(cpu, service) && nat_port_be == 0 {
        nat::remember_association(flow_key, backend);
    }
    if let Some(traffic) = TRAFFIC.get_ptr_mut(traffic_index(cpu, id)) {
        // SAFETY: this CPU's own element.
        unsafe { (*traffic).new_flows += 1 };
    }
    // What follows may confirm the flow. One that is not in the table has the cache alone.
    to_backend(cpu, packet, key, &Way { id, backend, nat_port_be, is_kept: !is_held })
}

/// The client's last backend under affinity, else the one of the Maglev table.
#[inline(always)]
fn choose(
    cpu: &Cpu,
    packet: &Packet,
    key: &CacheKey,
    affinity_key: &AffinityKey,
    service: &Service,
    now_ns: u64,
) -> Option<(u32, &'static Backend)> {
    let is_affine = service.affinity_s != 0;
    let hash = if is_affine {
        client_hash(packet, affinity_key)
    } else if is_spread_by_ports(cpu, service) {
        // All of an association's packets have its ports, whatever their addresses.
        flow_hash(&[0; 2], &[0; 2], packet.ports, packet.protocol)
    } else {
        key.hash
    };
    let recalled = if is_affine { recall(affinity_key, service, now_ns) } else { None };
    let id = match recalled {
        Some(id) => id,
        None => table_choice(service, hash)?,
    };
    let backend = BACKENDS.get(id)?;
    if backend.used != 0 { Some((id, backend)) } else { None }
}

/// Whether an association may have several addresses at both ends.
#[inline(always)]
fn is_spread_by_ports(cpu: &Cpu, service: &Service) -> bool {
    cpu.runs == Runs::Associations && service.spread == Spread::ByPorts as u16
}

#[inline(always)]
fn table_choice(service: &Service, hash: u64) -> Option<u32> {
    if service.table == NO_TABLE {
        return None;
    }
    let table = TABLES.get(u32::from(service.table))?;
    Some(u32::from(*table.slots.get(slot(hash, MAGLEV_SLOTS) as usize)?))
}

/// Back to where this packet came from.
#[inline(always)]
fn last_hop(cpu: &Cpu, packet: &Packet) -> NextHop {
    // SAFETY: the first 34 octets are in the frame since `parse`.
    let macs = unsafe { load(packet.data) };
    NextHop { link_index: cpu.ingress(), macs: swap_macs(macs) }
}

/// For a flow that is not in the table: its replies will most likely come to this CPU, soon.
#[inline(always)]
fn remember_reply(cpu: &Cpu, packet: &Packet, backend: &Backend, id: u32, next_hop: &NextHop) {
    let key = CacheKey::of_reply(packet, pair(&backend.address), backend.port_be);
    let rewrite = Rewrite {
        direction: Direction::ToClient,
        source: unpair(&packet.destination),
        destination: unpair(&packet.source),
        source_port_be: packet.destination_port_be(),
        destination_port_be: packet.source_port_be(),
        backend: id,
        next_hop,
        is_kept: true,
    };
    key.fill(cpu, &rewrite);
}

#[inline(always)]
fn to_backend(cpu: &Cpu, packet: &Packet, key: &CacheKey, way: &Way<'_>) -> u32 {
    if !packet.is_v4 && way.backend.address.is_v4() {
        return nat64::to_backend(cpu, way.id, way.nat_port_be);
    }
    let Some(next_hop) = NEXT_HOPS.get(way.id).filter(|hop| hop.link_index != 0) else {
        return cpu.drop(DropReason::NoNextHop);
    };
    let (source, source_port_be) = if way.nat_port_be != 0 {
        (&packet.destination, way.nat_port_be)
    } else {
        (&packet.source, packet.source_port_be())
    };
    let rewrite = Rewrite {
        direction: Direction::ToBackend,
        source: unpair(source),
        destination: way.backend.address,
        source_port_be,
        destination_port_be: way.backend.port_be,
        backend: way.id,
        next_hop,
        is_kept: way.is_kept,
    };
    match key.fill(cpu, &rewrite) {
        Some(entry) => send(cpu, packet, &entry),
        None => cpu.drop(DropReason::Malformed),
    }
}

/// What reaches an owned VIP and is none of TCP, UDP and SCTP. The kernel's stack sees only what resolves neighbours.
#[inline(always)]
fn unbalanced(cpu: &Cpu, packet: &Packet) -> Option<u32> {
    VIPS.get_ptr(unpair(&packet.destination))?;
    match packet.kind {
        Kind::Icmp => echo(cpu, packet),
        Kind::Fragment => Some(cpu.drop(DropReason::Fragment)),
        Kind::VlanTagged => Some(cpu.drop(DropReason::VlanTagged)),
        Kind::Other => Some(cpu.drop(DropReason::Protocol)),
        Kind::Malformed | Kind::Transport | Kind::Association => {
            Some(cpu.drop(DropReason::Malformed))
        }
    }
}
