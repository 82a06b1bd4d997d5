//! Ways to clients on an appliance that does not forward: connections on which only the server speaks follow the router,
//! whose MAC moves as a VRRP address does, and the route, which is replaced.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice_tests::lab::Link;
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::topology::{Topology, VIP, vip_routes};
use sluice_tests::lab::until;

const SOON: Duration = Duration::from_secs(20);
const PORT: u16 = 9000;
/// To each VIP.
const CONNECTIONS: usize = 10;

/// Connections through the VIPs, both ends.
struct Quiet {
    servers: Vec<TcpStream>,
    clients: Vec<TcpStream>,
}

impl Quiet {
    fn open(lab: &Topology) -> Result<Self> {
        let mut listeners = Vec::new();
        for host in &lab.hosts {
            for address in [IpAddr::from(host.addresses.0), IpAddr::from(host.addresses.1)] {
                let listener = host.ns.run(|| TcpListener::bind((address, PORT)))??;
                listener.set_nonblocking(true)?;
                listeners.push(listener);
            }
        }
        let mut quiet = Self { servers: Vec::new(), clients: Vec::new() };
        for vip in [IpAddr::from(VIP.0), IpAddr::from(VIP.1)] {
            for _ in 0..CONNECTIONS {
                let to = SocketAddr::from((vip, PORT));
                let client = lab.client.run(|| TcpStream::connect_timeout(&to, SOON))??;
                quiet.clients.push(client);
            }
        }
        until("all connections to be accepted", SOON, || {
            for listener in &listeners {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false)?;
                    quiet.servers.push(stream);
                }
            }
            ensure!(quiet.servers.len() == 2 * CONNECTIONS, "{}", quiet.servers.len());
            Ok(())
        })?;
        Ok(quiet)
    }

    /// The servers say something, and every client hears it without having sent anything.
    fn push(&mut self, word: &[u8; 4]) -> Result<()> {
        for server in &mut self.servers {
            server.write_all(word)?;
        }
        let mut lost = 0;
        let deadline = Instant::now() + SOON;
        for client in &mut self.clients {
            let mut heard = [0; 4];
            let left = deadline.saturating_duration_since(Instant::now());
            client.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            lost += usize::from(client.read_exact(&mut heard).is_err() || heard != *word);
        }
        ensure!(lost == 0, "{lost} of {} connections", self.clients.len());
        Ok(())
    }
}

#[test]
fn quiet_connections_follow_the_router_and_the_route_without_forwarding() -> Result<()> {
    let mut lab = Topology::build("e2e_client_ways", Kind::Frr, 2)?;
    let edge = lab.appliance.namespace().clone();
    let router = lab.router_ns.clone();
    lab.lab.link(
        &Link::new(&router, "eth2", &["10.0.9.1/24", "2001:db8:9::1/64"]).receives_from_xdp(),
        &Link::new(&edge, "eth2", &["10.0.9.2/24", "2001:db8:9::2/64"]),
    )?;
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        edge.sysctl(key, "0")?;
    }
    let service = lab.service("quiet", "tcp", PORT, PORT);
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &[service]))?;
    lab.appliance.start_ready()?;
    lab.wait_routes(&vip_routes(), SOON)?;
    let mut quiet = Quiet::open(&lab)?;
    quiet.push(b"one ").context("at first")?;

    // The other router takes the address over and says so.
    for key in ["ipv4/conf/eth1/arp_notify", "ipv6/conf/eth1/ndisc_notify"] {
        router.sysctl(key, "1")?;
    }
    router.ip(&["link", "set", "eth1", "address", "02:00:5e:00:01:01"])?;
    quiet.push(b"two ").context("the router's MAC has moved")?;

    // The next one dies without a word, but the route leads elsewhere by then.
    for key in ["ipv4/conf/eth1/arp_notify", "ipv6/conf/eth1/ndisc_notify"] {
        router.sysctl(key, "0")?;
    }
    router.ip(&["link", "set", "eth1", "address", "02:00:5e:00:01:02"])?;
    edge.ip(&["route", "replace", "198.51.100.0/24", "via", "10.0.9.1"])?;
    edge.ip(&["route", "replace", "2001:db8:51::/64", "via", "2001:db8:9::1"])?;
    quiet.push(b"tri ").context("the route has moved")?;
    Ok(())
}
