//! The flow table: confirmed flows, and those that anybody could have made us remember.

use aya_ebpf::btf_maps::LruHashMap;
use sluice_xdp_abi::flow::{Flow, FlowKey, FlowState};
use sluice_xdp_abi::life::{Signs, Transport};
use sluice_xdp_abi::limits::DEFAULT_MAX_FLOWS;

use crate::cpu::Cpu;
use crate::maps::{FLOWS, UNCONFIRMED};
use crate::memory::load;
use crate::packet::{Packet, SCTP, SYN, TCP, TCP_LEN};

/// Both tables are of one type; the loader gives each its size.
pub type Table = LruHashMap<FlowKey, Flow, { DEFAULT_MAX_FLOWS as usize }>;

/// A flow, and which table has it.
pub struct Kept {
    pub flow: &'static mut Flow,
    pub is_confirmed: bool,
}

/// Who sent a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Client,
    Backend,
}

/// Finds a flow. It may be in both tables while it is moved; the confirmed one is right then.
#[inline(always)]
pub fn find(key: &FlowKey) -> Option<Kept> {
    match find_in(&FLOWS, key) {
        Some(flow) => Some(Kept { flow, is_confirmed: true }),
        None => find_in(&UNCONFIRMED, key).map(|flow| Kept { flow, is_confirmed: false }),
    }
}

#[inline(always)]
pub fn find_in(table: &Table, key: &FlowKey) -> Option<&'static mut Flow> {
    // SAFETY: the element stays allocated for the run; torn updates by another CPU cost at worst a new choice.
    table.get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}

#[inline(always)]
pub fn forget(table: &Table, key: &FlowKey) {
    // One that is gone already is fine.
    let _: Result<(), i32> = table.remove(key);
}

/// Takes a packet in, and the flow into the other table when that confirms it. Returns whether packets that follow may
/// pass from the cache: those of a flow that is closing, whose ports may soon be another flow's, ask the table, and so
/// does what follows a SYN, which may confirm the flow.
///
/// The flow is not to be looked at afterwards: moved, its old place may be another's.
#[inline(always)]
pub fn touch(
    cpu: &Cpu,
    packet: &Packet,
    key: &FlowKey,
    kept: Kept,
    sender: Sender,
    now_ns: u64,
) -> bool {
    let Kept { flow, is_confirmed } = kept;
    flow.last_seen_ns = now_ns;
    let signs = signs(packet);
    let confirms = match sender {
        Sender::Client => flow.sent_by_client(&signs),
        Sender::Backend => flow.sent_by_backend(&signs),
    };
    // As few ways as possible lead on from here, for the verifier.
    let is_kept = flow.state != FlowState::Closing as u16 && packet.flags & SYN == 0;
    if confirms && !is_confirmed {
        // Without memory it stays where it is.
        match FLOWS.insert(key, &*flow, 0) {
            Ok(()) => forget(&UNCONFIRMED, key),
            Err(_) => cpu.state().failed_flows += 1,
        }
    }
    cpu.forget(u64::from(is_kept)) != 0
}

/// What a packet says of its connection.
#[inline(always)]
pub fn signs(packet: &Packet) -> Signs {
    let transport = match packet.protocol {
        TCP => Transport::Tcp,
        SCTP => Transport::Sctp,
        _ => Transport::Udp,
    };
    let mut signs = Signs { transport, flags: packet.flags, sequence: 0, acknowledgment: 0 };
    if packet.protocol == TCP && packet.l4 + TCP_LEN <= packet.end {
        // SAFETY: compared above.
        let (sequence, acknowledgment): (u32, u32) =
            unsafe { (load(packet.l4 + 4), load(packet.l4 + 8)) };
        signs.sequence = u32::from_be(sequence);
        signs.acknowledgment = u32::from_be(acknowledgment);
    }
    signs
}
