//! FRR: zebra and bgpd with sockets of their own, asked through vtysh in JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use nix::sys::signal::Signal;
use nix::unistd::{User, chown};
use serde_json::Value;

use super::{Config, Kind, Route, Router};
use crate::lab::netns::Netns;
use crate::lab::process::{Proc, run};
use crate::lab::wait::until;

/// Where the Debian package keeps the daemons.
const DAEMONS: &str = "/usr/lib/frr";

/// A running FRR.
#[derive(Debug)]
pub struct Frr {
    ns: Netns,
    dir: PathBuf,
    zebra: Option<Proc>,
    bgpd: Option<Proc>,
}

impl Frr {
    /// A plain bgpd configuration.
    pub fn config(config: &Config) -> String {
        let mut text = format!(
            "log stdout\ndebug bgp neighbor-events\nrouter bgp {}\n bgp router-id {}\n \
             no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n no bgp network import-check\n",
            config.asn, config.router_id
        );
        for peer in &config.neighbors {
            let (address, hold) = (peer.address, peer.hold_time.as_secs());
            let keepalive = hold / 3;
            // A String takes whatever is written to it.
            _ = write!(
                text,
                " neighbor {address} remote-as {asn}\n neighbor {address} timers {keepalive} {hold}\n \
                 neighbor {address} timers connect 1\n neighbor {address} advertisement-interval 0\n",
                asn = peer.asn
            );
            if peer.ttl_security {
                _ = writeln!(text, " neighbor {address} ttl-security hops 1");
            }
            if peer.passive {
                _ = writeln!(text, " neighbor {address} passive");
            }
        }
        for (ipv6, family) in [(false, "ipv4"), (true, "ipv6")] {
            _ = writeln!(text, " address-family {family} unicast");
            for net in config.announce.iter().filter(|net| net.addr().is_ipv6() == ipv6) {
                _ = writeln!(text, "  network {net}");
            }
            for peer in config.neighbors.iter().filter(|peer| peer.carries(ipv6)) {
                _ = writeln!(text, "  neighbor {} activate", peer.address);
            }
            text.push_str(" exit-address-family\n");
        }
        text.push_str("exit\n");
        text
    }

    /// Starts zebra and bgpd with this bgpd configuration.
    ///
    /// # Errors
    /// When FRR is not installed or does not come up.
    pub fn start(ns: &Netns, dir: &Path, bgpd: &str) -> Result<Self> {
        let dir = dir.join(format!("frr-{}", ns.role()));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("bgpd.conf"), bgpd)?;
        std::fs::write(dir.join("zebra.conf"), "log stdout\n")?;
        std::fs::write(dir.join("vtysh.conf"), "")?;
        // FRR insists on its own user, who must be able to make sockets here.
        let user = User::from_name("frr")?.context("no user frr: apt-get install frr")?;
        for path in [&dir, &dir.join("bgpd.conf"), &dir.join("zebra.conf")] {
            chown(path, Some(user.uid), Some(user.gid))?;
        }
        let mut frr = Self { ns: ns.clone(), dir, zebra: None, bgpd: None };
        frr.start_again()?;
        Ok(frr)
    }

    /// Directory of its vty sockets, for `vtysh --vty_socket`.
    pub fn vty_dir(&self) -> &Path {
        &self.dir
    }

    /// What vtysh answers to these commands.
    ///
    /// # Errors
    /// When a daemon does not answer or refuses.
    pub fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let mut vtysh = Command::new("vtysh");
        vtysh.arg("--vty_socket").arg(&self.dir).arg("--config_dir").arg(&self.dir);
        for command in commands {
            vtysh.args(["-c", command]);
        }
        run(&mut vtysh)
    }

    /// What vtysh answers to a `show … json`.
    ///
    /// # Errors
    /// As [`Frr::vtysh`], and when the answer is no JSON.
    pub fn show(&self, command: &str) -> Result<Value> {
        let text = self.vtysh(&[command])?;
        serde_json::from_str(&text).with_context(|| format!("`{command}` answered {text:?}"))
    }

    fn daemon(&self, name: &str, more: &[&str]) -> Result<Proc> {
        let path = Path::new(DAEMONS).join(name);
        ensure!(path.is_file(), "{} is missing: apt-get install frr", path.display());
        let mut command = Command::new(path);
        command.arg("-f").arg(self.dir.join(format!("{name}.conf")));
        command.arg("-i").arg(self.dir.join(format!("{name}.pid")));
        command.arg("-z").arg(self.dir.join("zserv.api"));
        command.arg("--vty_socket").arg(&self.dir).args(["--log", "stdout", "-P", "0"]).args(more);
        self.ns.spawn(name, command)
    }

    fn wait_for(&self, name: &str, process: &Proc) -> Result<()> {
        let socket = self.dir.join(format!("{name}.vty"));
        until(&format!("{name} to open {}", socket.display()), Duration::from_secs(15), || {
            if let Some(status) = process.exited()? {
                anyhow::bail!("it ended with {status}: {}", process.tail(5));
            }
            std::os::unix::net::UnixStream::connect(&socket)?;
            Ok(())
        })
        .map(drop)
    }

    fn both(&self) -> impl Iterator<Item = &Proc> {
        self.bgpd.iter().chain(&self.zebra)
    }
}

