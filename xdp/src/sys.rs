//! The calls of bpf(2) about links and pins that aya does not have, or has only for types that hide their descriptor.
#![expect(unsafe_code, reason = "bpf(2) takes pointers and returns descriptors")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

// Commands of `enum bpf_cmd` in linux/bpf.h.
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;

/// `BPF_XDP` of `enum bpf_attach_type`.
const BPF_XDP: u32 = 37;

/// What the kernel says of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// Of the program that runs there.
    pub(crate) program_id: u32,
    /// 0 once the attachment has left its link, or the link is gone.
    pub(crate) link_index: u32,
}

/// What `struct bpf_map_info`, `bpf_prog_info` and `bpf_link_info` begin with, and what the last one says of XDP.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    program_id: u32,
    padding: u32,
    link_index: u32,
    padding_2: u32,
}

#[repr(C)]
struct InfoCall {
    fd: u32,
    info_len: u32,
    info: u64,
}

#[repr(C)]
struct PathCall {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Four words: what both link calls take.
type LinkCall = [u32; 4];

/// Attaches a program to a link, with `XDP_FLAGS_*`.
pub(crate) fn create_link(
    program: BorrowedFd<'_>,
    link_index: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut call: LinkCall = [number(program), link_index, BPF_XDP, flags];
    // SAFETY: a plain structure without pointers.
    let fd = unsafe { bpf(BPF_LINK_CREATE, &mut call) }?;
    // SAFETY: the call has succeeded, so this is a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Replaces an attachment's program, from one packet to the next.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut call: LinkCall = [number(link), number(program), 0, 0];
    // SAFETY: as above.
    unsafe { bpf(BPF_LINK_UPDATE, &mut call) }.map(drop)
}

/// Has an attachment leave its link at once, whoever else holds it.
pub(crate) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut call: LinkCall = [number(link), 0, 0, 0];
    // SAFETY: as above.
    unsafe { bpf(BPF_LINK_DETACH, &mut call) }.map(drop)
}

/// Gives an object a name on a bpffs.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = c_path(path)?;
    let mut call = PathCall { path: name.as_ptr() as u64, fd: number(object), flags: 0 };
    // SAFETY: the string lives during the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut call) }.map(drop)
}

/// Opens an object by its name on a bpffs.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let name = c_path(path)?;
    let mut call = PathCall { path: name.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the string lives during the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut call) }?;
    // SAFETY: the call has succeeded, so this is a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel's number of a map, program or link; unique among its kind.
pub(crate) fn id(object: BorrowedFd<'_>) -> io::Result<u32> {
    info(object).map(|info| info.id)
}

/// What an attachment does now.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let Info { program_id, link_index, .. } = info(link)?;
    Ok(LinkInfo { program_id, link_index })
}

fn info(object: BorrowedFd<'_>) -> io::Result<Info> {
    let mut info = Info::default();
    let mut call = InfoCall {
        fd: number(object),
        info_len: u32::try_from(size_of::<Info>()).unwrap_or_default(),
        info: &raw mut info as u64,
    };
    // SAFETY: the kernel writes at most `info_len` octets to a structure that lives here.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut call) }?;
    Ok(info)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// # Safety
/// The structure is what the command takes, and its pointers are good.
unsafe fn bpf<T>(command: libc::c_int, call: &mut T) -> io::Result<RawFd> {
    // SAFETY: by the caller.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(call), size_of::<T>()) };
    match RawFd::try_from(result) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}
