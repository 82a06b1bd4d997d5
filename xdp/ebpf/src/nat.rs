//! Source ports of full NAT and NAT64, and whose they are.

use aya_ebpf::bindings::BPF_NOEXIST;
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::flow::FlowKey;
use sluice_xdp_abi::hash::unpair;
use sluice_xdp_abi::limits::NAT_PORT_TRIES;
use sluice_xdp_abi::nat::{NO_SOURCE, NatKey, port, port_64};
use sluice_xdp_abi::program::Backend;

use crate::cpu::Cpu;
use crate::maps::NATS;
use crate::packet::Packet;

/// Takes a source port that no other flow to this backend has; `None` when all that were tried are taken.
///
/// The insertion is what decides: two CPUs that try the same port at once do not both get it.
#[inline(always)]
pub fn claim(cpu: &Cpu, flow: &FlowKey, backend: &Backend, hash: u64) -> Option<u16> {
    let client_port = u16::from_be(flow.client_port_be);
    let is_translated = is_between_families(flow, backend);
    let mut key = key(cpu, flow, backend, 0);
    for attempt in 0..NAT_PORT_TRIES {
        let port =
            if is_translated { port_64(hash, attempt) } else { port(client_port, hash, attempt) };
        key.port_be = port.to_be();
        if holds(&key, flow) {
            return Some(key.port_be);
        }
    }
    None
}

/// Sees to it that the port of a flow is still the flow's: a sweep may have taken a flow that came back for dead. False
/// when it is another's by now, who would get the replies.
#[inline(always)]
pub fn renew(cpu: &Cpu, flow: &FlowKey, backend: &Backend, port_be: u16) -> bool {
    let key = key(cpu, flow, backend, port_be);
    // SAFETY: an element's value is never changed in place.
    match unsafe { NATS.get(&key) } {
        Some(other) => is_same(other, flow),
        None => NATS.insert(&key, flow, u64::from(BPF_NOEXIST)).is_ok(),
    }
}

/// Whose the port is that a packet from a backend is for.
#[inline(always)]
pub fn owner(packet: &Packet) -> Option<&'static FlowKey> {
    let key = NatKey {
        backend: unpair(&packet.source),
        source: unpair(&packet.destination),
        backend_port_be: packet.source_port_be(),
        port_be: packet.destination_port_be(),
        protocol: u32::from(packet.protocol),
    };
    // SAFETY: an element's value is never changed in place.
    unsafe { NATS.get(&key) }
}

/// Remembers that this client port is an association's with this backend, whichever of its addresses comes next.
#[inline(always)]
pub fn remember_association(flow: &FlowKey, backend: &Backend) {
    let key = NatKey {
        backend: backend.address,
        source: NO_SOURCE,
        backend_port_be: backend.port_be,
        port_be: flow.client_port_be,
        protocol: flow.protocol,
    };
    // Without memory for it the backend's first packets to another address of the client are lost.
    let _: Result<(), i32> = NATS.insert(&key, flow, 0);
}

/// A flow of the association that a packet from a backend belongs to, though no flow leads to its destination: the
/// backend greets an address that it has learned from the client's INIT.
#[inline(always)]
pub fn association(packet: &Packet) -> Option<&'static FlowKey> {
    let key = NatKey {
        backend: unpair(&packet.source),
        source: NO_SOURCE,
        backend_port_be: packet.source_port_be(),
        port_be: packet.destination_port_be(),
        protocol: u32::from(packet.protocol),
    };
    // SAFETY: an element's value is never changed in place.
    unsafe { NATS.get(&key) }
}

/// Whether packets of the flow change their family: an IPv6 VIP with an IPv4 backend.
#[inline(always)]
pub fn is_between_families(flow: &FlowKey, backend: &Backend) -> bool {
    backend.address.is_v4() && !flow.vip.is_v4()
}

/// Whether the port is this flow's, which takes it when it is nobody's.
#[inline(always)]
fn holds(key: &NatKey, flow: &FlowKey) -> bool {
    if NATS.insert(key, flow, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    // SAFETY: an element's value is never changed in place.
    unsafe { NATS.get(key) }.is_some_and(|other| is_same(other, flow))
}

/// Word by word: the derived comparison is a call on the kernel's side.
#[inline(always)]
fn is_same(one: &FlowKey, other: &FlowKey) -> bool {
    let ([a, b, c, d], [e, f, g, h]) = (one.client.words, other.client.words);
    let client = (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h);
    let ([a, b, c, d], [e, f, g, h]) = (one.vip.words, other.vip.words);
    let vip = (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h);
    let ports = (one.client_port_be ^ other.client_port_be) | (one.vip_port_be ^ other.vip_port_be);
    client | vip | u32::from(ports) | (one.protocol ^ other.protocol) == 0
}

#[inline(always)]
fn key(cpu: &Cpu, flow: &FlowKey, backend: &Backend, port_be: u16) -> NatKey {
    let is_translated = is_between_families(flow, backend);
    let source = if is_translated { Address::v4_word(cpu.control.nat64_source) } else { flow.vip };
    NatKey {
        backend: backend.address,
        source,
        backend_port_be: backend.port_be,
        port_be,
        protocol: flow.protocol,
    }
}
