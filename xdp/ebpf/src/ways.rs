//! Where a packet leaves for a client.
//!
//! First what user space has written of the kernel's routes (`WAYS`, `ROUTERS`), which follows every change and needs no
//! forwarding to be on. Where that knows nothing (more routes than it keeps, policy routing), the kernel is asked; it
//! answers only while it forwards. Else the packet goes back to where the client's last packet came from. A way over a
//! link without the program is none: a driver may not take our frames there.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibParameters,
};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::bpf_fib_lookup;
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::flow::{FlowKey, NextHop};
use sluice_xdp_abi::limits::MAX_HOPS_PER_WAY;
use sluice_xdp_abi::prefix::{FULL_BITS, PrefixKey};
use sluice_xdp_abi::way::{WAYS_LIST, Way, WayKind};

use crate::cpu::Cpu;
use crate::header::swap_macs;
use crate::maps::{LINKS, QUESTION, ROUTERS, WAYS};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What a reply is sent by.
pub struct Reply<'a> {
    pub protocol: u8,
    pub is_v4: bool,
    pub vip: &'a Address,
    pub client: &'a Address,
    /// Chooses among several routers of one way, always the same for one flow.
    pub hash: u64,
}

/// What is asked, and what is answered: the programs' stacks have no room for it.
#[repr(C)]
pub struct Question {
    key: Key<PrefixKey>,
    kernel: FibParameters,
    next_hop: NextHop,
    last_hop: NextHop,
    way: NextHop,
    flow: FlowKey,
}

/// Where a packet's flow is asked for.
#[inline(always)]
pub fn flow_key() -> Option<&'static mut FlowKey> {
    // SAFETY: this CPU's own element; the program does not migrate.
    Some(unsafe { &mut (*QUESTION.get_ptr_mut(0)?).flow })
}

/// A copy of where a client's packets came from, which stays when its flow is moved to the other table.
#[inline(always)]
pub fn held(last_hop: &NextHop) -> Option<&'static NextHop> {
    // SAFETY: this CPU's own element; the program does not migrate.
    let held = unsafe { &mut (*QUESTION.get_ptr_mut(0)?).last_hop };
    *held = *last_hop;
    Some(held)
}

/// The way of a flow's replies, whose client's packets came from `last_hop`; always in the same place, so that the
/// verifier follows what is done with it once.
#[inline(always)]
pub fn back(cpu: &Cpu, reply: &Reply<'_>, last_hop: &'static NextHop) -> Option<&'static NextHop> {
    let chosen = chosen(cpu, reply, last_hop);
    // SAFETY: this CPU's own element; the program does not migrate.
    let way = unsafe { &raw mut (*QUESTION.get_ptr_mut(0)?).way };
    // SAFETY: nothing else refers to it.
    unsafe {
        way.write(*chosen);
        Some(&*way)
    }
}

#[inline(always)]
fn chosen(cpu: &Cpu, reply: &Reply<'_>, last_hop: &'static NextHop) -> &'static NextHop {
    if let Some(way) = find(reply.client) {
        if way.kind == WayKind::Routers as u16 {
            return router(cpu, way, reply.hash, Some(last_hop)).unwrap_or(last_hop);
        }
        // The appliance's own client comes back over its router, as it went.
        if way.kind == WayKind::Local as u16 {
            return last_hop;
        }
    }
    match look_up(cpu, reply) {
        Some((BPF_FIB_LKUP_RET_SUCCESS, hop)) if LINKS.get_ptr(hop.link_index).is_some() => hop,
        _ => last_hop,
    }
}

/// What is known of the ways to an address.
#[inline(always)]
pub fn find(address: &Address) -> Option<&'static Way> {
    // SAFETY: this CPU's own element; the program does not migrate.
    let key = unsafe { &mut (*QUESTION.get_ptr_mut(0)?).key };
    *key = Key::new(FULL_BITS, PrefixKey::new(WAYS_LIST, *address));
    WAYS.get(&*key)
}

