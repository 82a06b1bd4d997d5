//! The kernel program: every packet of every attached link runs through [`sluice`].
//!
//! A packet of a known flow costs one look into the CPU's cache (`cache`), a rewrite and a transmission (`rewrite`). A
//! miss goes to the flow table and, for a new flow, to the service and its Maglev table (`forward`), where the client may
//! be refused (`lists`), bound to its last backend (`affinity`) or given another source (`nat`); or it finds its flow from
//! the backend's side (`reply`) and the way to the client (`ways`). Between an IPv6 VIP and an IPv4 backend the packet is
//! handed over to a second program (`nat64`, `translate`), and one of SCTP to a third (`associations`). For an owned VIP
//! the kernel's stack never answers: what is not balanced is refused, answered or dropped here (`reject`, `unreachable`,
//! `echo`), and a fourth program tells who asks for the VIP's MAC (`neighbours`). What comes from a backend and is of no
//! known flow goes to a fifth (`stateless`). Everything else is the kernel's.
//!
//! Everything is inlined: a call costs as much as three map lookups.
#![no_std]
#![no_main]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key passed by value is copied on a stack of 512 octets"
)]

mod abort;
mod affinity;
mod associations;
mod cache;
mod chunks;
mod cpu;
mod datagram_sum;
mod echo;
mod flows;
mod forward;
mod header;
mod impossible;
mod lists;
mod maps;
mod memory;
mod nat;
mod nat64;
mod neighbours;
mod packet;
mod reject;
mod reply;
mod rewrite;
mod segment_size;
mod stateless;
mod successors;
mod translate;
mod unreachable;
mod ways;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::hash::unpair;

use crate::cache::CacheKey;
use crate::cpu::{Cpu, Runs};
use crate::maps::FILTER;
use crate::packet::{FIN, Kind, Packet, RST, SYN, parse};

// Not even these are calls: a tail call from within one is not everywhere to be had.
#[xdp]
#[inline(always)]
pub fn sluice(context: XdpContext) -> u32 {
    match Cpu::enter(&context, Runs::First) {
        Some(cpu) => run(&cpu),
        None => XDP_PASS,
    }
}

#[inline(always)]
fn run(cpu: &Cpu) -> u32 {
    let (data, end) = (cpu.context.data(), cpu.context.data_end());
    let Some(packet) = parse(cpu, data, end) else {
        let len = (end - data) as u64;
        if neighbours::is_arp(data, end) {
            successors::try_hand_over(cpu, successors::NEIGHBOURS);
        }
        return cpu.pass(len);
    };
    if neighbours::is_solicitation(&packet) {
        let len = (end - data) as u64;
        successors::try_hand_over(cpu, successors::NEIGHBOURS);
        return cpu.pass(len);
    }
    if packet.kind == Kind::Association {
        return successors::hand_over(cpu, successors::ASSOCIATIONS);
    }
    let (may_be_vip, may_be_backend) = known(&packet);
    if !may_be_vip && !may_be_backend {
        return cpu.pass(packet.len());
    }
    let key = CacheKey::of(&packet);
    // A segment that opens or closes a connection changes the flow's state, which is in the table.
    if packet.kind == Kind::Transport
        && packet.flags & (SYN | FIN | RST) == 0
        && let Some(entry) = key.find(cpu)
    {
        return rewrite::send(cpu, &packet, &entry);
    }
    decide(cpu, &packet, &key, (may_be_vip, may_be_backend))
}

/// What becomes of a packet that is not cached, by what [`known`] says.
#[inline(always)]
fn decide(
    cpu: &Cpu,
    packet: &Packet,
    key: &CacheKey,
    (may_be_vip, may_be_backend): (bool, bool),
) -> u32 {
    let is_impossible =
        may_be_vip && packet.kind == Kind::Transport && impossible::is_from_impossible(packet);
    if cpu.forget(u64::from(is_impossible)) != 0 {
        return cpu.drop(DropReason::ImpossibleSource);
    }
    // Before the services: a reply under full NAT is for a VIP too.
    if may_be_backend
        && packet.kind == Kind::Transport
        && let Some(action) = reply::from_backend(cpu, packet, key, may_be_vip)
    {
        return action;
    }
    if may_be_vip && let Some(action) = forward::to_vip(cpu, packet, key) {
        return action;
    }
    let len = packet.len();
    if may_be_backend && cpu.runs == Runs::First && packet.kind == Kind::Transport {
        successors::try_hand_over(cpu, successors::FORGOTTEN);
    }
    cpu.pass(len)
}

/// Where [`sluice`] hands packets of SCTP over to.
#[xdp]
#[inline(always)]
pub fn associations(context: XdpContext) -> u32 {
    match Cpu::enter(&context, Runs::Associations) {
        Some(cpu) => associations::run(&cpu),
        None => XDP_PASS,
    }
}

/// Where both hand packets under NAT64 over to.
#[xdp]
#[inline(always)]
pub fn translator(context: XdpContext) -> u32 {
    match Cpu::enter(&context, Runs::Translator) {
        Some(cpu) => translate::run(&cpu),
        None => XDP_DROP,
    }
}

/// Where [`sluice`] hands packets of backends over to that it knows no flow of.
#[xdp]
#[inline(always)]
pub fn forgotten(context: XdpContext) -> u32 {
    match Cpu::enter(&context, Runs::Forgotten) {
        Some(cpu) => stateless::run(&cpu),
        None => XDP_PASS,
    }
}

/// Where [`sluice`] hands questions for MACs over to.
#[xdp]
#[inline(always)]
pub fn neighbours(context: XdpContext) -> u32 {
    neighbours::run(&context)
}

/// Whether the destination may be a VIP, and the source a backend.
#[inline(always)]
fn known(packet: &Packet) -> (bool, bool) {
    let Some(filter) = FILTER.get(0) else {
        return (true, true);
    };
    let (destination, source) = (unpair(&packet.destination), unpair(&packet.source));
    (filter.may_have_vip(&destination), filter.may_have_backend(&source))
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing above can panic; the verifier would not let a program with this loop in.
    loop {}
}

/// What the kernel is told, for the helpers it gives to GPL-compatible programs only (the FIB lookup). The MIT licence
/// is compatible; this is the kernel's name for code that may be taken under either.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
