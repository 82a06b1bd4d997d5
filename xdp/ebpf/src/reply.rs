//! From a backend to a client.

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibParameters};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_ktime_get_coarse_ns};
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::flow::{Direction, Flow, FlowKey, FlowState, NextHop};
use sluice_xdp_abi::hash::unpair;
use sluice_xdp_abi::limits::MAX_SERVICES_PER_ENDPOINT;
use sluice_xdp_abi::program::{EndpointKey, ServiceKey};

use crate::cache::{CacheKey, Rewrite};
use crate::cpu::{Cpu, Runs};
use crate::header::swap_macs;
use crate::maps::{BACKENDS, ENDPOINTS, FLOWS, FRONTENDS, LINKS};
use crate::nat;
use crate::nat64;
use crate::packet::{FIN, Packet, RST};
use crate::rewrite::send;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A flow found from the backend's side.
pub struct Found {
    pub flow: &'static mut Flow,
    pub client: Address,
    pub vip: Address,
    pub client_port_be: u16,
    pub vip_port_be: u16,
}

/// Decides over a packet whose source may be a backend; `None` when it belongs to no flow of ours.
#[inline(always)]
pub fn from_backend(cpu: &Cpu, packet: &Packet, key: &CacheKey, is_to_vip: bool) -> Option<u32> {
    let is_to_nat64 = nat64::is_to_source(cpu, packet);
    let owner = if is_to_vip || is_to_nat64 { nat::owner(packet) } else { None };
    if is_to_nat64 && let Some(owner) = owner {
        return Some(nat64::to_client(cpu, owner));
    }
    let found = match owner.and_then(|owner| translated(packet, owner)) {
        Some(found) => found,
        None => match plain(packet) {
            Some(found) => found,
            None if cpu.runs == Runs::Associations => of_association(packet)?,
            None => return None,
        },
    };
    Some(to_client(cpu, packet, key, found))
}

/// The flow of a reply for a source port that a flow was given.
#[inline(always)]
pub fn translated(packet: &Packet, owner: &FlowKey) -> Option<Found> {
    let flow_key = *owner;
    // SAFETY: as in `forward`.
    let flow = unsafe { &mut *FLOWS.get_ptr_mut(&flow_key)? };
    // A flow that was chosen again has another port or backend; this is a late packet of the old one.
    let is_its = flow.nat_port_be == packet.destination_port_be()
        && is_from(flow, &unpair(&packet.source), packet.source_port_be());
    if !is_its {
        return None;
    }
    let FlowKey { client, vip, client_port_be, vip_port_be, .. } = flow_key;
    Some(Found { flow, client, vip, client_port_be, vip_port_be })
}

/// The flow of a reply to the client itself.
///
/// A client may use one port towards two VIPs that share the endpoint. The backend sees one connection then, so the
/// reply belongs to the flow that began last; the other is over, or is what the backend no longer knows.
#[inline(always)]
fn plain(packet: &Packet) -> Option<Found> {
    let source = unpair(&packet.source);
    let endpoint_key = EndpointKey {
        address: source,
        port_be: packet.source_port_be(),
        protocol: u16::from(packet.protocol),
    };
    // SAFETY: user space replaces elements and never changes them in place.
    let endpoint = unsafe { ENDPOINTS.get(&endpoint_key) }?;
    let mut flow_key = FlowKey {
        client: unpair(&packet.destination),
        vip: Address::default(),
        client_port_be: packet.destination_port_be(),
        vip_port_be: 0,
        protocol: u32::from(packet.protocol),
    };
    let mut latest: Option<(&'static mut Flow, &'static ServiceKey)> = None;
    for index in 0..MAX_SERVICES_PER_ENDPOINT {
        if index as u32 >= endpoint.count {
            break;
        }
        let service = *endpoint.services.get(index)?;
        let frontend = FRONTENDS.get(u32::from(service))?;
        flow_key.vip = frontend.vip;
        flow_key.vip_port_be = frontend.port_be;
        if let Some(flow) = FLOWS.get_ptr_mut(&flow_key) {
            // SAFETY: as in `forward`.
            let flow = unsafe { &mut *flow };
            let is_later =
                latest.as_ref().is_none_or(|(other, _)| flow.created_ns > other.created_ns);
            let is_plain = flow.nat_port_be == 0;
            if is_later && is_plain && is_from(flow, &source, packet.source_port_be()) {
                latest = Some((flow, frontend));
            }
        }
    }
    let (flow, frontend) = latest?;
    Some(Found {
        flow,
        client: flow_key.client,
        vip: frontend.vip,
        client_port_be: flow_key.client_port_be,
        vip_port_be: frontend.port_be,
    })
}

