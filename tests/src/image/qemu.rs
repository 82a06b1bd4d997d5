//! What every virtual machine here has, whatever it is for.

use std::path::Path;
use std::process::Command;

/// Two CPUs, as many as the build machine has.
pub(super) const CPUS: u32 = 2;

/// QEMU in software, with nothing that is not asked for: a board, memory and a console that is written to a file.
pub(super) fn qemu(board: &str, memory_mib: u32, console: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-M", board])
        .args(["-display", "none", "-nodefaults", "-no-user-config"])
        .args(["-smp", &CPUS.to_string(), "-m", &memory_mib.to_string()])
        .args(["-serial", &format!("file:{}", console.display())])
        .args(["-device", "virtio-rng-pci"]);
    qemu
}

/// Starts this kernel without any firmware's boot loader.
pub(super) fn kernel(qemu: &mut Command, kernel: &Path, initrd: &Path, command_line: &str) {
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).args(["-append", command_line]);
}
