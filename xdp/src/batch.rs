//! Reading maps in batches (Linux 5.6): a million flows in a few hundred system calls instead of two million.
#![expect(unsafe_code, reason = "aya has no call for it, and bpf(2) takes pointers")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::shared::Plain;

/// `BPF_MAP_LOOKUP_BATCH` of linux/bpf.h.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// Elements per call. The kernel wants room for a hash map's fullest bucket at least.
const BATCH: usize = 4096;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Calls `each` for every element of a hash map or an array, whose key is its index. Elements that come or go meanwhile
/// may be missed or seen twice.
pub(crate) fn for_each<K: Plain + Default, V: Plain + Default>(
    map: BorrowedFd<'_>,
    mut each: impl FnMut(&K, &V),
) -> io::Result<()> {
    let mut keys = vec![K::default(); BATCH];
    let mut values = vec![V::default(); BATCH];
    // The position is opaque: a bucket's number for a hash map, an index for an array.
    let (mut position, mut next) = (0u64, 0u64);
    let mut is_first = true;
    loop {
        let mut attributes = Attributes {
            in_batch: if is_first { 0 } else { &raw mut position as u64 },
            out_batch: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(BATCH).unwrap_or(u32::MAX),
            map_fd: map.as_raw_fd().unsigned_abs(),
            ..Attributes::default()
        };
        // SAFETY: every pointer is to memory that lives here and has room for `count` elements of the map's sizes,
        // which the map's type promises; the attributes are as large as said.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_BATCH,
                &raw mut attributes,
                size_of::<Attributes>(),
            )
        };
        let error = (result != 0).then(io::Error::last_os_error);
        // ENOENT: this was the last batch; `count` says how many it had.
        let is_last = error.as_ref().is_some_and(|e| e.raw_os_error() == Some(libc::ENOENT));
        if let Some(error) = error.filter(|_| !is_last) {
            return Err(error);
        }
        let count = attributes.count as usize;
        keys.iter().zip(&values).take(count).for_each(|(key, value)| each(key, value));
        if is_last {
            return Ok(());
        }
        position = next;
        is_first = false;
    }
}
