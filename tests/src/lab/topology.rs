//! The standard lab: client ── router ── appliance ── switch ── backends, IPv4 and IPv6.
//!
//! The router has a less specific static route to the appliance for the addresses VIPs are taken from. So a packet to a
//! withdrawn VIP still arrives, and it shows whether the appliance refuses it or swallows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;

use super::appliance::{Appliance, Service, Settings};
use super::backend;
use super::client::Transport;
use super::netns::Netns;
use super::peers::{Config, Kind, Neighbor, Router};
use super::process::Proc;
use super::root::{Lab, Link};
use super::wait::until;

/// AS number of the appliance.
pub const APPLIANCE_ASN: u32 = 64512;
/// AS number of the router.
pub const ROUTER_ASN: u32 = 64513;
/// The client.
pub const CLIENT: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 51, 100, 10), Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x10));
/// The router, towards the appliance.
pub const ROUTER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// The appliance, towards the router.
pub const APPLIANCE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 0, 0, 2), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
/// The VIP of the standard services.
pub const VIP: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(203, 0, 113, 10), Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10));
/// Port of the standard HTTP service.
pub const WEB_PORT: u16 = 80;
/// Port of the standard UDP service.
pub const ECHO_PORT: u16 = 53;

/// A backend host and the server on it.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub ns: Netns,
    /// Its name, as it answers.
    pub name: String,
    /// Its addresses.
    pub addresses: (Ipv4Addr, Ipv6Addr),
    server: Option<Proc>,
}

impl Host {
    /// Ends the server: connections to it are refused.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&mut self) -> Result<()> {
        self.server.take().with_context(|| format!("{} does not run", self.name))?.kill()
    }

    /// Starts the server (again).
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(&mut self) -> Result<()> {
        self.server = Some(backend::start(&self.ns, &self.name)?);
        Ok(())
    }
}

/// The standard lab. Field order is drop order.
#[derive(Debug)]
pub struct Topology {
    /// The appliance; not started.
    pub appliance: Appliance,
    /// The router, running.
    pub router: Box<dyn Router>,
    /// Backends `b1`, `b2`, …, running.
    pub hosts: Vec<Host>,
    /// The client's namespace.
    pub client: Netns,
    /// The router's namespace.
    pub router_ns: Netns,
    /// The namespace with the bridge between appliance and backends.
    pub switch: Netns,
    /// What all of it lives in.
    pub lab: Lab,
}

impl Topology {
    /// Builds it and starts router and backends, not the appliance.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn build(name: &str, kind: Kind, backends: u8) -> Result<Self> {
        Self::build_with(name, backends, |ns, lab| {
            kind.start(ns, lab.dir(), &router_config(&[APPLIANCE.0.into(), APPLIANCE.1.into()]))
        })
    }

    /// Builds it with a router of one's own.
    ///
    /// # Errors
    /// When something does not come up.
    pub fn build_with(
        name: &str,
        backends: u8,
        router: impl FnOnce(&Netns, &Lab) -> Result<Box<dyn Router>>,
    ) -> Result<Self> {
        let lab = Lab::new(name)?;
        let client = lab.namespace("client")?;
        let router_ns = lab.namespace("router")?;
        let edge = lab.namespace("edge")?;
        let switch = lab.namespace("switch")?;
        lay_front(&lab, &client, &router_ns, &edge)?;
        lay_back(&lab, &edge, &switch)?;
        let mut hosts = Vec::new();
        for index in 1..=backends {
            hosts.push(lay_host(&lab, &switch, index)?);
        }
        for host in &mut hosts {
            host.start()?;
        }
        let router = router(&router_ns, &lab)?;
        let appliance = Appliance::new(&edge, lab.dir())?;
        Ok(Self { appliance, router, hosts, client, router_ns, switch, lab })
    }

    /// Settings of an appliance that peers with the router over both families.
    pub fn settings(&self) -> Settings {
        Settings {
            interfaces: vec!["eth*".into()],
            asn: APPLIANCE_ASN,
            router_id: APPLIANCE.0,
            peers: vec![(ROUTER.0.into(), ROUTER_ASN), (ROUTER.1.into(), ROUTER_ASN)],
            peer_more: String::new(),
            bgp_more: String::new(),
        }
    }

    /// The two standard services on both VIPs: HTTP with HTTP checks, and UDP echo checked by the same HTTP server.
    pub fn services(&self) -> Vec<Service> {
        vec![
            self.service("web", "tcp", WEB_PORT, backend::HTTP_PORT),
            self.service("echo", "udp", ECHO_PORT, backend::UDP_PORT),
        ]
    }

    /// One service on both VIPs, balanced over all backends.
    pub fn service(
        &self,
        name: &str,
        protocol: &'static str,
        port: u16,
        backend_port: u16,
    ) -> Service {
        let backends = self.hosts.iter().flat_map(|host| {
            let (v4, v6) = host.addresses;
            [SocketAddr::from((v4, backend_port)), SocketAddr::from((v6, backend_port))]
        });
        Service {
            name: name.into(),
            vips: vec![VIP.0.into(), VIP.1.into()],
            port,
            protocol,
            backends: backends.collect(),
            health: Some(health()),
            more: String::new(),
        }
    }

    /// Writes the standard configuration, starts the appliance and waits until the router has both VIPs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_standard(&mut self) -> Result<()> {
        let text = self.appliance.config(&self.settings(), &self.services());
        self.appliance.write_config(&text)?;
        self.appliance.start()?;
        self.appliance.wait_ready(Duration::from_secs(20))?;
        self.wait_routes(&vip_routes(), Duration::from_secs(20))?;
        Ok(())
    }

    /// Waits until the router has these routes, or the appliance has ended; returns how long that took.
    ///
    /// # Errors
    /// When one is missing at the deadline, or the appliance ends.
    pub fn wait_routes(&self, wanted: &[IpNet], deadline: Duration) -> Result<Duration> {
        until(&format!("{} to learn {wanted:?}", self.router.kind()), deadline, || {
            let routes = self.router.routes()?;
            let missing: Vec<_> = wanted.iter().filter(|net| !routes.contains_key(net)).collect();
            if missing.is_empty() {
                return Ok(Ok(()));
            }
            if let Err(ended) = self.appliance.alive() {
                return Ok(Err(ended));
            }
            bail!("{} of {} are missing: {:?}", missing.len(), wanted.len(), missing.first())
        })
        .and_then(|(found, took)| found.map(|()| took))
    }

    /// Every way to reach the standard services.
    pub fn targets(&self) -> Vec<(Transport, SocketAddr)> {
        targets()
    }
}

