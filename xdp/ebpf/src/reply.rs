//! From a backend to a client.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::flow::{Direction, Flow, FlowKey, FlowState};
use sluice_xdp_abi::hash::unpair;
use sluice_xdp_abi::limits::MAX_SERVICES_PER_ENDPOINT;
use sluice_xdp_abi::program::EndpointKey;

use crate::cache::{CacheKey, Rewrite};
use crate::cpu::{Cpu, Runs};
use crate::flows::{Kept, Sender, find, touch};
use crate::maps::{BACKENDS, ENDPOINTS, FRONTENDS, LINKS, NEXT_HOPS};
use crate::nat;
use crate::nat64;
use crate::packet::{Packet, SYN, TCP};
use crate::rewrite::send;
use crate::ways::{self, Reply};

/// Decides over a packet whose source may be a backend; `None` when it belongs to no flow of ours.
#[inline(always)]
pub fn from_backend(cpu: &Cpu, packet: &Packet, key: &CacheKey, is_to_vip: bool) -> Option<u32> {
    let is_to_nat64 = nat64::is_to_source(cpu, packet);
    let owner = if is_to_vip || is_to_nat64 { nat::owner(packet) } else { None };
    if is_to_nat64 && let Some(owner) = owner {
        return Some(nat64::to_client(cpu, owner));
    }
    let flow_key = ways::flow_key()?;
    let may_come = ways::may_come_from(cpu, &unpair(&packet.source));
    match owner {
        Some(owner) if translated(packet, owner).is_some() => *flow_key = *owner,
        _ => {
            if plain(cpu, packet, flow_key, may_come).is_none() {
                if cpu.runs != Runs::Associations {
                    return None;
                }
                *flow_key = *of_association(packet)?;
            }
        }
    }
    // Searched once more: the verifier would follow each way to find it through all the code behind.
    let kept = find(flow_key)?;
    // Before anything is believed of what it says.
    if !may_come && is_on_clients_link(cpu, kept.flow) {
        return Some(cpu.drop(DropReason::WrongLink));
    }
    Some(to_client(cpu, packet, key, flow_key, kept))
}

/// The flow of a reply for a source port that a flow was given.
#[inline(always)]
pub fn translated(packet: &Packet, owner: &FlowKey) -> Option<Kept> {
    let kept = find(owner)?;
    // A flow that was chosen again has another port or backend; this is a late packet of the old one.
    let is_its = kept.flow.nat_port_be == packet.destination_port_be()
        && is_from(kept.flow, &unpair(&packet.source), packet.source_port_be());
    if is_its { Some(kept) } else { None }
}

/// The flow of a reply to the client itself.
///
/// A client may use one port towards two VIPs that share the endpoint. The backend sees one connection then. What it
/// says belongs to the flow that began last; the other is over, or is what the backend no longer knows. But as long as a
/// connection is alive, a SYN that anybody sent towards another VIP takes nothing of it away, except for the answer to a
/// SYN: then the backend knows the old connection no longer. Written to `key`: the stack has no room for it.
#[inline(always)]
fn plain(cpu: &Cpu, packet: &Packet, key: &mut FlowKey, may_come: bool) -> Option<()> {
    let source = unpair(&packet.source);
    let endpoint_key = EndpointKey {
        address: source,
        port_be: packet.source_port_be(),
        protocol: u16::from(packet.protocol),
    };
    // SAFETY: user space replaces elements and never changes them in place.
    let endpoint = unsafe { ENDPOINTS.get(&endpoint_key) }?;
    *key = FlowKey {
        client: unpair(&packet.destination),
        vip: Address::default(),
        client_port_be: packet.destination_port_be(),
        vip_port_be: 0,
        protocol: u32::from(packet.protocol),
    };
    let prefers_alive = packet.protocol == TCP && packet.flags & SYN == 0;
    // What is remembered from round to round is a number that the verifier knows nothing of, so one round is like another.
    let mut best = cpu.forget(u64::MAX);
    let mut best_rank = cpu.forget(0);
    for index in 0..MAX_SERVICES_PER_ENDPOINT {
        if index as u32 >= endpoint.count {
            break;
        }
        let service = *endpoint.services.get(index)?;
        let frontend = FRONTENDS.get(u32::from(service))?;
        key.vip = frontend.vip;
        key.vip_port_be = frontend.port_be;
        let rank = match find(key) {
            Some(kept) => {
                if prefers_alive && may_come {
                    kept.flow.may_be_passed_over(packet.flags);
                }
                rank(&kept, &source, packet.source_port_be(), prefers_alive)
            }
            None => 0,
        };
        let rank = cpu.forget(rank);
        if rank > best_rank {
            best_rank = rank;
            best = cpu.forget(index as u64);
        }
    }
    let service = *endpoint.services.get(best as usize)?;
    let frontend = FRONTENDS.get(u32::from(service))?;
    key.vip = frontend.vip;
    key.vip_port_be = frontend.port_be;
    Some(())
}

