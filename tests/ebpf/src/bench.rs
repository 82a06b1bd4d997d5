//! Programs that measure the data plane: a packet-restoring wrapper, a generator and a sink.
//!
//! `wrapper` runs under `BPF_PROG_TEST_RUN` with a large repeat count. NAT rewrites the packet and the
//! kernel does not put it back between iterations, so the wrapper writes the frame of the next flow
//! and tail-calls the program under test; `transmit` in its place gives the cost to subtract.
//! `generator` does the same for live frames and redirects them into the lab, where `sink` counts what
//! arrives. `limit` is the cheapest imaginable device: DNAT to a constant, no lookup.
#![no_std]
#![no_main]

mod shared;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use shared::{FRAME_BYTES, Script, Seen};

#[btf_map]
static SCRIPT: Array<Script, 1> = Array::new();
/// Number of the next flow.
#[btf_map]
static NEXT: PerCpuArray<u64, 1> = PerCpuArray::new();
/// Slot 0: the program under test.
#[btf_map]
static DEVICE: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static SEEN: PerCpuArray<Seen, 1> = PerCpuArray::new();

/// Bits of the flow number that go to the client's port; the rest counts addresses.
const PORT_BITS: u64 = 15;
const FIRST_PORT: u32 = 1024;

/// Frames of IPv4 experiments are this long; those of IPv6 fill the template.
const SHORT_FRAME_BYTES: usize = 64;

#[xdp]
fn wrapper(packet: XdpContext) -> u32 {
    if write_next(&packet).is_some() {
        // SAFETY: the frame is complete and nothing here needs dropping.
        unsafe { DEVICE.tail_call(&packet, 0) };
    }
    XDP_ABORTED
}

#[xdp]
fn transmit(_packet: XdpContext) -> u32 {
    XDP_TX
}

#[xdp]
fn generator(packet: XdpContext) -> u32 {
    match write_next(&packet) {
        Some(script) => redirect(script.out_link_index),
        None => XDP_ABORTED,
    }
}

#[xdp]
fn sink(packet: XdpContext) -> u32 {
    let (data, end) = (packet.data(), packet.data_end());
    let (Some(script), Some(seen)) = (SCRIPT.get(0), SEEN.get_ptr_mut(0)) else {
        return XDP_ABORTED;
    };
    if data + 42 > end {
        return XDP_PASS;
    }
    // SAFETY: 42 bytes are there; `seen` is this CPU's own.
    unsafe {
        // Neighbour discovery and the like are none of the experiment's business.
        if load::<u16>(data, 12) != 0x0008 {
            return XDP_PASS;
        }
        let right = load::<u32>(data, 30) == script.wanted_destination
            && u32::from(load::<u16>(data, 36)) == script.wanted_port;
        if right {
            (*seen).right += 1;
        } else {
            (*seen).wrong += 1;
        }
    }
    XDP_DROP
}

/// UDP over IPv4 only.
#[xdp]
fn limit(packet: XdpContext) -> u32 {
    let (data, end) = (packet.data(), packet.data_end());
    let Some(script) = SCRIPT.get(0) else { return XDP_ABORTED };
    if data + 42 > end {
        return XDP_PASS;
    }
    // SAFETY: 42 bytes are there.
    unsafe {
        if load::<u16>(data, 12) != 0x0008 || load::<u8>(data, 23) != 17 {
            return XDP_PASS;
        }
        for (word, mac) in script.out_macs.iter().enumerate() {
            store(data, 2 * word, *mac);
        }
        let (old, old_port) = (load::<u32>(data, 30), load::<u16>(data, 36));
        let (new, new_port) = (script.wanted_destination, script.wanted_port as u16);
        let address = delta(old, new);
        store(data, 30, new);
        store(data, 36, new_port);
        store(data, 24, adjust(load::<u16>(data, 24), address));
        let both = address + u32::from(!old_port) + u32::from(new_port);
        store(data, 40, adjust(load::<u16>(data, 40), both));
        // TTL by one: it is the high byte of its word, so ~m + m' is 0xffff - 0x0100.
        store(data, 22, load::<u8>(data, 22).wrapping_sub(1));
        store(data, 24, adjust(load::<u16>(data, 24), 0xfeff));
    }
    redirect(script.limit_link_index)
}

