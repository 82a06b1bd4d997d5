//! One virtual machine: started in a namespace, watched by its console, told things by its monitor.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::qemu::{CPUS, kernel, qemu};
use crate::lab::{Netns, Proc, until};

/// What starts the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS and the disk's boot sector.
    Bios,
    /// OVMF and systemd-boot.
    Uefi,
    /// The same, and OVMF starts only what is signed with the key that its package brings along.
    SecureBoot,
    /// QEMU itself: this kernel and this initramfs.
    Direct(PathBuf, PathBuf),
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name in the lab.
    pub name: String,
    /// What starts it.
    pub firmware: Firmware,
    /// Its disk.
    pub disk: Option<PathBuf>,
    /// A disk that it can only read.
    pub seed: Option<PathBuf>,
    /// Credentials of systemd that come with the SMBIOS tables.
    pub credentials: Vec<(String, Vec<u8>)>,
    /// A credential that comes by `fw_cfg`: name and file.
    pub fw_cfg: Vec<(String, PathBuf)>,
    /// The tap device of its network card, and the last byte of its address.
    pub tap: Option<(String, u8)>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// It goes on where it was when it was saved; all the rest must be as it was then.
    pub resumes: bool,
}

/// What the state of a saved machine is called on its disk.
const SAVED: &str = "saved";

/// How long the monitor may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

impl Spec {
    /// A machine of this name that QEMU starts in this way, with nothing else.
    pub fn new(name: &str, firmware: Firmware) -> Self {
        Self {
            name: name.into(),
            firmware,
            disk: None,
            seed: None,
            credentials: Vec::new(),
            fw_cfg: Vec::new(),
            tap: None,
            memory_mib: 512,
            resumes: false,
        }
    }

    fn command(&self, dir: &Path) -> Result<Command> {
        let board = match self.firmware {
            Firmware::Bios | Firmware::Direct(..) => "pc",
            Firmware::Uefi => "q35",
            // Nobody but the firmware writes its variables.
            Firmware::SecureBoot => "q35,smm=on",
        };
        let mut qemu = qemu(board, self.memory_mib, &console(dir, &self.name));
        qemu.args(["-device", "i6300esb"]).args([
            "-monitor",
            &format!("unix:{},server=on,wait=off", monitor(dir, &self.name).display()),
        ]);
        match &self.firmware {
            Firmware::Bios => {}
            Firmware::Direct(file, initrd) => {
                let line = "console=ttyS0,115200 quiet panic=10 systemd.gpt_auto=0";
                kernel(&mut qemu, file, initrd, line);
            }
            Firmware::Uefi => self.flash(&mut qemu, dir, "CODE_4M", "VARS_4M")?,
            Firmware::SecureBoot => {
                qemu.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
                self.flash(&mut qemu, dir, "CODE_4M.secboot", "VARS_4M.snakeoil")?;
            }
        }
        if let Some(disk) = &self.disk {
            qemu.args([
                "-drive",
                &format!("if=virtio,format=qcow2,cache=unsafe,file={}", disk.display()),
            ]);
        }
        if let Some(seed) = &self.seed {
            qemu.args([
                "-drive",
                &format!("if=virtio,format=raw,readonly=on,file={}", seed.display()),
            ]);
        }
        for (name, content) in &self.credentials {
            qemu.args([
                "-smbios",
                &format!(
                    "type=11,value=io.systemd.credential.binary:{name}={}",
                    BASE64_STANDARD.encode(content)
                ),
            ]);
        }
        for (name, file) in &self.fw_cfg {
            qemu.args([
                "-fw_cfg",
                &format!("name=opt/io.systemd.credentials/{name},file={}", file.display()),
            ]);
        }
        if let Some((tap, last)) = &self.tap {
            // Two queues for each CPU, or XDP transmits under a lock; two vectors more than queues in both directions.
            let queues = 2 * CPUS;
            qemu.args([
                "-netdev",
                &format!("tap,id=n0,ifname={tap},script=no,downscript=no,queues={queues}"),
            ])
            .args([
                "-device",
                &format!(
                    "virtio-net-pci,netdev=n0,mac=02:51:0c:e0:00:{last:02x},mq=on,vectors={}",
                    2 * queues + 2
                ),
            ]);
        }
        if self.resumes {
            qemu.args(["-loadvm", SAVED]);
        }
        Ok(qemu)
    }

