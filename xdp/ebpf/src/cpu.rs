//! What a packet's run needs of its CPU and of user space's wishes.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_jiffies64};
use aya_ebpf::programs::XdpContext;
use sluice_xdp_abi::counter::CpuState;
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::program::Control;

use crate::maps::{CONTROL, CPUS};

/// Which of the programs runs. Known when it is compiled, and everything is inlined: none has code for another's packets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// The first, for TCP and UDP.
    First,
    /// `associations`, for SCTP.
    Associations,
    /// `translator`, for any protocol.
    Translator,
    /// `neighbours`, for ARP and neighbour discovery.
    Neighbours,
    /// `forgotten`, for replies of no known flow.
    Forgotten,
}

/// One run of a program.
pub struct Cpu<'a> {
    pub runs: Runs,
    pub context: &'a XdpContext,
    pub index: u32,
    pub control: &'static Control,
    state: *mut CpuState,
}

// === impl Cpu ===

impl<'a> Cpu<'a> {
    /// `None` on a CPU the loader did not count.
    #[inline(always)]
    pub fn enter(context: &'a XdpContext, runs: Runs) -> Option<Self> {
        // SAFETY: a plain helper call.
        let index = unsafe { bpf_get_smp_processor_id() };
        let (control, state) = (CONTROL.get(0)?, CPUS.get_ptr_mut(index)?);
        Some(Self { runs, context, index, control, state })
    }

    /// The low half of the tick count.
    #[inline(always)]
    pub fn tick(&self) -> u32 {
        // SAFETY: a plain helper call.
        unsafe { bpf_jiffies64() as u32 }
    }

    #[inline(always)]
    pub fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    /// Leaves a packet to the kernel.
    #[inline(always)]
    pub fn pass(&self, len: u64) -> u32 {
        let state = self.state();
        state.passed_packets += 1;
        state.passed_bytes += len;
        XDP_PASS
    }

    /// Drops a packet and says why.
    #[inline(always)]
    pub fn drop(&self, reason: DropReason) -> u32 {
        self.count_drop(reason);
        XDP_DROP
    }

    /// For a packet that is answered instead of forwarded.
    #[inline(always)]
    pub fn count_drop(&self, reason: DropReason) {
        if let Some(count) = self.state().drops.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// Sends what was made of the packet back where it came from.
    #[inline(always)]
    pub fn answer(&self) -> u32 {
        self.state().answers += 1;
        XDP_TX
    }

    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "one run is the only one on its CPU; no two borrows are kept"
    )]
    pub fn state(&self) -> &mut CpuState {
        // SAFETY: this CPU's own element; the program does not migrate.
        unsafe { &mut *self.state }
    }

    /// Returns `number`, of which the verifier then knows nothing any more. It follows every value a number may have
    /// through all the code behind; after a loop over headers that is hundreds of times the program.
    #[inline(always)]
    pub fn forget(&self, number: u64) -> u64 {
        let scratch = &raw mut self.state().scratch;
        // SAFETY: this CPU's own element.
        unsafe {
            scratch.write_volatile(number);
            scratch.read_volatile()
        }
    }

    #[inline(always)]
    pub fn context_ptr(&self) -> *mut core::ffi::c_void {
        self.context.as_ptr()
    }
}
