//! Passes every packet: what a veth peer needs before it can receive frames sent by XDP.
//!
//! A veth end only polls its XDP ring when a program is attached to it. This one can be attached by
//! aya and by `ip link set dev DEV xdp obj pass.o sec xdp` alike.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

#[xdp]
fn pass(_packet: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel's helpers are licensed per program; libbpf refuses an object that does not say.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
