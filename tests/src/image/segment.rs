//! Where machines are tried: client ── router ── one segment with the machines and the backends.
//!
//! Each machine has one network card, a backend whose way back leads through it, and its sessions with the router over
//! both families.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::client::Transport;
use crate::lab::peers::{Kind, Router};
use crate::lab::topology::{
    APPLIANCE_ASN, ROUTER, ROUTER_ASN, VIP, WEB_PORT, health, lay_client, router_config,
};
use crate::lab::{Lab, Link, Netns, Proc, backend, run_with, until};

/// The place of one machine: its addresses, its tap device, its backend.
#[derive(Clone, Copy, Debug)]
pub struct Station(pub u8);

impl Station {
    /// Its address of IPv4: 10.0.0.2 for the first.
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, 1 + self.0)
    }

    /// Its address of IPv6.
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(1 + self.0))
    }

    /// What its network card is connected to.
    pub fn tap(self) -> (String, u8) {
        (format!("tap{}", self.0), 1 + self.0)
    }

    /// The name of its backend.
    pub fn backend(self) -> String {
        format!("b{}", self.0)
    }

    fn backend_addresses(self) -> (Ipv4Addr, Ipv6Addr) {
        let last = 10 + self.0;
        (
            Ipv4Addr::new(10, 0, 0, last),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)),
        )
    }

    /// Its network, for systemd-networkd.
    pub fn network(self) -> String {
        format!(
            "[Match]\nType=ether\n\n[Network]\nAddress={}/24\nAddress={}/64\nGateway={}\nGateway={}\n",
            self.v4(),
            self.v6(),
            ROUTER.0,
            ROUTER.1
        )
    }

    /// The same in cloud-init's words, as Proxmox writes them.
    pub fn network_config(self) -> String {
        let (_, last) = self.tap();
        format!(
            "version: 1\nconfig:\n  - type: physical\n    name: eth0\n    mac_address: '02:51:0C:E0:00:{last:02X}'\n    subnets:\n\
             \x20   - type: static\n      address: '{}'\n      netmask: '255.255.255.0'\n      gateway: '{}'\n\
             \x20   - type: static6\n      address: '{}/64'\n      gateway: '{}'\n",
            self.v4(),
            ROUTER.0,
            self.v6(),
            ROUTER.1
        )
    }

    /// Its configuration: one service with its own backend, sessions with the router, the API for whoever has the token.
    pub fn config(self) -> String {
        let (v4, v6) = self.backend_addresses();
        let port = backend::HTTP_PORT;
        let peer = |address: IpAddr| {
            format!(
                "[[bgp.peer]]\naddress = \"{address}\"\nasn = {ROUTER_ASN}\nhold-time = \"9s\"\n"
            )
        };
        format!(
            "name = \"vm{name}\"\n[api.tls]\nlisten = \"0.0.0.0:8443\"\ncertificate = \"/etc/sluice/tls.crt\"\nkey = \"/etc/sluice/tls.key\"\n\
             [[api.tls.token]]\nname = \"operator\"\nfile = \"/etc/sluice/operator.token\"\n\
             [data-plane]\ninterfaces = [\"en*\"]\n\
             [bgp]\nasn = {APPLIANCE_ASN}\nrouter-id = \"{id}\"\n{peers}\
             [[service]]\nname = \"web\"\nvips = [\"{vip4}\", \"{vip6}\"]\nport = {WEB_PORT}\nprotocol = \"tcp\"\n\
             [service.health]\n{health}\n\
             [[service.backend]]\naddress = \"{v4}\"\nport = {port}\n[[service.backend]]\naddress = \"{v6}\"\nport = {port}\n",
            name = self.0,
            id = self.v4(),
            peers = [ROUTER.0.into(), ROUTER.1.into()].map(peer).concat(),
            vip4 = VIP.0,
            vip6 = VIP.1,
            health = health(),
        )
    }
}

/// The laboratory. Field order is drop order.
#[derive(Debug)]
pub struct Segment {
    /// The router, running.
    pub router: Box<dyn Router>,
    /// Servers of the backends, running.
    pub servers: Vec<Proc>,
    /// The client.
    pub client: Netns,
    /// The router's namespace.
    pub router_ns: Netns,
    /// The segment itself: a bridge with the tap devices. QEMU runs here.
    pub wire: Netns,
    /// What all of it lives in.
    pub lab: Lab,
}

