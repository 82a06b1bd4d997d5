//! BIRD 2: one daemon, asked through birdc in its own words.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use nix::sys::signal::Signal;

use super::{Config, Kind, Route, Router};
use crate::lab::netns::Netns;
use crate::lab::process::{Proc, run};
use crate::lab::wait::until;

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    ns: Netns,
    dir: PathBuf,
    process: Option<Proc>,
}

impl Bird {
    /// A plain configuration: learned routes go to the kernel.
    pub fn config(config: &Config) -> String {
        let mut text = format!(
            "router id {};\nlog stderr all;\nprotocol device {{ scan time 1; }}\n\
             protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol kernel {{ ipv6 {{ import none; export where source = RTS_BGP; }}; }}\n",
            config.router_id
        );
        for (ipv6, family) in [(false, "ipv4"), (true, "ipv6")] {
            _ = writeln!(text, "protocol static own_{family} {{\n  {family};");
            for net in config.announce.iter().filter(|net| net.addr().is_ipv6() == ipv6) {
                _ = writeln!(text, "  route {net} blackhole;");
            }
            text.push_str("}\n");
        }
        for (index, peer) in config.neighbors.iter().enumerate() {
            let hold = peer.hold_time.as_secs();
            _ = writeln!(
                text,
                "protocol bgp peer{index} {{\n  local as {};\n  neighbor {} as {};\n  hold time {hold};\n  \
                 keepalive time {};\n  connect delay time 0;\n  connect retry time 1;\n  error wait time 1, 2;",
                config.asn,
                peer.address,
                peer.asn,
                hold / 3,
            );
            if peer.ttl_security {
                text.push_str("  ttl security on;\n");
            }
            if peer.passive {
                text.push_str("  passive on;\n");
            }
            for (ipv6, family) in [(false, "ipv4"), (true, "ipv6")] {
                if peer.carries(ipv6) {
                    _ = writeln!(
                        text,
                        "  {family} {{ import all; export where source = RTS_STATIC; next hop self; }};"
                    );
                }
            }
            text.push_str("}\n");
        }
        text
    }

    /// Starts BIRD with this configuration.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(ns: &Netns, dir: &Path, config: &str) -> Result<Self> {
        let dir = dir.join(format!("bird-{}", ns.role()));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("bird.conf"), config)?;
        let mut bird = Self { ns: ns.clone(), dir, process: None };
        bird.start_again()?;
        Ok(bird)
    }

    /// Path of its control socket, for `birdc -s`.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("bird.ctl")
    }

    /// What birdc answers.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn birdc(&self, command: &str) -> Result<String> {
        run(Command::new("birdc").arg("-s").arg(self.socket()).args(command.split(' ')))
    }

    /// The name of the protocol that speaks with this neighbour, and its state.
    fn protocol(&self, neighbor: IpAddr) -> Result<(String, String)> {
        let text = self.birdc("show protocols all")?;
        let (mut name, mut state) = (String::new(), String::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [protocol, "BGP", ..] if !line.starts_with(' ') => {
                    (*protocol).clone_into(&mut name);
                }
                ["BGP", "state:", rest] => (*rest).clone_into(&mut state),
                ["Neighbor", "address:", address] if address.parse() == Ok(neighbor) => {
                    return Ok((name, state));
                }
                _ => {}
            }
        }
        bail!("BIRD has no session with {neighbor}: {text}")
    }

    fn process(&self) -> Result<&Proc> {
        self.process.as_ref().context("BIRD does not run")
    }
}

impl Router for Bird {
    fn kind(&self) -> Kind {
        Kind::Bird
    }

    fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new("bird");
        command.arg("-f").arg("-c").arg(self.dir.join("bird.conf"));
        command.arg("-s").arg(self.socket()).arg("-P").arg(self.dir.join("bird.pid"));
        let process = self.ns.spawn("bird", command)?;
        until("BIRD to answer", Duration::from_secs(10), || {
            if let Some(status) = process.exited()? {
                bail!("it ended with {status}: {}", process.tail(5));
            }
            let text = self.birdc("show status")?;
            ensure!(text.contains("Daemon is up and running"), "{text}");
            Ok(())
        })?;
        self.process = Some(process);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.process.take().context("BIRD does not run")?.stop().map(drop)
    }

    fn kill(&mut self) -> Result<()> {
        self.process.take().context("BIRD does not run")?.kill()
    }

    fn pause(&mut self) -> Result<()> {
        self.process()?.signal(Signal::SIGSTOP)
    }

    fn resume(&mut self) -> Result<()> {
        self.process()?.signal(Signal::SIGCONT)
    }

    fn routes(&self) -> Result<BTreeMap<IpNet, Route>> {
        Ok(parse_routes(&self.birdc("show route all where source = RTS_BGP")?))
    }

    fn session(&self, neighbor: IpAddr) -> Result<String> {
        self.protocol(neighbor).map(|(_, state)| state)
    }

    fn clear(&self, neighbor: IpAddr) -> Result<()> {
        let (name, _) = self.protocol(neighbor)?;
        self.birdc(&format!("restart {name}")).map(drop)
    }
}

/// Reads `show route all`: a line for each path, its attributes indented below.
fn parse_routes(text: &str) -> BTreeMap<IpNet, Route> {
    let mut all = BTreeMap::new();
    let (mut net, mut open): (Option<IpNet>, Option<IpNet>) = (None, None);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with(['\t']) {
            if let Some(prefix) = words.first().and_then(|word| word.parse().ok()) {
                net = Some(prefix);
            }
            // Further paths of the same prefix leave the first column empty; the best one has a star.
            open = net.filter(|_| words.contains(&"*"));
            if let Some(net) = open {
                // `(100s)`: a path kept for a restarting neighbour.
                let stale = words.iter().any(|w| w.starts_with('(') && w.contains('s'));
                all.insert(
                    net,
                    Route {
                        next_hop: None,
                        as_path: String::new(),
                        med: None,
                        communities: Vec::new(),
                        stale,
                    },
                );
            }
            continue;
        }
        let Some(route) = open.and_then(|net| all.get_mut(&net)) else { continue };
        match words.as_slice() {
            ["BGP.as_path:", path @ ..] => route.as_path = path.join(" "),
            ["BGP.next_hop:", hop, ..] => route.next_hop = hop.parse().ok(),
            ["BGP.med:", med] => route.med = med.parse().ok(),
            ["BGP.community:", list @ ..] => {
                route.communities = list
                    .iter()
                    .map(|item| item.trim_matches(['(', ')']).replace(',', ":"))
                    .collect();
                route.communities.sort();
            }
            _ => {}
        }
    }
    all
}
