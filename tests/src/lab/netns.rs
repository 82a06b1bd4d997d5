//! One network namespace: made, entered, removed.

use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::process::{Proc, run};

/// Where iproute2 keeps named namespaces.
pub(super) const NETNS_DIR: &str = "/run/netns";

/// A named network namespace. Clones share it; it is removed when its [`super::Lab`] is dropped.
#[derive(Clone, Debug)]
pub struct Netns {
    name: Arc<str>,
    role: Arc<str>,
    file: Arc<File>,
    logs: PathBuf,
}

impl Netns {
    pub(super) fn create(name: &str, role: &str, logs: PathBuf) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let file = File::open(format!("{NETNS_DIR}/{name}"))
            .with_context(|| format!("opening namespace {name}"))?;
        let ns = Self { name: name.into(), role: role.into(), file: Arc::new(file), logs };
        ns.ip(&["link", "set", "lo", "up"])?;
        // Duplicate address detection would make every IPv6 address useless for its first second.
        for (key, value) in [
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/all/accept_dad", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            // A test that refuses a thousand connections wants a thousand answers.
            ("ipv4/icmp_ratelimit", "0"),
            ("ipv6/icmp/ratelimit", "0"),
        ] {
            ns.sysctl(key, value)?;
        }
        Ok(ns)
    }

    /// The full name, as `ip netns exec` wants it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last part of the name: what this namespace is in the lab.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// An open handle, for `setns` by others (for example a browser's proxy).
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Runs `work` on a thread inside this namespace and waits for it. Sockets made there stay in it.
    ///
    /// # Errors
    /// When the namespace cannot be entered. A panic in `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.file)?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a detached thread inside this namespace.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<Result<T>> {
        let file = self.file();
        std::thread::spawn(move || {
            enter(&file)?;
            Ok(work())
        })
    }

    /// Runs a future on a current-thread runtime inside this namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the runtime cannot be built.
    pub fn block_on<F>(&self, future: impl FnOnce() -> F + Send) -> Result<F::Output>
    where
        F: Future,
        F::Output: Send,
    {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(future()))
        })?
    }

    /// `ip` with these arguments here; returns its standard output.
    ///
    /// # Errors
    /// When it fails: the command line and what it said.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        run(Command::new("ip").arg("-n").arg(&*self.name).args(args))
    }

    /// Runs a command here to its end; returns its standard output.
    ///
    /// # Errors
    /// When it fails: the command line and what it said.
    pub fn exec<S: AsRef<OsStr>>(&self, program: &str, args: &[S]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(args);
        super::process::enter_on_exec(&mut command, self.file());
        run(&mut command)
    }

    /// Prepares a command so that it starts here; the caller runs it.
    pub fn prepare(&self, mut command: Command) -> Command {
        super::process::enter_on_exec(&mut command, self.file());
        command
    }

    /// Starts a long-running process here; its output goes to `<lab dir>/<role>-<label>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, label: &str, command: Command) -> Result<Proc> {
        let log = self.logs.join(format!("{}-{label}.log", self.role));
        Proc::spawn(label, log, self.prepare(command))
    }

    /// Sets a sysctl below `/proc/sys/net` of this namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.run(|| std::fs::write(&path, value))?
            .with_context(|| format!("setting {key} to {value} in {}", self.name))
    }

    /// Lets this namespace forward packets of both families.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("ipv4/ip_forward", "1")?;
        self.sysctl("ipv6/conf/all/forwarding", "1")
    }
}

/// Moves the calling thread into a namespace.
pub(super) fn enter(file: &File) -> Result<()> {
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).context("entering a namespace")
}