/// The standard health check: quick, so that tests are, but patient with a machine that has other things to do: who is
/// dead refuses at once.
pub fn health() -> String {
    format!(
        "type = \"http\"\npath = \"/healthz\"\nport = {}\ninterval = \"200ms\"\ntimeout = \"1s\"\nrise = 2\nfall = 2",
        backend::HTTP_PORT
    )
}

/// HTTP and UDP to both VIPs.
pub fn targets() -> Vec<(Transport, SocketAddr)> {
    vec![
        (Transport::Http, (VIP.0, WEB_PORT).into()),
        (Transport::Http, (VIP.1, WEB_PORT).into()),
        (Transport::Udp, (VIP.0, ECHO_PORT).into()),
        (Transport::Udp, (VIP.1, ECHO_PORT).into()),
    ]
}

/// The VIPs as the router sees them.
pub fn vip_routes() -> [IpNet; 2] {
    [IpAddr::from(VIP.0).into(), IpAddr::from(VIP.1).into()]
}

/// A plain router with a session for each of these addresses of the appliance.
pub fn router_config(appliance: &[IpAddr]) -> Config {
    Config {
        asn: ROUTER_ASN,
        router_id: ROUTER.0,
        neighbors: appliance.iter().map(|ip| Neighbor::new(*ip, APPLIANCE_ASN)).collect(),
        announce: Vec::new(),
    }
}

/// The client behind the router, which forwards.
pub(crate) fn lay_client(lab: &Lab, client: &Netns, router: &Netns) -> Result<()> {
    lab.link(
        &Link::new(client, "eth0", &["198.51.100.10/24", "2001:db8:51::10/64"]),
        &Link::new(router, "eth0", &["198.51.100.1/24", "2001:db8:51::1/64"]),
    )?;
    router.forward()?;
    client.ip(&["route", "add", "default", "via", "198.51.100.1"])?;
    client.ip(&["route", "add", "default", "via", "2001:db8:51::1"])?;
    Ok(())
}

pub(crate) fn lay_front(lab: &Lab, client: &Netns, router: &Netns, edge: &Netns) -> Result<()> {
    lay_client(lab, client, router)?;
    lab.link(
        &Link::new(router, "eth1", &["10.0.0.1/24", "2001:db8::1/64"]).receives_from_xdp(),
        &Link::new(edge, "eth0", &["10.0.0.2/24", "2001:db8::2/64"]),
    )?;
    edge.forward()?;
    edge.ip(&["route", "add", "198.51.100.0/24", "via", "10.0.0.1"])?;
    edge.ip(&["route", "add", "2001:db8:51::/64", "via", "2001:db8::1"])?;
    router.ip(&["route", "add", "203.0.113.0/24", "via", "10.0.0.2"])?;
    router.ip(&["route", "add", "2001:db8:113::/48", "via", "2001:db8::2"])?;
    Ok(())
}

pub(crate) fn lay_back(lab: &Lab, edge: &Netns, switch: &Netns) -> Result<()> {
    switch.ip(&["link", "add", "br0", "type", "bridge"])?;
    switch.ip(&["link", "set", "br0", "up"])?;
    lab.link(
        &Link::new(edge, "eth1", &["10.1.0.1/24", "2001:db8:1::1/64"]),
        &Link::new(switch, "edge", &[]).receives_from_xdp(),
    )?;
    switch.ip(&["link", "set", "edge", "master", "br0"])?;
    Ok(())
}

fn lay_host(lab: &Lab, switch: &Netns, index: u8) -> Result<Host> {
    let name = format!("b{index}");
    let (ns, addresses) = lay_member(lab, switch, &name, 10 + index)?;
    Ok(Host { ns, name, addresses, server: None })
}

/// A machine on the switch, with its default route through the appliance.
pub(crate) fn lay_member(
    lab: &Lab,
    switch: &Netns,
    name: &str,
    last: u8,
) -> Result<(Netns, (Ipv4Addr, Ipv6Addr))> {
    let ns = lab.namespace(name)?;
    let v4 = Ipv4Addr::new(10, 1, 0, last);
    // The same digits in both families: b1 is 10.1.0.11 and 2001:db8:1::11.
    let v6: Ipv6Addr = format!("2001:db8:1::{last}").parse()?;
    lab.link(
        &Link::new(&ns, "eth0", &[&format!("{v4}/24"), &format!("{v6}/64")]),
        &Link::new(switch, name, &[]),
    )?;
    switch.ip(&["link", "set", name, "master", "br0"])?;
    ns.ip(&["route", "add", "default", "via", "10.1.0.1"])?;
    ns.ip(&["route", "add", "default", "via", "2001:db8:1::1"])?;
    Ok((ns, (v4, v6)))
}
