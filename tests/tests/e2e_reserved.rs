//! Addresses that somebody has never become VIPs or backends, whoever asks for them and whenever they appear; everything
//! else of the same source stays served.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sluice_api::{BgpPeer, BgpState, Service};
use sluice_tests::lab::backend;
use sluice_tests::lab::client::{Outcome, Transport, request};
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::source::{self, Caller};
use sluice_tests::lab::topology::{APPLIANCE, ROUTER, Topology, VIP, WEB_PORT, vip_routes};
use sluice_tests::lab::until;

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);
/// A second VIP of the source.
const OTHER: &str = "203.0.113.11";
/// The API under TLS listens on every address of the appliance: what a VIP would take away with the address.
const API_PORT: u16 = 8443;

fn service(name: &str, vips: &[&str], backends: &[&str]) -> Value {
    let backend = |ip: &&str| json!({ "address": ip, "port": backend::HTTP_PORT, "weight": 1 });
    let backends: Vec<Value> = backends.iter().map(backend).collect();
    json!({ "name": name, "vips": vips, "port": WEB_PORT, "protocol": "tcp", "backends": backends })
}

/// What the report says of a service.
fn said(caller: &Caller, name: &str) -> Result<Value> {
    let report = caller.report("prod")?;
    let services = report.get("services").and_then(Value::as_array).context("no services")?;
    let found = services.iter().find(|service| service.get("name") == Some(&json!(name)));
    found.cloned().with_context(|| format!("no word about {name}: {report}"))
}

fn is_refused(caller: &Caller, name: &str, words: &[&str]) -> Result<()> {
    let said = said(caller, name)?;
    let why = said.get("problem").and_then(Value::as_str).unwrap_or_default();
    let is_left_out = said.get("programmed") == Some(&json!(false));
    ensure!(is_left_out && words.iter().all(|word| why.contains(word)), "{said}");
    Ok(())
}

fn is_served(caller: &Caller, name: &str) -> Result<()> {
    let said = said(caller, name)?;
    let is_true = |key: &str| said.get(key) == Some(&json!(true));
    ensure!(is_true("programmed") && is_true("announced"), "{said}");
    Ok(())
}

/// Since when each session is established.
fn sessions(topology: &Topology) -> Result<BTreeMap<String, String>> {
    let peers: Vec<BgpPeer> = topology.appliance.api("bgp/peers")?;
    let is_up = |peer: &BgpPeer| peer.state == BgpState::Established;
    ensure!(peers.len() == 2 && peers.iter().all(is_up), "{peers:?}");
    Ok(peers.into_iter().map(|peer| (peer.address, peer.since)).collect())
}

fn web_answers(topology: &Topology, vip: IpAddr) -> Result<()> {
    let to = SocketAddr::new(vip, WEB_PORT);
    let outcome = topology.client.run(|| request(Transport::Http, to, PATIENCE).outcome)?;
    ensure!(matches!(outcome, Outcome::Answered { .. }), "{to}: {outcome}");
    Ok(())
}

/// The appliance's own server is reached at this address from the client's network.
fn host_answers(topology: &Topology, address: IpAddr) -> Result<()> {
    let to = SocketAddr::new(address, API_PORT);
    let connected = topology.client.run(|| TcpStream::connect_timeout(&to, PATIENCE).map(drop))?;
    connected.with_context(|| to.to_string())
}