/// The flow of another path of the same association, whose VIP the client knows; to the address of the packet.
#[inline(always)]
fn of_association(packet: &Packet) -> Option<Found> {
    let owner = *nat::association(packet)?;
    // SAFETY: as in `forward`.
    let flow = unsafe { &mut *FLOWS.get_ptr_mut(&owner)? };
    if !is_from(flow, &unpair(&packet.source), packet.source_port_be()) {
        return None;
    }
    let FlowKey { vip, client_port_be, vip_port_be, .. } = owner;
    Some(Found { flow, client: unpair(&packet.destination), vip, client_port_be, vip_port_be })
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

#[inline(always)]
fn to_client(cpu: &Cpu, packet: &Packet, key: &CacheKey, found: Found) -> u32 {
    let Found { flow, client, vip, client_port_be, vip_port_be } = found;
    touch(packet, flow);
    let next_hop =
        route(cpu, packet.protocol, packet.is_v4, &vip, &client).unwrap_or(flow.last_hop);
    let rewrite = Rewrite {
        direction: Direction::ToClient,
        source: vip,
        destination: client,
        source_port_be: vip_port_be,
        destination_port_be: client_port_be,
        backend: flow.backend,
        next_hop,
        is_kept: flow.state != FlowState::Closing as u32,
    };
    match key.fill(cpu, &rewrite) {
        Some(entry) => send(cpu, packet, &entry),
        None => cpu.drop(DropReason::Malformed),
    }
}

#[inline(always)]
pub fn touch(packet: &Packet, flow: &mut Flow) {
    // SAFETY: a plain helper call.
    flow.last_seen_ns = unsafe { bpf_ktime_get_coarse_ns() };
    if packet.flags & (FIN | RST) != 0 {
        flow.state = FlowState::Closing as u32;
    }
}

/// The kernel's way from the VIP to the client, when it knows one over a link we are attached to. Elsewhere a driver
/// may not take our frames.
#[inline(always)]
pub fn route(
    cpu: &Cpu,
    protocol: u8,
    is_v4: bool,
    vip: &Address,
    client: &Address,
) -> Option<NextHop> {
    // SAFETY: all zeroes is a valid value of this plain C structure.
    let mut parameters: FibParameters = unsafe { core::mem::zeroed() };
    parameters.ifindex = cpu.ingress();
    parameters.l4_protocol = protocol;
    if is_v4 {
        parameters.family = AF_INET;
        parameters.__bindgen_anon_3.ipv4_src = vip.last_word();
        parameters.__bindgen_anon_4.ipv4_dst = client.last_word();
    } else {
        parameters.family = AF_INET6;
        parameters.__bindgen_anon_3.ipv6_src = vip.words;
        parameters.__bindgen_anon_4.ipv6_dst = client.words;
    }
    let size = size_of::<FibParameters>() as i32;
    // SAFETY: the context is the one the program was given, the parameters live on the stack.
    let result = unsafe { bpf_fib_lookup(cpu.context_ptr(), &raw mut parameters, size, 0) };
    if result != i64::from(BPF_FIB_LKUP_RET_SUCCESS) {
        return None;
    }
    LINKS.get_ptr(parameters.ifindex)?;
    // The two MACs lie behind each other, source first; read as aligned words, which is all the stack allows.
    const MACS: usize = core::mem::offset_of!(FibParameters, smac);
    const { assert!(MACS.is_multiple_of(4) && core::mem::offset_of!(FibParameters, dmac) == MACS + 6) };
    // SAFETY: twelve octets inside the structure, aligned to four.
    let macs = unsafe { (&raw const parameters).byte_add(MACS).cast::<[u32; 3]>().read() };
    Some(NextHop { link_index: parameters.ifindex, macs: swap_macs(macs) })
}