/// One of the way's routers that are known and behind a link of ours: the one a packet came from if it is one of them,
/// so that both directions pass the same router, else the flow's.
#[inline(always)]
pub fn router(
    cpu: &Cpu,
    way: &Way,
    hash: u64,
    came_from: Option<&NextHop>,
) -> Option<&'static NextHop> {
    let count = u32::from(way.count);
    // The flow's share is a rank among all, so that a router which fails moves only its own flows.
    let wanted = cpu.forget(((hash >> 32) * u64::from(count)) >> 32);
    // A number that the verifier knows nothing of, so one round is like another.
    let mut chosen = cpu.forget(u64::MAX);
    for index in 0..MAX_HOPS_PER_WAY {
        if index as u32 >= count {
            break;
        }
        let Some(hop) = way.hops.get(index).and_then(|id| ROUTERS.get(u32::from(*id))) else {
            continue;
        };
        if hop.link_index == 0 || LINKS.get_ptr(hop.link_index).is_none() {
            continue;
        }
        if came_from.is_some_and(|last| is_same(hop, last)) {
            chosen = cpu.forget(index as u64);
            break;
        }
        if chosen == u64::MAX || index as u64 == wanted {
            chosen = cpu.forget(index as u64);
        }
    }
    let id = *way.hops.get(chosen as usize)?;
    ROUTERS.get(u32::from(id))
}

/// Whether a packet from the address may come in where this one does, as far as is known.
#[inline(always)]
pub fn may_come_from(cpu: &Cpu, address: &Address) -> bool {
    // A member of a bond sees packets of the bond, which has the program.
    let may = LINKS.get_ptr(cpu.ingress()).is_none() || may_lead_over(address, cpu.ingress());
    cpu.forget(u64::from(may)) != 0
}

/// Whether packets to the address may leave by this link, as far as is known.
#[inline(always)]
fn may_lead_over(address: &Address, link_index: u32) -> bool {
    let Some(way) = find(address) else {
        return true;
    };
    if way.kind == WayKind::Link as u16 {
        return way.link_index == link_index;
    }
    if way.kind != WayKind::Routers as u16 {
        return true;
    }
    for index in 0..MAX_HOPS_PER_WAY {
        if index as u32 >= u32::from(way.count) {
            break;
        }
        match way.hops.get(index).and_then(|id| ROUTERS.get(u32::from(*id))) {
            Some(hop) if hop.link_index != 0 && hop.link_index != link_index => {}
            _ => return true,
        }
    }
    false
}

#[inline(always)]
fn is_same(one: &NextHop, other: &NextHop) -> bool {
    let ([a, b, c], [d, e, f]) = (one.macs, other.macs);
    (one.link_index ^ other.link_index) | (a ^ d) | (b ^ e) | (c ^ f) == 0
}

/// Whether the kernel would not send a packet on that came from this link: nobody but us can then be its way.
#[inline(always)]
pub fn is_kernel_no_router(cpu: &Cpu, reply: &Reply<'_>) -> bool {
    look_up(cpu, reply).is_some_and(|(result, _)| result == BPF_FIB_LKUP_RET_FWD_DISABLED)
}

/// The kernel's way from the VIP to the client, if the answer says that it has one.
#[inline(always)]
fn look_up(cpu: &Cpu, reply: &Reply<'_>) -> Option<(u32, &'static NextHop)> {
    // SAFETY: this CPU's own element; the program does not migrate.
    let Question { kernel, next_hop, .. } = unsafe { &mut *QUESTION.get_ptr_mut(0)? };
    // SAFETY: all zeroes is a valid value of this plain C structure.
    *kernel = unsafe { core::mem::zeroed() };
    kernel.ifindex = cpu.ingress();
    kernel.l4_protocol = reply.protocol;
    if reply.is_v4 {
        kernel.family = AF_INET;
        kernel.__bindgen_anon_3.ipv4_src = reply.vip.last_word();
        kernel.__bindgen_anon_4.ipv4_dst = reply.client.last_word();
    } else {
        kernel.family = AF_INET6;
        kernel.__bindgen_anon_3.ipv6_src = reply.vip.words;
        kernel.__bindgen_anon_4.ipv6_dst = reply.client.words;
    }
    let size = size_of::<FibParameters>() as i32;
    // SAFETY: the context is the one the program was given.
    let result = unsafe { bpf_fib_lookup(cpu.context_ptr(), &raw mut *kernel, size, 0) };
    // The two MACs lie behind each other, source first; read as aligned words.
    const MACS: usize = core::mem::offset_of!(FibParameters, smac);
    const { assert!(MACS.is_multiple_of(4) && core::mem::offset_of!(FibParameters, dmac) == MACS + 6) };
    // SAFETY: twelve octets inside the structure, aligned to four.
    let macs = unsafe { (&raw const *kernel).byte_add(MACS).cast::<[u32; 3]>().read() };
    *next_hop = NextHop { link_index: kernel.ifindex, macs: swap_macs(macs) };
    Some((result as u32, next_hop))
}
