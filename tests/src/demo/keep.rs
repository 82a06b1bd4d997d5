//! `--keep`: a process of its own holds the lab after the demo, until `--down`.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::stage::Stage;
use super::{open, play};
use crate::lab::appliance::API;
use crate::lab::forward::forward;
use crate::lab::topology::Topology;
use crate::lab::{leak, until};

/// Names the process that holds the lab.
const PID_FILE: &str = "/run/sluice-demo.pid";
/// Where the status page is reachable on the machine.
const PAGE: &str = "127.0.0.1:18080";
/// Longest time for a whole demo before the lab is held.
const DEADLINE: Duration = Duration::from_secs(300);

fn holder() -> Option<i32> {
    let pid: i32 = std::fs::read_to_string(PID_FILE).ok()?.trim().parse().ok()?;
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    exe.file_name()?.to_string_lossy().starts_with("sluice-lab").then_some(pid)
}

/// Starts the process that plays the demo and holds the lab, and waits until it does.
///
/// # Errors
/// When a lab is held already or the demo fails.
pub fn keep(kube: bool) -> Result<ExitCode> {
    if let Some(pid) = holder() {
        bail!("a demo lab is held by process {pid}; take it away with `./dev demo --down`");
    }
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["demo", "--hold"])
        .args(kube.then_some("--kube"))
        .stdin(Stdio::null())
        .process_group(0);
    let mut child = command.spawn().context("starting the holder")?;
    let pid = i32::try_from(child.id())?;
    until("the demo to finish", DEADLINE, || {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        ensure!(holder() == Some(pid), "it still plays");
        Ok(())
    })?;
    Ok(match child.try_wait()? {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

/// Plays the demo, then holds the lab until a signal.
///
/// # Errors
/// When the demo fails.
pub fn hold() -> Result<ExitCode> {
    end_with_whoever_waits()?;
    let mut stage = Stage::default();
    let mut lab = open(&mut stage)?;
    play(&mut stage, &mut lab)?;
    if !stage.summary() {
        return Ok(ExitCode::FAILURE);
    }
    let page = forward(PAGE.parse()?, lab.appliance.namespace(), API)?;
    look_around(&stage, &lab, page);
    stay(lab.lab.dir())
}

/// Until the lab is held, the end of the command that waits for it (Ctrl-C) is the end of this one too.
pub(super) fn end_with_whoever_waits() -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
    leak::clean_on_signals()
}

/// Holds the lab until a signal.
pub(super) fn stay(dir: &Path) -> Result<ExitCode> {
    nix::sys::prctl::set_pdeathsig(None)?;
    quiet(&dir.join("holder.log"))?;
    std::fs::write(PID_FILE, std::process::id().to_string())?;
    loop {
        std::thread::park();
    }
}

/// From here on nobody reads what this process says.
fn quiet(log: &Path) -> Result<()> {
    let file = std::fs::File::options().create(true).append(true).open(log)?;
    nix::unistd::dup2_stdout(&file)?;
    nix::unistd::dup2_stderr(&file)?;
    Ok(())
}

fn look_around(stage: &Stage, lab: &Topology, page: std::net::SocketAddr) {
    let (edge, client) = (lab.appliance.namespace().name(), lab.client.name());
    let binary = crate::lab::tool("sluice").unwrap_or_else(|_| "sluice".into());
    let vty = lab.lab.dir().join("frr-router");
    stage.act("The lab is still there. Look around:");
    let lines = [
        ("status page", format!("http://{page}/")),
        ("status", format!("ip netns exec {edge} {} status", binary.display())),
        ("services", format!("ip netns exec {edge} {} services", binary.display())),
        ("a request", format!("ip netns exec {client} curl http://203.0.113.10/")),
        ("over IPv6", format!("ip netns exec {client} curl 'http://[2001:db8:113::10]/'")),
        ("FRR", format!("vtysh --vty_socket {} -c 'show bgp ipv4 unicast'", vty.display())),
        ("its table", format!("ip -n {} route", lab.router_ns.name())),
        ("VIPs", format!("ip -n {edge} addr show dev lo")),
        ("metrics", format!("curl -s http://{page}/metrics")),
        ("logs", format!("ls {}/*.log", lab.lab.dir().display())),
        ("the end", "./dev demo --down".to_owned()),
    ];
    for (what, how) in lines {
        stage.say(&format!("  {what:<12} {how}"));
    }
}

/// Ends the process that holds the lab; it cleans up.
///
/// # Errors
/// When it does not end.
pub fn down() -> Result<ExitCode> {
    let Some(pid) = holder() else {
        // Nothing is held, but something may have been left by force.
        leak::remove_dead()?;
        println!("no demo lab is held");
        return Ok(ExitCode::SUCCESS);
    };
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    until("the lab to be gone", Duration::from_secs(20), || {
        ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} still cleans up");
        Ok(())
    })?;
    drop(std::fs::remove_file(PID_FILE));
    leak::remove_dead()?;
    println!("the demo lab is gone");
    Ok(ExitCode::SUCCESS)
}
