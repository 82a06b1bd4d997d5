//! The types of the ABI as values of maps.
#![expect(
    unsafe_code,
    reason = "saying that a type is plain bytes is what shares it with the kernel"
)]

use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::counter::{CpuState, Traffic};
use sluice_xdp_abi::filter::Filter;
use sluice_xdp_abi::flow::{Flow, FlowKey, NextHop};
use sluice_xdp_abi::nat::NatKey;
use sluice_xdp_abi::prefix::PrefixKey;
use sluice_xdp_abi::program::{
    Backend, Control, Endpoint, EndpointKey, MaglevTable, Service, ServiceKey,
};
use sluice_xdp_abi::way::Way;

/// Types without padding, of which every bit pattern is a value.
///
/// # Safety
/// Both must hold.
pub(crate) unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty),+) => {
        $(
            // SAFETY: integers and arrays of them, sizes asserted where the type is defined.
            unsafe impl Plain for $type {}
        )+
    };
}
plain!(Address, CpuState, Traffic, Filter, Flow, FlowKey, NextHop, Backend, Control);
plain!(Endpoint, EndpointKey, MaglevTable, Service, ServiceKey, u32, u64);
plain!(NatKey, PrefixKey, Way);

/// What aya's maps take.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Shared<T>(pub(crate) T);

// SAFETY: transparent over a plain type.
unsafe impl<T: Plain> aya::Pod for Shared<T> {}