    /// OVMF's code, and variables of this machine's own.
    fn flash(&self, qemu: &mut Command, dir: &Path, code: &str, fresh: &str) -> Result<()> {
        let ovmf = |name: &str| format!("/usr/share/OVMF/OVMF_{name}.fd");
        let variables = dir.join(format!("{}.vars", self.name));
        std::fs::copy(ovmf(fresh), &variables).context("the firmware OVMF is missing")?;
        let code = format!("if=pflash,unit=0,format=raw,readonly=on,file={}", ovmf(code));
        let variables = format!("if=pflash,unit=1,format=raw,file={}", variables.display());
        qemu.args(["-drive", &code, "-drive", &variables]);
        Ok(())
    }
}

/// A running machine. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Machine {
    name: String,
    dir: PathBuf,
    process: Proc,
}

impl Machine {
    /// Starts it in a namespace; its files lie in `dir`.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start(ns: &Netns, dir: &Path, spec: &Spec) -> Result<Self> {
        let process = ns.spawn(&format!("qemu-{}", spec.name), spec.command(dir)?)?;
        Ok(Self { name: spec.name.clone(), dir: dir.to_owned(), process })
    }

    /// Everything that it has written to its console, without colours.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(console(&self.dir, &self.name)).unwrap_or_default();
        plain(&String::from_utf8_lossy(&bytes))
    }

    /// Waits until `found` is content with the console; returns how long that took.
    ///
    /// # Errors
    /// At the deadline, or when the machine has ended: the end of what the console shows.
    pub fn wait_console(
        &self,
        what: &str,
        deadline: Duration,
        found: impl Fn(&str) -> bool,
    ) -> Result<Duration> {
        until(&format!("{what} on the console of {}", self.name), deadline, || {
            let text = self.console();
            if found(&text) {
                return Ok(Ok(()));
            }
            if let Some(status) = self.process.exited()? {
                return Ok(Err(anyhow::anyhow!(
                    "QEMU has ended ({status}): {}",
                    self.process.output()
                )));
            }
            bail!("…{}", tail(&text))
        })
        .and_then(|(found, took)| found.map(|()| took))
    }

    /// True while QEMU runs.
    ///
    /// # Errors
    /// When that cannot be known.
    pub fn is_on(&self) -> Result<bool> {
        Ok(self.process.exited()?.is_none())
    }

    /// Presses the power button (ACPI).
    ///
    /// # Errors
    /// When the monitor does not listen.
    pub fn power_button(&self) -> Result<()> {
        self.monitor("system_powerdown")
    }

    /// Saves memory and devices on its disk, for a machine that [resumes](Spec::resumes). OVMF's variables cannot be saved.
    ///
    /// # Errors
    /// When the monitor does not listen.
    pub fn save(&self) -> Result<()> {
        self.monitor(&format!("savevm {SAVED}"))
    }

    /// Gives the monitor a command.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn monitor(&self, command: &str) -> Result<()> {
        let path = monitor(&self.dir, &self.name);
        let mut stream =
            UnixStream::connect(&path).with_context(|| format!("opening {}", path.display()))?;
        stream.set_read_timeout(Some(ANSWER))?;
        // A command is only read for as long as somebody is there: until the prompt after it.
        prompt(&mut stream).context("waiting for the monitor")?;
        stream.write_all(format!("{command}\n").as_bytes()).context("talking to the monitor")?;
        prompt(&mut stream).context("waiting for the monitor's answer")
    }

    /// Ends it at once, as when its host fails.
    ///
    /// # Errors
    /// When QEMU does not end.
    pub fn pull_the_plug(&self) -> Result<()> {
        self.process.kill()
    }

    /// Waits until the machine has switched itself off.
    ///
    /// # Errors
    /// At the deadline: the end of what the console shows.
    pub fn wait_off(&self, deadline: Duration) -> Result<Duration> {
        until(&format!("{} to switch off", self.name), deadline, || {
            if self.is_on()? {
                bail!("…{}", tail(&self.console()));
            }
            Ok(())
        })
        .map(|((), took)| took)
    }
}

/// Reads until the monitor asks for a command.
fn prompt(stream: &mut UnixStream) -> Result<()> {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(b"(qemu) ") {
        stream.read_exact(&mut byte)?;
        seen.extend(byte);
    }
    Ok(())
}

fn console(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}-console.log"))
}

fn monitor(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.monitor"))
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(1500);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Text without carriage returns and escape sequences (ECMA-48).
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {}
            '\x1b' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_console_is_read_without_its_colours() {
        assert_eq!(plain("[\x1b[0;32m  OK  \x1b[0m] up\r\n"), "[  OK  ] up\n");
    }
}
