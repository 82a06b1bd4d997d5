//! GoBGP: one daemon without a forwarding table, asked through its command line in JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Config, Kind, Route, Router};
use crate::lab::netns::Netns;
use crate::lab::process::Proc;
use crate::lab::wait::until;

/// Attribute types as GoBGP's JSON numbers them (RFC 4271, RFC 1997, RFC 4760).
const AS_PATH: u64 = 2;
const NEXT_HOP: u64 = 3;
const MED: u64 = 4;
const COMMUNITIES: u64 = 8;
const MP_REACH_NLRI: u64 = 14;

/// A running GoBGP.
#[derive(Debug)]
pub struct GoBgp {
    ns: Netns,
    dir: PathBuf,
    announce: Vec<IpNet>,
    process: Option<Proc>,
}

impl GoBgp {
    /// A plain configuration, helper for restarting neighbours.
    pub fn config(config: &Config) -> String {
        let mut text =
            format!("[global.config]\nas = {}\nrouter-id = \"{}\"\n", config.asn, config.router_id);
        for net in &config.announce {
            // GoBGP's file has no static routes; `start` hands these to the command line.
            _ = writeln!(text, "# announce {net}");
        }
        for peer in &config.neighbors {
            let hold = peer.hold_time.as_secs();
            _ = write!(
                text,
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n\
                 [neighbors.timers.config]\nhold-time = {hold}.0\nkeepalive-interval = {}.0\n\
                 connect-retry = 1.0\nidle-hold-time-after-reset = 1.0\n\
                 [neighbors.transport.config]\npassive-mode = {}\n\
                 [neighbors.graceful-restart.config]\nenabled = true\nhelper-only = true\n",
                peer.address,
                peer.asn,
                hold / 3,
                peer.passive
            );
            if peer.ttl_security {
                text.push_str("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n");
            }
            for (ipv6, family) in [(false, "ipv4-unicast"), (true, "ipv6-unicast")] {
                if peer.carries(ipv6) {
                    _ = write!(
                        text,
                        "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n\
                         [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n"
                    );
                }
            }
        }
        text
    }

    /// Starts GoBGP with this configuration.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(ns: &Netns, dir: &Path, config: &str) -> Result<Self> {
        let dir = dir.join(format!("gobgp-{}", ns.role()));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("gobgpd.toml"), config)?;
        let announce = config
            .lines()
            .filter_map(|line| line.strip_prefix("# announce ")?.parse().ok())
            .collect();
        let mut gobgp = Self { ns: ns.clone(), dir, announce, process: None };
        gobgp.start_again()?;
        Ok(gobgp)
    }

    /// What the `gobgp` command answers.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn gobgp(&self, command: &str) -> Result<String> {
        let args: Vec<&str> = command.split(' ').collect();
        self.ns.exec("gobgp", &args)
    }

    fn json(&self, command: &str) -> Result<Value> {
        let text = self.gobgp(command)?;
        serde_json::from_str(&text).with_context(|| format!("`gobgp {command}` answered {text:?}"))
    }

    fn process(&self) -> Result<&Proc> {
        self.process.as_ref().context("GoBGP does not run")
    }
}

impl Router for GoBgp {
    fn kind(&self) -> Kind {
        Kind::GoBgp
    }

    fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new("gobgpd");
        command.arg("-f").arg(self.dir.join("gobgpd.toml"));
        command.args(["--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-p", "-l", "debug"]);
        let process = self.ns.spawn("gobgpd", command)?;
        until("GoBGP to answer", Duration::from_secs(10), || {
            if let Some(status) = process.exited()? {
                bail!("it ended with {status}: {}", process.tail(5));
            }
            self.gobgp("global").map(drop)
        })?;
        for net in &self.announce {
            let family = if net.addr().is_ipv6() { "ipv6" } else { "ipv4" };
            self.gobgp(&format!("global rib add {net} -a {family}"))?;
        }
        self.process = Some(process);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.process.take().context("GoBGP does not run")?.stop().map(drop)
    }

    fn kill(&mut self) -> Result<()> {
        self.process.take().context("GoBGP does not run")?.kill()
    }

    fn pause(&mut self) -> Result<()> {
        self.process()?.signal(Signal::SIGSTOP)
    }

    fn resume(&mut self) -> Result<()> {
        self.process()?.signal(Signal::SIGCONT)
    }

    fn routes(&self) -> Result<BTreeMap<IpNet, Route>> {
        let mut all = BTreeMap::new();
        for family in ["ipv4", "ipv6"] {
            let shown = self.json(&format!("global rib -a {family} -j"))?;
            for (prefix, paths) in shown.as_object().into_iter().flatten() {
                let best = paths.as_array().and_then(|paths| paths.first());
                if let Some(path) = best.filter(|path| learned(path)) {
                    all.insert(prefix.parse().with_context(|| prefix.clone())?, route(path));
                }
            }
        }
        Ok(all)
    }

    fn session(&self, neighbor: IpAddr) -> Result<String> {
        let shown = self.json(&format!("neighbor {neighbor} -j"))?;
        // The enumeration of GoBGP's API: 0 unknown, then the states of RFC 4271 in order.
        let state = shown.pointer("/state/session_state").and_then(Value::as_u64).unwrap_or(0);
        Ok(match state {
            1 => "Idle".into(),
            2 => "Connect".into(),
            3 => "Active".into(),
            4 => "OpenSent".into(),
            5 => "OpenConfirm".into(),
            6 => "Established".into(),
            other => format!("state {other}"),
        })
    }

    fn clear(&self, neighbor: IpAddr) -> Result<()> {
        self.gobgp(&format!("neighbor {neighbor} reset")).map(drop)
    }
}

/// True for a path that came from a neighbour.
fn learned(path: &Value) -> bool {
    path.get("source-id").and_then(Value::as_str).is_some_and(|id| id != "<nil>" && !id.is_empty())
}

fn route(path: &Value) -> Route {
    let attribute = |wanted: u64| {
        path.get("attrs")?.as_array()?.iter().find(|attr| attr.get("type") == Some(&wanted.into()))
    };
    let hop = attribute(NEXT_HOP).or_else(|| attribute(MP_REACH_NLRI));
    let segments = attribute(AS_PATH).and_then(|attr| attr.get("as_paths")?.as_array());
    let as_path: Vec<String> = segments
        .into_iter()
        .flatten()
        .filter_map(|segment| segment.get("asns")?.as_array())
        .flatten()
        .map(Value::to_string)
        .collect();
    let communities = attribute(COMMUNITIES).and_then(|attr| attr.get("communities")?.as_array());
    let mut communities: Vec<String> = communities
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .map(|value| format!("{}:{}", value >> 16, value & 0xffff))
        .collect();
    communities.sort();
    let med = attribute(MED).and_then(|attr| attr.get("metric")?.as_u64());
    Route {
        next_hop: hop.and_then(|attr| attr.get("nexthop")?.as_str()?.parse().ok()),
        as_path: as_path.join(" "),
        med: med.and_then(|med| u32::try_from(med).ok()),
        communities,
        stale: path.get("stale").is_some_and(|stale| stale == &Value::Bool(true)),
    }
}
