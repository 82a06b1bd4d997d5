//! Every byte shared between the kernel program and user space: map names, keys, values, limits, reasons.
//!
//! Also the few pure packet functions both sides need to agree on (checksums, the flow hash), so that they can be
//! tested on the host. It never touches a packet or a map.
//!
//! Conventions: no implicit padding; integers and not `bool`; fields in network byte order end in `_be`, and
//! addresses are always in network byte order; everything else is in host order.
#![no_std]
#![forbid(unsafe_code)]

pub mod address;
pub mod affinity;
pub mod checksum;
pub mod counter;
pub mod crc32c;
pub mod drop_reason;
pub mod filter;
pub mod flow;
pub mod handover;
pub mod hash;
pub mod life;
pub mod limits;
pub mod names;
pub mod nat;
pub mod prefix;
pub mod program;
pub mod way;

/// Changes whenever the meaning of any byte in a pinned map changes. A data plane of another version is not adopted.
pub const ABI_VERSION: u32 = 6;

/// Fails to compile when a shared type grows, shrinks or gets implicit padding that changes its size.
macro_rules! assert_size {
    ($($type:ty = $size:expr),+ $(,)?) => {
        $(const _: () = assert!(core::mem::size_of::<$type>() == $size);)+
    };
}
pub(crate) use assert_size;
