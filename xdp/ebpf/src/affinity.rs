//! Session affinity: a client address keeps its backend.

use sluice_xdp_abi::affinity::{Affinity, AffinityKey};
use sluice_xdp_abi::hash::{flow_hash, pair};
use sluice_xdp_abi::program::{Backend, Service};

use crate::maps::{AFFINITIES, BACKENDS};
use crate::packet::Packet;

/// The backend of the client's last flow, while that backend takes new flows. One that drains or is gone is not asked
/// again, so the caller chooses anew and [`remember`]s.
#[inline(always)]
pub fn recall(key: &AffinityKey, service: &Service, now_ns: u64) -> Option<u32> {
    // SAFETY: torn updates by another CPU cost at worst another choice; the generation is compared.
    let affinity = unsafe { AFFINITIES.get(key) }?;
    if !affinity.binds(now_ns, service.affinity_s) {
        return None;
    }
    let backend = BACKENDS.get(affinity.backend)?;
    let takes_flows = backend.used != 0
        && backend.weight != 0
        && backend.generation == affinity.backend_generation;
    if takes_flows { Some(affinity.backend) } else { None }
}

/// Binds the client to a backend from now on. When the kernel has no memory for it the client is hashed to a backend by
/// its address all the same.
#[inline(always)]
pub fn remember(key: &AffinityKey, id: u32, backend: &Backend, now_ns: u64) {
    let affinity =
        Affinity { last_new_flow_ns: now_ns, backend: id, backend_generation: backend.generation };
    let _: Result<(), i32> = AFFINITIES.insert(key, &affinity, 0);
}

/// What a client without a remembered backend is spread by: its address and the VIP alone, so that forgetting, a
/// restart with empty tables and another appliance all lead to the same backend.
#[inline(always)]
pub fn client_hash(packet: &Packet, key: &AffinityKey) -> u64 {
    flow_hash(&pair(&key.client), &packet.destination, 0, 0)
}
