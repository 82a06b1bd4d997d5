//! The smallest XDP program there is, for veth ends whose peer transmits from XDP.
#![expect(
    unsafe_code,
    reason = "loads two instructions with the bpf system call itself, so that the lab needs no compiler"
)]

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use super::netns::Netns;

const BPF_PROG_LOAD: i64 = 5;
const BPF_LINK_CREATE: i64 = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_ATTACH_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// `r0 = XDP_PASS; exit`, as the kernel's `struct bpf_insn` (opcode, registers, offset, immediate).
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// The head of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    rest: [u64; 4],
}

/// The head of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 4],
}

/// An attached pass program; detached on drop (the kernel does it when the descriptor closes).
#[derive(Debug)]
pub(super) struct XdpPass {
    _link: OwnedFd,
}

impl XdpPass {
    pub(super) fn attach(namespace: &Netns, device: &str) -> Result<Self> {
        let program = load()?;
        let link = namespace.run(|| attach(&program, device))?.with_context(|| {
            format!("attaching the XDP pass program to {device} in {}", namespace.name())
        })?;
        Ok(Self { _link: link })
    }
}

fn load() -> Result<OwnedFd> {
    let attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: 2,
        insns: PASS.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        rest: [0; 4],
    };
    bpf(BPF_PROG_LOAD, &attr).context("loading the XDP pass program")
}

fn attach(program: &OwnedFd, device: &str) -> Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(device)?;
    let attr = LinkAttr {
        prog_fd: u32::try_from(program.as_raw_fd())?,
        target_ifindex: index,
        attach_type: BPF_ATTACH_XDP,
        flags: XDP_FLAGS_DRV_MODE,
        rest: [0; 4],
    };
    bpf(BPF_LINK_CREATE, &attr)
}

fn bpf<T>(command: i64, attr: &T) -> Result<OwnedFd> {
    // SAFETY: `attr` is a live, fully initialised prefix of `union bpf_attr` of the size given, and what it points to
    // outlives the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}