impl Router for Frr {
    fn kind(&self) -> Kind {
        Kind::Frr
    }

    fn start_again(&mut self) -> Result<()> {
        let zebra = self.daemon("zebra", &[])?;
        self.wait_for("zebra", &zebra)?;
        self.zebra = Some(zebra);
        let bgpd = self.daemon("bgpd", &[])?;
        self.wait_for("bgpd", &bgpd)?;
        self.bgpd = Some(bgpd);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        for process in self.bgpd.take().into_iter().chain(self.zebra.take()) {
            process.stop()?;
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        for process in self.bgpd.take().into_iter().chain(self.zebra.take()) {
            process.kill()?;
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<()> {
        self.both().try_for_each(|process| process.signal(Signal::SIGSTOP))
    }

    fn resume(&mut self) -> Result<()> {
        self.both().try_for_each(|process| process.signal(Signal::SIGCONT))
    }

    fn routes(&self) -> Result<BTreeMap<IpNet, Route>> {
        let mut all = BTreeMap::new();
        for family in ["ipv4", "ipv6"] {
            // `detail` is what carries communities and MED.
            let shown = self.show(&format!("show bgp {family} unicast json detail"))?;
            let Some(routes) = shown.get("routes").and_then(Value::as_object) else { continue };
            for (prefix, paths) in routes {
                if let Some(route) = best(paths) {
                    all.insert(prefix.parse().with_context(|| prefix.clone())?, route);
                }
            }
        }
        Ok(all)
    }

    fn session(&self, neighbor: IpAddr) -> Result<String> {
        let shown = self.show(&format!("show bgp neighbors {neighbor} json"))?;
        let state = shown.get(neighbor.to_string()).and_then(|peer| peer.get("bgpState"));
        Ok(state.and_then(Value::as_str).with_context(|| format!("no {neighbor}: {shown}"))?.into())
    }

    fn clear(&self, neighbor: IpAddr) -> Result<()> {
        self.vtysh(&[&format!("clear bgp {neighbor}")]).map(drop)
    }
}

/// The best path that came from a neighbour.
fn best(paths: &Value) -> Option<Route> {
    let paths = paths.get("paths").unwrap_or(paths).as_array()?;
    let is = |path: &&Value, key: &str| path.pointer(key).is_some_and(|v| v == &Value::Bool(true));
    let path = paths.iter().find(|path| is(path, "/bestpath/overall"))?;
    if is(&path, "/sourced") || is(&path, "/local") {
        return None;
    }
    let hops = path.get("nexthops").and_then(Value::as_array)?;
    let global = hops
        .iter()
        .find(|hop| hop.get("scope").is_none_or(|scope| scope == "global"))
        .and_then(|hop| hop.get("ip"))
        .and_then(Value::as_str);
    let mut communities: Vec<String> = path
        .pointer("/community/list")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect();
    communities.sort();
    Some(Route {
        next_hop: global.and_then(|text| text.parse().ok()),
        as_path: path.pointer("/aspath/string").and_then(Value::as_str).unwrap_or_default().into(),
        med: path.get("metric").and_then(Value::as_u64).and_then(|med| u32::try_from(med).ok()),
        communities,
        stale: is(&path, "/stale"),
    })
}