impl Segment {
    /// Builds it for as many machines, which are not started.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn build(name: &str, machines: u8) -> Result<Self> {
        let lab = Lab::new(name)?;
        let (client, router_ns, wire) =
            (lab.namespace("client")?, lab.namespace("router")?, lab.namespace("wire")?);
        wire.ip(&["link", "add", "br0", "type", "bridge"])?;
        wire.ip(&["link", "set", "br0", "up"])?;
        lay_client(&lab, &client, &router_ns)?;
        plug(&lab, &wire, &router_ns, "eth1", ROUTER)?;
        // Flows and not packets are spread over the machines.
        router_ns.sysctl("ipv4/fib_multipath_hash_policy", "1")?;
        router_ns.sysctl("ipv6/fib_multipath_hash_policy", "1")?;
        let mut servers = Vec::new();
        let mut peers = Vec::new();
        for station in (1..=machines).map(Station) {
            let (tap, _) = station.tap();
            wire.ip(&["tuntap", "add", "dev", &tap, "mode", "tap", "multi_queue"])?;
            wire.ip(&["link", "set", &tap, "up", "master", "br0"])?;
            let host = lab.namespace(&station.backend())?;
            plug(&lab, &wire, &host, "eth0", station.backend_addresses())?;
            host.ip(&["route", "add", "default", "via", &station.v4().to_string()])?;
            host.ip(&["route", "add", "default", "via", &station.v6().to_string()])?;
            servers.push(backend::start(&host, &station.backend())?);
            peers.extend([IpAddr::from(station.v4()), IpAddr::from(station.v6())]);
        }
        let router = Kind::Frr.start(&router_ns, lab.dir(), &router_config(&peers))?;
        Ok(Self { router, servers, client, router_ns, wire, lab })
    }

    /// How the client reaches the service.
    pub fn targets() -> [(Transport, SocketAddr); 2] {
        [(Transport::Http, (VIP.0, WEB_PORT).into()), (Transport::Http, (VIP.1, WEB_PORT).into())]
    }

    /// Waits until the router's kernel sends the VIP of IPv4 exactly to these machines.
    ///
    /// # Errors
    /// At the deadline: the route that is there.
    pub fn wait_next_hops(&self, stations: &[Station], deadline: Duration) -> Result<Duration> {
        until(&format!("the router to send the VIP to {stations:?}"), deadline, || {
            let route = self.router_ns.ip(&["route", "show", &VIP.0.to_string()])?;
            let mut hops: Vec<Ipv4Addr> = route
                .split_whitespace()
                .zip(route.split_whitespace().skip(1))
                .filter_map(|(key, value)| (key == "via").then(|| value.parse().ok())?)
                .collect();
            hops.sort_unstable();
            ensure!(
                hops == stations.iter().map(|s| s.v4()).collect::<Vec<_>>(),
                "{}",
                route.trim()
            );
            Ok(())
        })
        .map(|((), took)| took)
    }

    /// What the API of a machine answers to somebody who gives the token as a browser would.
    ///
    /// # Errors
    /// When it does not answer with 2xx.
    pub fn page(&self, station: Station, token: &str, path: &str) -> Result<String> {
        let url = format!("https://{}:8443{path}", station.v4());
        self.router_ns
            .exec(
                "curl",
                &[
                    "-sSk",
                    "--fail-with-body",
                    "--max-time",
                    "20",
                    "-u",
                    &format!("operator:{token}"),
                    &url,
                ],
            )
            .with_context(|| format!("asking for {url}"))
    }

    /// Runs `command` in the machine over SSH with the key in this file; the machine's own key is kept beside it and must
    /// not change.
    ///
    /// # Errors
    /// When it fails: what it said.
    pub fn ssh(&self, station: Station, key: &Path, command: &str) -> Result<String> {
        let host = format!("root@{}", station.v4());
        self.by_ssh("ssh", key, &[host.as_ref(), command.as_ref()], Stdio::null())
    }

    /// The same with a file as the command's standard input.
    ///
    /// # Errors
    /// When it fails: what it said.
    pub fn ssh_with(
        &self,
        station: Station,
        key: &Path,
        command: &str,
        input: &Path,
    ) -> Result<String> {
        let host = format!("root@{}", station.v4());
        let input = File::open(input)?.into();
        self.by_ssh("ssh", key, &[host.as_ref(), command.as_ref()], input)
    }

    /// Copies a file into the memory of the machine, over SSH as well.
    ///
    /// # Errors
    /// When it fails: what it said.
    pub fn copy(&self, station: Station, key: &Path, file: &Path) -> Result<()> {
        let place = format!("root@{}:/tmp/", station.v4());
        self.by_ssh("scp", key, &[file.as_ref(), place.as_ref()], Stdio::null()).map(drop)
    }

    fn by_ssh(&self, program: &str, key: &Path, words: &[&OsStr], input: Stdio) -> Result<String> {
        let known = format!("UserKnownHostsFile={}", key.with_extension("known").display());
        let mut command = Command::new(program);
        command.args(["-q", "-o", "StrictHostKeyChecking=accept-new", "-o", &known]);
        command.args(["-o", "ConnectTimeout=10", "-o", "BatchMode=yes", "-i"]).arg(key).args(words);
        run_with(&mut self.router_ns.prepare(command), input)
    }

    /// Waits until SSH lets us in.
    ///
    /// # Errors
    /// At the deadline.
    pub fn wait_ssh(&self, station: Station, key: &Path, deadline: Duration) -> Result<Duration> {
        until("SSH", deadline, || match self.ssh(station, key, "true") {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error:#}"),
        })
        .map(|((), took)| took)
    }
}

/// Connects a namespace to the segment.
fn plug(
    lab: &Lab,
    wire: &Netns,
    ns: &Netns,
    link: &str,
    (v4, v6): (Ipv4Addr, Ipv6Addr),
) -> Result<()> {
    let port = format!("p-{}", ns.role());
    lab.link(
        &Link::new(ns, link, &[&format!("{v4}/24"), &format!("{v6}/64")]),
        &Link::new(wire, &port, &[]),
    )?;
    wire.ip(&["link", "set", &port, "master", "br0"]).map(drop)
}
