//! Replies whose flow is not known here: it was forgotten while the server had nothing to say, or another appliance has it.
//!
//! The client and its port are in the reply. Of the VIP only what the endpoint serves is known, so the endpoint must
//! serve one frontend only, and without changing the client's source. Who else could such a packet be for?
//! The appliance itself, whose health checks talk to the same endpoints: what is for an address of ours is the kernel's.
//! Somebody who talks to the backend directly, with this host as a router on the way: then the host forwards, and the
//! packet is left to it as well. While it does not forward, nobody but a client of ours can wait for the packet. Clients on
//! a network of a link would need a neighbour that nobody has asked for; their next packet brings the flow back.
//!
//! A program of its own, since the first one's stack is full.

use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::flow::Direction;
use sluice_xdp_abi::hash::unpair;
use sluice_xdp_abi::prefix::NO_LIST;
use sluice_xdp_abi::program::EndpointKey;
use sluice_xdp_abi::way::WayKind;

use crate::cache::{CacheKey, Rewrite};
use crate::cpu::Cpu;
use crate::impossible::is_no_client;
use crate::lists::contains;
use crate::maps::{ENDPOINTS, FRONTENDS, SERVICES, VIPS};
use crate::packet::{ACK, Kind, Packet, SYN, TCP, parse};
use crate::rewrite::send;
use crate::ways::{self, Reply};

/// Traffic that belongs to no backend in particular is counted where nobody's is.
const NO_BACKEND: u32 = 0;

/// The program: what comes from a backend's address and was found to be of no flow and for no VIP.
#[inline(always)]
pub fn run(cpu: &Cpu) -> u32 {
    let (data, end) = (cpu.context.data(), cpu.context.data_end());
    let len = (end - data) as u64;
    let parsed = parse(cpu, data, end).filter(|packet| packet.kind == Kind::Transport);
    parsed.and_then(|packet| translate(cpu, &packet)).unwrap_or_else(|| cpu.pass(len))
}

/// Sends the reply as its frontend's; `None` when it may be something else.
#[inline(always)]
fn translate(cpu: &Cpu, packet: &Packet) -> Option<u32> {
    // Who opens a connection answers nobody.
    if packet.protocol == TCP && packet.flags & (SYN | ACK) == SYN {
        return None;
    }
    let client = unpair(&packet.destination);
    // Multicast and broadcast of the backend's own, such as mDNS from a port that is served, are no reply.
    if is_no_client(packet.is_v4, &client) {
        return None;
    }
    let endpoint_key = EndpointKey {
        address: unpair(&packet.source),
        port_be: packet.source_port_be(),
        protocol: u16::from(packet.protocol),
    };
    // SAFETY: user space replaces elements and never changes them in place.
    let endpoint = unsafe { ENDPOINTS.get(&endpoint_key) }?;
    let [first, ..] = endpoint.services;
    if endpoint.count != 1 {
        return None;
    }
    let way = ways::find(&client)?;
    if way.kind != WayKind::Routers as u16 {
        return None;
    }
    let key = CacheKey::of(packet);
    let frontend = FRONTENDS.get(u32::from(first))?;
    // SAFETY: as above.
    let service = unsafe { SERVICES.get(frontend) }?;
    let is_plain = frontend.vip.is_v4() == packet.is_v4
        && (service.full_nat_list == NO_LIST || !contains(service.full_nat_list, &client))
        && (service.source_list == NO_LIST || contains(service.source_list, &client))
        && VIPS.get_ptr(client).is_none();
    let reply = Reply {
        protocol: packet.protocol,
        is_v4: packet.is_v4,
        vip: &frontend.vip,
        client: &client,
        hash: key.hash,
    };
    if !is_plain || !ways::is_kernel_no_router(cpu, &reply) {
        return None;
    }
    // Not for anybody who sends from where the backend cannot be: we would lend him the VIP's name.
    if !ways::may_come_from(cpu, &endpoint_key.address) {
        return Some(cpu.drop(DropReason::WrongLink));
    }
    let rewrite = Rewrite {
        direction: Direction::ToClient,
        source: frontend.vip,
        destination: client,
        source_port_be: frontend.port_be,
        destination_port_be: packet.destination_port_be(),
        backend: NO_BACKEND,
        next_hop: ways::router(cpu, way, key.hash, None)?,
        // The flow may begin again at any time, elsewhere.
        is_kept: false,
    };
    Some(match key.fill(cpu, &rewrite) {
        Some(entry) => send(cpu, packet, &entry),
        None => cpu.drop(DropReason::Malformed),
    })
}
