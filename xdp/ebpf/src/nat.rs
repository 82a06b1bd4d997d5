//! Source ports of full NAT, and whose they are.

use aya_ebpf::bindings::BPF_NOEXIST;
use sluice_xdp_abi::flow::FlowKey;
use sluice_xdp_abi::limits::NAT_PORT_TRIES;
use sluice_xdp_abi::nat::{NatClient, NatKey, port};
use sluice_xdp_abi::program::Backend;

use crate::maps::NATS;

/// Takes a source port that no other flow to this backend has; `None` when all that were tried are taken.
///
/// The insertion is what decides: two CPUs that try the same port at once do not both get it.
#[inline(always)]
pub fn claim(flow: &FlowKey, backend: &Backend, hash: u64) -> Option<u16> {
    let client_port = u16::from_be(flow.client_port_be);
    let mut key = key(flow, backend, 0);
    let owner = owner(flow);
    for attempt in 0..NAT_PORT_TRIES {
        key.port_be = port(client_port, hash, attempt).to_be();
        if holds(&key, &owner) {
            return Some(key.port_be);
        }
    }
    None
}

/// Sees to it that the port of a flow is still the flow's: a sweep may have taken a flow that came back for dead.
#[inline(always)]
pub fn renew(flow: &FlowKey, backend: &Backend, port_be: u16) {
    let key = key(flow, backend, port_be);
    if NATS.get_ptr(&key).is_none() {
        let _: Result<(), i32> = NATS.insert(&key, &owner(flow), u64::from(BPF_NOEXIST));
    }
}

/// Whether the port is this owner's, who takes it when it is nobody's.
#[inline(always)]
fn holds(key: &NatKey, owner: &NatClient) -> bool {
    if NATS.insert(key, owner, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    // SAFETY: an element's value is never changed in place.
    unsafe { NATS.get(key) }.is_some_and(|other| other.is(owner))
}

#[inline(always)]
fn key(flow: &FlowKey, backend: &Backend, port_be: u16) -> NatKey {
    NatKey {
        backend: backend.address,
        vip: flow.vip,
        backend_port_be: backend.port_be,
        port_be,
        protocol: flow.protocol,
    }
}

#[inline(always)]
fn owner(flow: &FlowKey) -> NatClient {
    NatClient {
        client: flow.client,
        client_port_be: flow.client_port_be,
        vip_port_be: flow.vip_port_be,
    }
}
