//! Processes of the lab: started in a namespace, logged to a file, never outliving the lab.
#![expect(
    unsafe_code,
    reason = "what a child does between fork and exec can only be said in unsafe code"
)]

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot start or does not exit with 0: its command line and what it said.
pub fn run(command: &mut Command) -> Result<String> {
    run_with(command, Stdio::null())
}

/// The same with something to read.
///
/// # Errors
/// Those of [`run`].
pub fn run_with(command: &mut Command, input: Stdio) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(input).output().with_context(|| format!("starting `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}`: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim(),
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Finds a program this workspace builds, beside the running one (or by the variable `<NAME>_BIN`).
///
/// # Errors
/// When it is not built; says how to build it.
pub fn tool(name: &str) -> Result<PathBuf> {
    let variable = format!("{}_BIN", name.replace('-', "_").to_uppercase());
    if let Some(path) = std::env::var_os(&variable) {
        return Ok(PathBuf::from(path));
    }
    let me = std::env::current_exe().context("asking for the path of this program")?;
    // Tests run from `target/<profile>/deps/`, programs from `target/<profile>/`.
    me.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file()).ok_or_else(
        || {
            anyhow!(
                "`{name}` is not built (looked beside {}): run `cargo build --bin {name}` or set {variable}",
                me.display()
            )
        },
    )
}

fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Makes `command` start inside a namespace.
pub(super) fn enter_on_exec(command: &mut Command, namespace: Arc<File>) {
    // SAFETY: between fork and exec only `setns` is called, which is a bare system call; the file outlives the
    // closure that owns it.
    unsafe {
        command.pre_exec(move || {
            nix::sched::setns(&*namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                .map_err(std::io::Error::from)
        });
    }
}

/// A running process of the lab. Dropping it kills it.
#[derive(Debug)]
pub struct Proc {
    label: String,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Proc {
    /// Starts `command` with its output appended to `log`. Its life ends with this process's at the latest.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(label: &str, log: PathBuf, mut command: Command) -> Result<Self> {
        let shown = show(&command);
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let parent = nix::unistd::getpid();
        // SAFETY: only bare system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                // The standard library hands our mask on, and we may block what the child must hear.
                SigSet::empty().thread_set_mask()?;
                // The parent may have died before the line above.
                if nix::unistd::getppid() != parent {
                    return Err(std::io::Error::other("the lab is gone"));
                }
                Ok(())
            });
        }
        let child = spawner(command).with_context(|| format!("starting `{shown}`"))?;
        Ok(Self { label: label.to_owned(), log, child: Mutex::new(child) })
    }

    /// What this process is in the lab.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.lock().id()).unwrap_or(i32::MAX)
    }

    /// Path of its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Everything it has written so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // Our own child, not yet waited for, so the number cannot belong to somebody else.
        kill(Pid::from_raw(self.pid()), signal)
            .with_context(|| format!("sending {signal} to {}", self.label))
    }

    /// The exit status when it has ended by itself.
    ///
    /// # Errors
    /// When the kernel does not know it.
    pub fn exited(&self) -> Result<Option<ExitStatus>> {
        self.lock().try_wait().with_context(|| format!("looking at {}", self.label))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if start.elapsed() > deadline {
                bail!(
                    "{} still runs after {deadline:.1?}; its last words: {}",
                    self.label,
                    self.tail(5)
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end (SIGTERM) and waits up to ten seconds.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(Duration::from_secs(10))
    }

    /// Ends it at once (SIGKILL), as a crash would.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(Duration::from_secs(5)).map(drop)
    }

    /// The last lines of its log, for messages.
    pub fn tail(&self, lines: usize) -> String {
        let output = self.output();
        let all: Vec<&str> = output.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Fails only when it has ended already, which is what is wanted.
        drop(child.kill());
        drop(child.wait());
    }
}

type Order = (Command, Sender<std::io::Result<Child>>);

/// Starts a child from one thread that lives as long as the process: PR_SET_PDEATHSIG fires when the *thread* that
/// forked ends, and test threads are short-lived.
fn spawner(command: Command) -> Result<Child> {
    static ORDERS: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                // Nobody waits any more only when the caller panicked; the child is then reaped by nobody but killed
                // with us.
                drop(answer.send(command.spawn()));
            }
        });
        Mutex::new(sender)
    });
    let (sender, receiver) = channel();
    orders
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, sender))
        .map_err(|_| anyhow!("the thread that starts processes is gone"))?;
    Ok(receiver.recv().context("the thread that starts processes is gone")??)
}
