//! The laboratory's guest: the kernel of the image over this machine's own files, for what this machine's kernel lacks.
//!
//! The guest sees every file here (virtiofs, read only, with an overlay in its memory), so a test binary, a router and `ip`
//! are where they always are. It has two CPUs, all modules of Debian's kernel, and no network but what a command makes.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Artefacts, qemu};
use crate::lab::{Lab, Proc, until};

/// Memory of the guest; what commands write is in it too.
const MEMORY_MIB: u32 = 1536;

/// Where Debian 12 keeps the daemon that shares files.
const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";

/// Variables that mean the same in the guest.
const KEPT: [&str; 6] =
    ["PATH", "HOME", "SLUICE_CACHE", "SLUICE_BIN", "SLUICE_LAB_BIN", "RUST_LOG"];

/// What came of a command in the guest.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: i32,
    /// What it wrote, both streams.
    pub output: String,
    /// From power on to the end.
    pub took: Duration,
}

/// Runs a command in a new guest, in the current directory; every argument is one word. With the variable
/// `SLUICE_IN_GUEST` set.
///
/// # Errors
/// When the guest does not come up or does not end in time: what its console says.
pub fn run(lab: &Lab, command: &[OsString], deadline: Duration) -> Result<Ran> {
    let image = Artefacts::find()?;
    let dir = lab.dir();
    let script = dir.join("guest.sh");
    std::fs::write(&script, text(command)?)?;
    // Its own namespace: QEMU needs no network at all.
    let ns = lab.namespace("guest")?;
    let socket = dir.join("guest.fs");
    let mut files = Command::new(VIRTIOFSD);
    files.arg(format!("--socket-path={}", socket.display())).args([
        "-o",
        "source=/",
        "-o",
        "cache=always",
        "-o",
        "sandbox=chroot",
    ]);
    let _files = ns.spawn("virtiofsd", files)?;
    until("virtiofsd", Duration::from_secs(10), || {
        if socket.exists() { Ok(()) } else { bail!("no {}", socket.display()) }
    })?;
    let started = std::time::Instant::now();
    let guest = ns.spawn("qemu-guest", machine(&image, dir, &socket, &script)?)?;
    let (status, _) = until("the guest to end", deadline, || ended(&guest, dir))?;
    let output = String::from_utf8_lossy(&std::fs::read(dir.join("guest-out.log"))?).into_owned();
    Ok(Ran { status: status?, output, took: started.elapsed() })
}

/// For a test that needs the guest: true in it. Elsewhere the test of this name in the running program is run in a guest, and
/// then this is false, when it has passed there.
///
/// # Errors
/// When it has not passed: what it wrote.
pub fn is_here(lab: &str, test: &str, deadline: Duration) -> Result<bool> {
    if std::env::var_os("SLUICE_IN_GUEST").is_some() {
        return Ok(true);
    }
    let program = std::env::current_exe().context("asking for the path of this program")?;
    let command = [program.into_os_string(), "--exact".into(), test.into(), "--nocapture".into()];
    let ran = run(&Lab::new(lab)?, &command, deadline)?;
    // A name that is no test's would be content with nothing.
    ensure!(
        ran.status == 0 && ran.output.contains("1 passed"),
        "in the guest, after {:.1?}: {}",
        ran.took,
        ran.output
    );
    eprintln!("in the guest, {:.1?} from power on to off: {test}", ran.took);
    Ok(false)
}

fn machine(image: &Artefacts, dir: &Path, socket: &Path, script: &Path) -> Result<Command> {
    let at = |name: &str| dir.join(name).display().to_string();
    let modules = std::fs::canonicalize(image.lab("modules")).context("the image's modules")?;
    let line = format!(
        "console=ttyS0 quiet panic=-1 lab.modules={} lab.run={}",
        modules.display(),
        script.display()
    );
    let mut qemu = qemu::qemu("pc", MEMORY_MIB, Path::new(&at("guest-console.log")));
    qemu.args([
        "-no-reboot",
        "-object",
        &format!("memory-backend-memfd,id=mem,size={MEMORY_MIB}M,share=on"),
        "-numa",
        "node,memdev=mem",
    ])
    .args([
        "-chardev",
        &format!("socket,id=fs,path={}", socket.display()),
        "-device",
        "vhost-user-fs-pci,chardev=fs,tag=host",
    ])
    .args(["-device", "virtio-serial-pci"])
    .args([
        "-chardev",
        &format!("file,id=out,path={}", at("guest-out.log")),
        "-device",
        "virtserialport,chardev=out,nr=1",
    ])
    .args([
        "-chardev",
        &format!("file,id=end,path={}", at("guest.end")),
        "-device",
        "virtserialport,chardev=end,nr=2",
    ]);
    qemu::kernel(&mut qemu, &image.file("vmlinuz"), &image.lab("initrd"), &line);
    Ok(qemu)
}

/// The exit status once QEMU has ended; why there is none otherwise.
fn ended(guest: &Proc, dir: &Path) -> Result<Result<i32>> {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    if guest.exited()?.is_none() {
        bail!("{}{}", read("guest-console.log"), read("guest-out.log"));
    }
    let end = read("guest.end");
    Ok(end.trim().parse().with_context(|| {
        format!("the guest broke down: {}{}", guest.output(), read("guest-console.log"))
    }))
}

/// The first and last program of the guest.
fn text(command: &[OsString]) -> Result<String> {
    let mut text = String::from("export SLUICE_IN_GUEST=1\n");
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            writeln!(text, "export {name}={}", quoted(&value)?)?;
        }
    }
    let words: Result<Vec<_>> = command.iter().map(quoted).collect();
    let here: PathBuf = std::env::current_dir()?;
    writeln!(text, "ip link set lo up\ncd {}", quoted(&here.into_os_string())?)?;
    // The number in front is that of the device, which nobody promises.
    text.push_str("out=$(echo /dev/vport*p1) end=$(echo /dev/vport*p2)\n");
    writeln!(text, "{} >$out 2>&1 </dev/null\necho $? >$end", words?.join(" "))?;
    text.push_str("sync\necho o >/proc/sysrq-trigger\nwhile :; do sleep 1; done\n");
    Ok(text)
}

fn quoted(word: &OsString) -> Result<String> {
    let word = word.to_str().with_context(|| format!("{} is no text", word.display()))?;
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}
