//! The real `sluice` in a namespace: its configuration, its process, its API and its command line.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use super::http::{self, Answer};
use super::netns::Netns;
use super::process::{Proc, tool};
use super::wait::until;

/// Where the API listens, inside the appliance's namespace.
pub const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// A service in the configuration file.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Addresses clients use.
    pub vips: Vec<IpAddr>,
    /// Port clients use.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Backends' addresses and ports.
    pub backends: Vec<SocketAddr>,
    /// Lines of `[service.health]`; `None` leaves it out.
    pub health: Option<String>,
    /// Further lines of `[[service]]`.
    pub more: String,
}

impl Service {
    /// Appends this service to a configuration text.
    fn write(&self, text: &mut String) {
        let vips: Vec<String> = self.vips.iter().map(|vip| format!("\"{vip}\"")).collect();
        _ = write!(
            text,
            "\n[[service]]\nname = \"{}\"\nvips = [{}]\nport = {}\nprotocol = \"{}\"\n{}",
            self.name,
            vips.join(", "),
            self.port,
            self.protocol,
            self.more
        );
        if let Some(health) = &self.health {
            _ = write!(text, "[service.health]\n{}\n", health.trim());
        }
        for backend in &self.backends {
            _ = write!(
                text,
                "[[service.backend]]\naddress = \"{}\"\nport = {}\n",
                backend.ip(),
                backend.port()
            );
        }
    }
}

/// Everything before the services.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Interface patterns.
    pub interfaces: Vec<String>,
    /// Own AS number.
    pub asn: u32,
    /// Own BGP identifier.
    pub router_id: Ipv4Addr,
    /// Peers: address and AS number.
    pub peers: Vec<(IpAddr, u32)>,
    /// Lines added to every peer.
    pub peer_more: String,
    /// Lines added to `[bgp]`.
    pub bgp_more: String,
}

/// An appliance of the lab: a namespace, a configuration file and at most one daemon. Dropping it kills the daemon.
#[derive(Debug)]
pub struct Appliance {
    ns: Netns,
    dir: PathBuf,
    process: Option<Proc>,
}

impl Appliance {
    /// Prepares directories; starts nothing.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new(ns: &Netns, dir: &Path) -> Result<Self> {
        let dir = dir.join(format!("sluice-{}", ns.role()));
        std::fs::create_dir_all(dir.join("state"))?;
        Ok(Self { ns: ns.clone(), dir, process: None })
    }

    /// The namespace it runs in.
    pub fn namespace(&self) -> &Netns {
        &self.ns
    }

    /// Path of the configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("sluice.toml")
    }

    /// Where it keeps its ledger.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where it pins; the daemon mounts a bpffs there, the lab unmounts it.
    pub fn pin_dir(&self) -> PathBuf {
        self.dir.join("bpf").join("sluice")
    }

    /// The configuration file for these settings and services.
    pub fn config(&self, settings: &Settings, services: &[Service]) -> String {
        let interfaces: Vec<String> =
            settings.interfaces.iter().map(|name| format!("\"{name}\"")).collect();
        let mut text = format!(
            "name = \"{}\"\nstate-dir = \"{}\"\n\n[api]\nlisten = \"{API}\"\n\n[data-plane]\n\
             interfaces = [{}]\npin-dir = \"{}\"\nmax-flows = 65536\n\n[bgp]\nasn = {}\nrouter-id = \"{}\"\n{}",
            self.ns.role(),
            self.dir.join("state").display(),
            interfaces.join(", "),
            self.pin_dir().display(),
            settings.asn,
            settings.router_id,
            settings.bgp_more,
        );
        for (address, asn) in &settings.peers {
            _ = write!(
                text,
                "\n[[bgp.peer]]\naddress = \"{address}\"\nasn = {asn}\nhold-time = \"9s\"\nconnect-retry = \"1s\"\n{}",
                settings.peer_more
            );
        }
        for service in services {
            service.write(&mut text);
        }
        text
    }

    /// Replaces the configuration file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        std::fs::write(self.config_path(), text).context("writing the configuration")
    }

    /// Starts `sluice run` and does not wait for anything.
    ///
    /// # Errors
    /// When the binary is not built or one runs already.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the appliance runs already");
        self.process = Some(self.spawn("sluice")?);
        Ok(())
    }

    /// Starts `sluice run` with so many descriptors and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn start_with_descriptors(&mut self, descriptors: u32) -> Result<Duration> {
        ensure!(self.process.is_none(), "the appliance runs already");
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={descriptors}:{descriptors}")).arg(tool("sluice")?);
        command.arg("run").arg("--config").arg(self.config_path()).env("RUST_BACKTRACE", "1");
        self.process = Some(self.ns.spawn("sluice", command)?);
        self.wait_ready(Duration::from_secs(20))
    }

    /// Starts a further `sluice run` with the same configuration.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn spawn(&self, label: &str) -> Result<Proc> {
        let mut command = Command::new(tool("sluice")?);
        command.arg("run").arg("--config").arg(self.config_path()).env("RUST_BACKTRACE", "1");
        self.ns.spawn(label, command)
    }

    /// Starts it and waits until it says it is ready; returns how long that took.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn start_ready(&mut self) -> Result<Duration> {
        self.start()?;
        self.wait_ready(Duration::from_secs(20))
    }

    /// That the daemon runs.
    ///
    /// # Errors
    /// When it has ended: how, and its last words.
    pub fn alive(&self) -> Result<()> {
        let process = self.process()?;
        match process.exited()? {
            Some(status) => bail!("sluice ended with {status}: {}", process.tail(8)),
            None => Ok(()),
        }
    }

    /// Waits until `/readyz` answers 200; returns how long that took.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn wait_ready(&self, deadline: Duration) -> Result<Duration> {
        until("sluice to be ready", deadline, || {
            if let Err(ended) = self.alive() {
                return Ok(Err(ended));
            }
            let answer = self.get("/readyz")?;
            ensure!(answer.status == 200, "/readyz says {}: {}", answer.status, answer.body.trim());
            Ok(Ok(()))
        })
        .and_then(|(ready, took)| ready.map(|()| took))
    }

    /// The running daemon.
    ///
    /// # Errors
    /// When there is none.
    pub fn process(&self) -> Result<&Proc> {
        self.process.as_ref().context("sluice does not run")
    }

    /// Everything its daemons wrote, oldest first.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Proc::output).unwrap_or_default()
    }

    /// SIGTERM and waits for the end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.take().context("sluice does not run")?.stop()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("sluice does not run")?.kill()
    }

    /// SIGHUP: reads its configuration again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload(&self) -> Result<()> {
        self.process()?.signal(Signal::SIGHUP)
    }

    /// GETs a path of its API.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Result<Answer> {
        Ok(self.ns.run(|| http::get(API, path, Duration::from_secs(2)))??)
    }

    /// GETs a part of `/api/v1`, for example `services`.
    ///
    /// # Errors
    /// When it does not answer 200 with what is wanted.
    pub fn api<T: DeserializeOwned>(&self, part: &str) -> Result<T> {
        let path = format!("/api/v1/{part}");
        let answer = self.get(&path)?;
        ensure!(answer.status == 200, "{path} answered {}: {}", answer.status, answer.body);
        serde_json::from_str(&answer.body).with_context(|| format!("{path}: {}", answer.body))
    }

    /// Runs the `sluice` command line in its namespace to its end.
    ///
    /// # Errors
    /// When the binary is not built.
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(tool("sluice")?);
        command.args(args);
        self.ns.prepare(command).output().context("starting sluice")
    }
}
