//! The lab itself: makes namespaces and links, and takes everything away again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::leak;
use super::netns::Netns;
use super::process::run;
use super::wait::until;
use super::xdp_pass::XdpPass;

/// Start of every name the lab gives to a namespace or directory.
pub(super) const PREFIX: &str = "slc-";

/// How long the kernel may take for what it does at once.
const SOON: Duration = Duration::from_secs(5);

/// One end of a veth pair.
#[derive(Clone, Debug)]
pub struct Link<'a> {
    namespace: &'a Netns,
    name: &'a str,
    addresses: &'a [&'a str],
    xdp_pass: bool,
}

impl<'a> Link<'a> {
    /// An end with this device name and these addresses (`10.0.0.1/24`, `2001:db8::1/64`).
    pub fn new(namespace: &'a Netns, name: &'a str, addresses: &'a [&'a str]) -> Self {
        Self { namespace, name, addresses, xdp_pass: false }
    }

    /// Attaches an XDP program that passes everything: the other end may then transmit from XDP (XDP_TX into a veth
    /// whose peer has no NAPI leaves the frames in the queue).
    #[must_use]
    pub fn receives_from_xdp(mut self) -> Self {
        self.xdp_pass = true;
        self
    }
}

/// A set of namespaces with one temporary directory. Drop removes all of it.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    dir: PathBuf,
    namespaces: Mutex<Vec<Netns>>,
    xdp: Mutex<Vec<XdpPass>>,
}

impl Lab {
    /// A new, empty lab. First removes what killed processes left behind.
    ///
    /// # Errors
    /// When not root, or when the directory cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            bail!("the lab makes network namespaces and needs root: run it as root");
        }
        leak::remove_dead()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let suffix = if count == 0 { String::new() } else { format!("{count}") };
        // A dash ends the lab's part of a name.
        let name = name.replace('-', "_");
        let prefix = format!("{PREFIX}{}-{name}{suffix}", std::process::id());
        let dir = std::env::temp_dir().join(&prefix);
        std::fs::create_dir_all(&dir)?;
        Ok(Self { prefix, dir, namespaces: Mutex::default(), xdp: Mutex::default() })
    }

    /// The lab's directory: logs, configurations, sockets, pins.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes a namespace `slc-<pid>-<lab>-<role>` with loopback up.
    ///
    /// # Errors
    /// When it exists already.
    pub fn namespace(&self, role: &str) -> Result<Netns> {
        let ns = Netns::create(&format!("{}-{role}", self.prefix), role, self.dir.clone())?;
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).push(ns.clone());
        Ok(ns)
    }

    /// Joins two namespaces by a veth pair with addresses, up, with checksums computed in software (frames that leave
    /// through XDP must be finished).
    ///
    /// # Errors
    /// When a command fails.
    pub fn link(&self, a: &Link<'_>, b: &Link<'_>) -> Result<()> {
        run(Command::new("ip")
            .args(["link", "add", "name", a.name, "netns", a.namespace.name()])
            .args(["type", "veth", "peer", "name", b.name, "netns", b.namespace.name()]))?;
        for end in [a, b] {
            end.namespace.exec("ethtool", &["-K", end.name, "tx", "off"])?;
            for address in end.addresses {
                let mut args = vec!["addr", "add", address, "dev", end.name];
                if address.contains(':') {
                    args.push("nodad");
                }
                end.namespace.ip(&args)?;
            }
            end.namespace.ip(&["link", "set", end.name, "up"])?;
        }
        for end in [a, b] {
            // The kernel brings the queues of a new link up a little later; until then it drops what is sent.
            until(&format!("{} of {} to be up", end.name, end.namespace.name()), SOON, || {
                let shown = end.namespace.ip(&["-o", "link", "show", "dev", end.name])?;
                ensure!(shown.contains(" state UP "), "{shown}");
                Ok(())
            })?;
        }
        for end in [a, b].into_iter().filter(|end| end.xdp_pass) {
            let pass = XdpPass::attach(end.namespace, end.name)?;
            self.xdp.lock().unwrap_or_else(PoisonError::into_inner).push(pass);
        }
        Ok(())
    }

    /// The namespaces made so far.
    pub fn namespaces(&self) -> Vec<Netns> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show_logs(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
            eprintln!("--- {} (last {} of {} lines)", path.display(), tail.len(), lines.len());
            for line in tail {
                eprintln!("    {line}");
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() || super::wait::GAVE_UP.take() {
            self.show_logs();
        }
        self.xdp.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        self.namespaces.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        if let Err(error) = leak::remove(&self.prefix) {
            eprintln!("cleaning up lab {}: {error:#}", self.prefix);
        }
    }
}