#[test]
fn what_somebody_has_is_refused_and_all_else_is_served() -> Result<()> {
    let mut topology = Topology::build("reserved", Kind::Frr, 1)?;
    let text = topology.appliance.config(&topology.settings(), &[]);
    let text = format!(
        "{text}{}prefixes = [\"0.0.0.0/1\", \"169.254.0.0/16\", \"203.0.113.0/25\", \"::/0\"]\n\n[vips]\nallow = [\"10.0.0.0/8\", \"203.0.113.0/24\", \"2001:db8::/32\"]\n",
        source::section(&topology.lab)?
    );
    topology.appliance.write_config(&text)?;
    topology.appliance.start_ready()?;
    until("both sessions", SOON, || sessions(&topology).map(drop))?;
    let before = sessions(&topology)?;
    let host = topology.hosts.first().context("no host")?;
    let caller = Caller::new(&host.ns, &topology.lab);
    let (v4, v6) = (host.addresses.0.to_string(), host.addresses.1.to_string());
    let (vip, vip6) = (VIP.0.to_string(), VIP.1.to_string());

    let wish = json!({ "owner": "uid", "generation": 1, "services": [
        service("prod/web", &[&vip, &vip6], &[&v4, &v6]),
        service("prod/own", &["10.0.0.2", "2001:db8::2", "10.1.0.1"], &[&v4, &v6]),
        service("prod/router", &["10.0.0.1", "2001:db8::1"], &[&v4, &v6]),
        service("prod/far", &["8.8.8.8"], &[&v4]),
        service("prod/edge", &["10.1.0.255", "169.254.169.254", "0.1.2.3", "127.0.0.1"], &[&v4]),
        service("prod/edge6", &["2001:db8:1::", "::ffff:10.0.0.2", "fe80::1", "ff02::1", "::"], &[&v6]),
        service("prod/beyond", &["203.0.113.200"], &[&v4]),
        service("prod/half", &[OTHER], &[&v4, "169.254.169.254", "0.1.2.3", "10.1.0.255", &vip, "10.0.0.1", "10.1.0.1"]),
    ]});
    caller.wish("PUT", "prod", &wish)?;
    topology.wait_routes(&vip_routes(), SOON)?;
    for (name, words) in [
        (
            "prod/own",
            &["VIP 10.0.0.2 is refused: it is this host's on eth0", "10.1.0.1", "2001:db8::2"][..],
        ),
        (
            "prod/router",
            &["VIP 10.0.0.1 is refused: it is a BGP peer's", "next hop's", "2001:db8::1"],
        ),
        ("prod/far", &["8.8.8.8", "in no prefix of vips.allow"]),
        (
            "prod/edge6",
            &[
                "2001:db8:1:: is refused: it is the first or last address of 2001:db8:1::/64",
                "IPv4 address in IPv6 notation",
                "fe80::1",
                "ff02::1",
                "VIP :: is",
            ],
        ),
        ("prod/beyond", &["203.0.113.200", "no prefix that its source may ask for"]),
        (
            "prod/edge",
            &["last address of 10.1.0.0/24", "link-local", "stands for no host", "loopback"],
        ),
    ] {
        until(&format!("{name} to be refused"), SOON, || is_refused(&caller, name, words))?;
    }
    until("the rest to be served", SOON, || {
        is_served(&caller, "prod/web")?;
        is_served(&caller, "prod/half")?;
        web_answers(&topology, VIP.0.into())?;
        web_answers(&topology, VIP.1.into())?;
        web_answers(&topology, OTHER.parse()?)
    })?;
    // Of its backends one is a server.
    let half: Service = topology.appliance.api("services/prod%2Fhalf")?;
    for backend in &half.backends {
        let is_left_out = backend.reason.as_deref().is_some_and(|why| why.contains("left out"));
        assert_eq!(is_left_out, backend.address != v4, "{backend:?}");
    }
    // Nobody is locked out, and no session ended.
    host_answers(&topology, APPLIANCE.0.into())?;
    assert_eq!(sessions(&topology)?, before);
    let routes = topology.router.routes()?;
    for never in [APPLIANCE.0, ROUTER.0, [8, 8, 8, 8].into()] {
        assert!(!routes.contains_key(&IpAddr::from(never).into()), "{never}: {routes:?}");
    }

    // An address that appears takes its VIP, and gives it back.
    let edge = topology.appliance.namespace().clone();
    let other: IpAddr = OTHER.parse()?;
    edge.ip(&["address", "add", &format!("{OTHER}/32"), "dev", "eth1"])?;
    let taken = |topology: &Topology| {
        until("the host to have its address", SOON, || {
            is_refused(&caller, "prod/half", &["this host's on eth1"])?;
            ensure!(!topology.router.routes()?.contains_key(&other.into()), "still announced");
            host_answers(topology, other)
        })?;
        web_answers(topology, VIP.0.into())
    };
    taken(&topology)?;
    let back = |topology: &Topology| {
        until("the VIP to be back", SOON, || {
            is_served(&caller, "prod/half")?;
            web_answers(topology, other)
        })
    };
    edge.ip(&["address", "del", &format!("{OTHER}/32"), "dev", "eth1"])?;
    back(&topology)?;

    // While nobody is there the data plane guards it; the next start gives it to the host.
    topology.appliance.kill()?;
    edge.ip(&["address", "add", &format!("{OTHER}/32"), "dev", "eth1"])?;
    ensure!(host_answers(&topology, other).is_err(), "it is not guarded, so this shows nothing");
    topology.appliance.start_ready()?;
    taken(&topology)?;
    edge.ip(&["address", "del", &format!("{OTHER}/32"), "dev", "eth1"])?;
    back(&topology)?;
    topology.appliance.stop().map(drop)
}