/// Writes the frame of the next flow over the packet.
#[inline(always)]
fn write_next(packet: &XdpContext) -> Option<&'static Script> {
    let (data, end) = (packet.data(), packet.data_end());
    let script = SCRIPT.get(0)?;
    let next = NEXT.get_ptr_mut(0)?;
    // SAFETY: this CPU's own.
    let flow = unsafe {
        let flow = *next;
        *next = if flow + 1 == script.flows { 0 } else { flow + 1 };
        flow
    };
    let client = script.client.wrapping_add((flow >> PORT_BITS) as u32);
    let port = FIRST_PORT + (flow & ((1 << PORT_BITS) - 1)) as u32;
    let address_sum = (client >> 16) + (client & 0xffff);
    let checksum = !fold(script.transport_sum + address_sum + port);
    // SAFETY: the bounds are checked before each block of stores.
    unsafe {
        if script.family == 4 {
            if data + SHORT_FRAME_BYTES > end {
                return None;
            }
            copy::<{ SHORT_FRAME_BYTES / 8 }>(data, script);
            store(data, 26, ((client >> 16) as u16).to_be());
            store(data, 28, (client as u16).to_be());
            store(data, 34, (port as u16).to_be());
            store(data, 24, (!fold(script.ip_sum + address_sum)).to_be());
            // A constant per branch: the verifier wants packet offsets it knows.
            match script.transport_sum_offset {
                40 => store(data, 40, checksum.to_be()),
                _ => store(data, 50, checksum.to_be()),
            }
        } else {
            if data + FRAME_BYTES > end {
                return None;
            }
            copy::<{ FRAME_BYTES / 8 }>(data, script);
            store(data, 34, ((client >> 16) as u16).to_be());
            store(data, 36, (client as u16).to_be());
            store(data, 54, (port as u16).to_be());
            match script.transport_sum_offset {
                60 => store(data, 60, checksum.to_be()),
                _ => store(data, 70, checksum.to_be()),
            }
        }
    }
    Some(script)
}

#[inline(always)]
fn redirect(link_index: u32) -> u32 {
    // SAFETY: a plain helper call; it returns an XDP action.
    unsafe { bpf_redirect(link_index, 0) as u32 }
}

/// # Safety
/// `WORDS * 8` bytes are within the packet, which starts aligned (kernel headroom is a multiple of 8).
#[inline(always)]
unsafe fn copy<const WORDS: usize>(data: usize, script: &Script) {
    for word in 0..WORDS {
        // SAFETY: by contract, and the template is at least as long.
        unsafe { *(data as *mut u64).add(word) = *script.frame.get_unchecked(word) };
    }
}

/// # Safety
/// The value is within the packet. The kernel allows unaligned packet access here.
#[inline(always)]
unsafe fn load<T: Copy>(data: usize, offset: usize) -> T {
    // SAFETY: by contract.
    unsafe { *((data + offset) as *const T) }
}

/// # Safety
/// As for [`load`].
#[inline(always)]
unsafe fn store<T>(data: usize, offset: usize, value: T) {
    // SAFETY: by contract.
    unsafe { *((data + offset) as *mut T) = value };
}

#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// `~m + m'` of RFC 1624 for a 32-bit field, unfolded.
#[inline(always)]
fn delta(old: u32, new: u32) -> u32 {
    (!old >> 16) + (!old & 0xffff) + (new >> 16) + (new & 0xffff)
}

/// RFC 1624, equation 3.
#[inline(always)]
fn adjust(checksum: u16, delta: u32) -> u16 {
    !fold(u32::from(!checksum) + delta)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel's helpers are licensed per program.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
