//! Reading and emptying maps in batches (Linux 5.6): a million flows in a few hundred system calls instead of millions.
#![expect(unsafe_code, reason = "aya has no call for it, and bpf(2) takes pointers")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::shared::Plain;

/// `BPF_MAP_LOOKUP_BATCH` of linux/bpf.h.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
/// `BPF_MAP_DELETE_BATCH`.
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;

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
    for_each_batch(map, |keys, values| {
        keys.iter().zip(values).for_each(|(key, value)| each(key, value));
        Ok(())
    })
}

/// Removes the elements of a hash map for which `is_over` says so. Each is looked at a moment, a batch, before it goes.
pub(crate) fn remove_if<K: Plain + Default, V: Plain + Default>(
    map: BorrowedFd<'_>,
    mut is_over: impl FnMut(&K, &V) -> bool,
) -> io::Result<()> {
    let mut over = Vec::new();
    for_each_batch(map, |keys, values| {
        over.clear();
        let of_batch = keys.iter().zip(values).filter(|(key, value)| is_over(key, value));
        over.extend(of_batch.map(|(key, _)| *key));
        remove(map, &mut over)
    })
}

/// Removes keys; those that are gone already are fine.
fn remove<K: Plain>(map: BorrowedFd<'_>, keys: &mut [K]) -> io::Result<()> {
    let mut left = keys;
    while !left.is_empty() {
        let mut attributes = Attributes {
            keys: left.as_mut_ptr() as u64,
            count: u32::try_from(left.len()).unwrap_or(u32::MAX),
            map_fd: map.as_raw_fd().unsigned_abs(),
            ..Attributes::default()
        };
        // SAFETY: `count` keys of the map's size lie where it is said.
        let result = unsafe { call(BPF_MAP_DELETE_BATCH, &mut attributes) };
        let removed = attributes.count as usize;
        let passed = match result {
            Ok(()) => removed,
            // The first that is not there ends the call, and `count` says how many were.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => removed + 1,
            Err(error) => return Err(error),
        };
        left = left.get_mut(passed..).unwrap_or_default();
    }
    Ok(())
}

fn for_each_batch<K: Plain + Default, V: Plain + Default>(
    map: BorrowedFd<'_>,
    mut each: impl FnMut(&[K], &[V]) -> io::Result<()>,
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
        let is_last = match unsafe { call(BPF_MAP_LOOKUP_BATCH, &mut attributes) } {
            Ok(()) => false,
            // This was the last batch; `count` says how many it had.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let count = attributes.count as usize;
        each(keys.get(..count).unwrap_or(&keys), values.get(..count).unwrap_or(&values))?;
        if is_last {
            return Ok(());
        }
        position = next;
        is_first = false;
    }
}

/// # Safety
/// The attributes are what the command takes, and their pointers are good.
unsafe fn call(command: libc::c_int, attributes: &mut Attributes) -> io::Result<()> {
    // SAFETY: by the caller; the attributes are as large as said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<Attributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