/// Above any reading of the clock.
const ALIVE: u64 = 1 << 63;

/// How likely a packet of this endpoint is the flow's; 0 when it is not.
#[inline(always)]
fn rank(kept: &Kept, source: &Address, source_port_be: u16, prefers_alive: bool) -> u64 {
    let Kept { flow, is_confirmed } = kept;
    if flow.nat_port_be != 0 || !is_from(flow, source, source_port_be) {
        return 0;
    }
    let is_alive = *is_confirmed && flow.state != FlowState::Closing as u16;
    // Not 0 in the first tick of a machine.
    (flow.created_ns | 1) | if prefers_alive && is_alive { ALIVE } else { 0 }
}

/// The flow of another path of the same association, whose VIP the client knows.
#[inline(always)]
fn of_association(packet: &Packet) -> Option<&'static FlowKey> {
    let owner = nat::association(packet)?;
    let kept = find(owner)?;
    if is_from(kept.flow, &unpair(&packet.source), packet.source_port_be()) {
        Some(owner)
    } else {
        None
    }
}

/// Whether the flow was given to the endpoint this packet comes from.
#[inline(always)]
fn is_from(flow: &Flow, source: &Address, source_port_be: u16) -> bool {
    let Some(backend) = BACKENDS.get(flow.backend) else {
        return false;
    };
    let [a, b, c, d] = backend.address.words;
    let [e, f, g, h] = source.words;
    let differs = (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h);
    differs == 0
        && backend.port_be == source_port_be
        && backend.used != 0
        && backend.generation == flow.backend_generation
}

/// Whether a reply comes in by the link of the client's packets, while those to the backend leave by another one of ours.
/// Anybody near the client could send it. Replies under full NAT are not asked: they are for an address of ours, to which
/// the network may lead by any link.
#[inline(always)]
fn is_on_clients_link(cpu: &Cpu, flow: &Flow) -> bool {
    let ingress = cpu.ingress();
    if flow.nat_port_be != 0 || flow.last_hop.link_index != ingress {
        return false;
    }
    let Some(hop) = NEXT_HOPS.get(flow.backend) else {
        return false;
    };
    hop.link_index != 0 && hop.link_index != ingress && LINKS.get_ptr(hop.link_index).is_some()
}

#[inline(always)]
fn to_client(
    cpu: &Cpu,
    packet: &Packet,
    key: &CacheKey,
    flow_key: &mut FlowKey,
    kept: Kept,
) -> u32 {
    let nat_port_be = cpu.forget(u64::from(kept.flow.nat_port_be));
    let backend = kept.flow.backend;
    let Some(last_hop) = ways::held(&kept.flow.last_hop) else {
        return cpu.drop(DropReason::NoNextHop);
    };
    // SAFETY: a plain helper call.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    let is_kept = touch(cpu, packet, flow_key, kept, Sender::Backend, now_ns);
    if nat_port_be == 0 {
        // Another path of an association leads to another address of its client.
        flow_key.client = unpair(&packet.destination);
    }
    let FlowKey { vip, client, vip_port_be, client_port_be, .. } = &*flow_key;
    let Packet { protocol, is_v4, .. } = *packet;
    let reply = Reply { protocol, is_v4, vip, client, hash: key.hash };
    let Some(next_hop) = ways::back(cpu, &reply, last_hop) else {
        return cpu.drop(DropReason::NoNextHop);
    };
    let rewrite = Rewrite {
        direction: Direction::ToClient,
        source: *vip,
        destination: *client,
        source_port_be: *vip_port_be,
        destination_port_be: *client_port_be,
        backend,
        next_hop,
        is_kept,
    };
    match key.fill(cpu, &rewrite) {
        Some(entry) => send(cpu, packet, &entry),
        None => cpu.drop(DropReason::Malformed),
    }
}
