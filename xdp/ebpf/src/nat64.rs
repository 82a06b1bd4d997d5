//! NAT64, the first half: a packet whose flow is known is handed over to the program that translates it (`translate`).
//!
//! A program of its own has a stack of its own, of which this one has nothing left, and other packets do not have its code
//! in the way. Such flows are not cached: a cache line of IPv4 has no room for IPv6 addresses.

use sluice_xdp_abi::flow::FlowKey;

use crate::cpu::Cpu;
use crate::packet::Packet;
use crate::successors::{TRANSLATOR, hand_over};

/// Whether a packet may be a reply under NAT64.
#[inline(always)]
pub fn is_to_source(cpu: &Cpu, packet: &Packet) -> bool {
    let [_, last] = packet.destination;
    let address = (last >> 32) as u32;
    packet.is_v4 && address == cpu.control.nat64_source && address != 0
}

/// Has a client's packet sent to this backend, from this port.
#[inline(always)]
pub fn to_backend(cpu: &Cpu, backend: u32, nat_port_be: u16) -> u32 {
    let handover = &mut cpu.state().handover;
    handover.backend = backend;
    handover.nat_port_be = nat_port_be;
    hand_over(cpu, TRANSLATOR)
}

/// Has a reply sent to the client of this flow, if that is still where it belongs.
#[inline(always)]
pub fn to_client(cpu: &Cpu, flow: &FlowKey) -> u32 {
    cpu.state().handover.flow = *flow;
    hand_over(cpu, TRANSLATOR)
}
