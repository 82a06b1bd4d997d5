//! What operators and strangers get wrong: files, interfaces, ports, peers, users.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sluice_tests::lab::appliance::{API, Appliance, Settings};
use sluice_tests::lab::client::{Outcome, Transport, request};
use sluice_tests::lab::peers::{Config, Frr, Kind, Router};
use sluice_tests::lab::topology::{APPLIANCE, ROUTER, ROUTER_ASN, Topology, vip_routes};
use sluice_tests::lab::traffic::burst;
use sluice_tests::lab::{Lab, Link, tool, until};

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);

/// An appliance on one link, without any router.
fn alone(name: &str) -> Result<(Appliance, Lab)> {
    let lab = Lab::new(name)?;
    let (edge, other) = (lab.namespace("edge")?, lab.namespace("other")?);
    lab.link(
        &Link::new(&edge, "eth0", &["10.9.0.1/24"]),
        &Link::new(&other, "eth0", &["10.9.0.2/24"]).receives_from_xdp(),
    )?;
    Ok((Appliance::new(&edge, lab.dir())?, lab))
}

fn settings(interfaces: &[&str], peers: &[(IpAddr, u32)]) -> Settings {
    Settings {
        interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        asn: 64512,
        router_id: [10, 9, 0, 1].into(),
        peers: peers.to_vec(),
        peer_more: String::new(),
        bgp_more: String::new(),
    }
}

/// Runs `sluice run` to its end and returns what it said.
fn refused(appliance: &Appliance) -> Result<String> {
    let process = appliance.spawn("refused")?;
    let status = process.wait(SOON)?;
    let said = process.output();
    assert!(!status.success(), "it ended well: {said}");
    assert!(!said.contains("panicked"), "{said}");
    Ok(said)
}

#[test]
fn five_mistakes_are_reported_at_once_with_their_lines() -> Result<()> {
    let (appliance, _lab) = alone("e2e_five")?;
    appliance.write_config(
        "[api]\nlisten = \"nowhere\"\n[data-plane]\ninterfaces = []\n[bgp]\nasn = \"x\"\nrouter-id = \"10.0.0.2\"\n\
         [[service]]\nname = \"web\"\nvips = [\"203.0.113.10/24\"]\nport = 80\nprotocol = \"icmp\"\n",
    )?;
    let path = appliance.config_path().to_string_lossy().into_owned();
    let output = appliance.cli(&["check", "--config", &path])?;
    let checked = String::from_utf8_lossy(&output.stdout).into_owned()
        + &*String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{checked}");
    let ran = refused(&appliance)?;
    for said in [checked, ran] {
        for line in [2, 4, 6, 10, 12] {
            assert!(said.contains(&format!("line {line}: ")), "no word about line {line}: {said}");
        }
    }
    Ok(())
}

#[test]
fn a_missing_interface_is_named_with_those_that_are_there() -> Result<()> {
    let (appliance, _lab) = alone("e2e_link")?;
    appliance.write_config(&appliance.config(&settings(&["eth7"], &[]), &[]))?;
    let said = refused(&appliance)?;
    assert!(said.contains("no interface eth7") && said.contains("eth0"), "{said}");
    Ok(())
}

#[test]
fn a_link_that_appears_later_is_taken_when_its_pattern_fits() -> Result<()> {
    let (mut appliance, lab) = alone("e2e_late")?;
    appliance.write_config(&appliance.config(&settings(&["eth*"], &[]), &[]))?;
    appliance.start_ready()?;
    let other = lab.namespace("late")?;
    lab.link(
        &Link::new(appliance.namespace(), "eth7", &["10.9.7.1/24"]),
        &Link::new(&other, "eth0", &["10.9.7.2/24"]),
    )?;
    until("XDP on eth7", SOON, || {
        let status: sluice_api::Status = appliance.api("status")?;
        let attached = status.links.iter().any(|link| link.name == "eth7");
        ensure!(attached && status.problems.is_empty(), "{status:?}");
        Ok(())
    })?;
    appliance.namespace().ip(&["link", "del", "eth7"])?;
    until("eth7 to be forgotten", SOON, || {
        let status: sluice_api::Status = appliance.api("status")?;
        ensure!(status.links.iter().all(|link| link.name != "eth7"), "{status:?}");
        Ok(())
    })?;
    assert!(appliance.stop()?.success());
    Ok(())
}

#[test]
fn a_taken_api_port_is_named() -> Result<()> {
    let (appliance, _lab) = alone("e2e_port")?;
    appliance.write_config(&appliance.config(&settings(&["eth0"], &[]), &[]))?;
    let _taken = appliance.namespace().run(|| TcpListener::bind(API))??;
    let said = refused(&appliance)?;
    assert!(said.contains("127.0.0.1:8080"), "{said}");
    let links = appliance.namespace().ip(&["link", "show"])?;
    assert!(
        !links.contains("prog/xdp"),
        "nothing is attached by a daemon that cannot start: {links}"
    );
    Ok(())
}

#[test]
fn a_taken_bgp_port_is_named() -> Result<()> {
    let (appliance, _lab) = alone("e2e_bgp_port")?;
    let peers = [([10, 9, 0, 2].into(), 64513)];
    appliance.write_config(&appliance.config(&settings(&["eth0"], &peers), &[]))?;
    let taken = SocketAddr::from(([0, 0, 0, 0], 179));
    let _taken = appliance.namespace().run(|| TcpListener::bind(taken))??;
    let said = refused(&appliance)?;
    assert!(said.contains("179"), "{said}");
    Ok(())
}

#[test]
fn a_second_daemon_is_refused_and_disturbs_nothing() -> Result<()> {
    let mut lab = Topology::build("e2e_twice", Kind::Frr, 1)?;
    lab.start_standard()?;
    let said = refused(&lab.appliance)?;
    assert!(said.contains("running") || said.contains("lock"), "{said}");
    let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(lab.router.routes()?.len(), 2);
    Ok(())
}

#[test]
fn a_user_without_rights_is_told_what_is_missing() -> Result<()> {
    let (appliance, lab) = alone("e2e_nobody")?;
    // A state directory of nobody's own, so that rights on files are not what fails.
    let state = lab.dir().join("nobody");
    std::fs::create_dir(&state)?;
    nix::unistd::chown(&state, Some(65534.into()), Some(65534.into()))?;
    let text = appliance.config(&settings(&["eth0"], &[]), &[]);
    let own = format!("state-dir = \"{}\"", state.display());
    let text: Vec<&str> = text
        .lines()
        .map(|line| if line.starts_with("state-dir") { own.as_str() } else { line })
        .collect();
    let path = state.join("sluice.toml");
    std::fs::write(&path, text.join("\n"))?;
    // The build directory may be root's own; nobody needs a copy to start.
    let binary = state.join("sluice");
    std::fs::copy(tool("sluice")?, &binary)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    command.arg("run").arg("--config").arg(&path);
    let process = appliance.namespace().spawn("nobody", command)?;
    let status = process.wait(SOON)?;
    let said = process.output();
    assert!(!status.success(), "{said}");
    assert!(said.contains("root") || said.contains("CAP_"), "what is missing: {said}");
    assert!(!said.contains("panicked"), "{said}");
    Ok(())
}

#[test]
fn two_services_on_one_vip_and_port_are_one_mistake() -> Result<()> {
    let lab = Topology::build("e2e_clash", Kind::GoBgp, 1)?;
    let mut services = lab.services();
    let mut twin = lab.service("twin", "tcp", 80, 8080);
    twin.vips.truncate(1);
    twin.backends.retain(SocketAddr::is_ipv4);
    services.push(twin);
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &services))?;
    let said = refused(&lab.appliance)?;
    for wanted in ["twin", "web", "203.0.113.10"] {
        assert!(said.contains(wanted), "no {wanted} in: {said}");
    }
    Ok(())
}

#[test]
fn a_backend_without_route_is_told_and_not_used() -> Result<()> {
    let mut lab = Topology::build("e2e_noroute", Kind::Frr, 1)?;
    let mut services = lab.services();
    for service in &mut services {
        service.backends.push(SocketAddr::from(([192, 0, 2, 66], 8080)));
    }
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &services))?;
    lab.appliance.start()?;
    lab.wait_routes(&vip_routes(), SOON)?;
    until("a word about 192.0.2.66", SOON, || {
        let backends: Vec<sluice_api::Backend> = lab.appliance.api("backends")?;
        let lost: Vec<_> = backends.iter().filter(|b| b.address == "192.0.2.66").collect();
        let told = lost
            .iter()
            .all(|backend| backend.reason.as_ref().is_some_and(|reason| reason.contains("route")));
        ensure!(lost.len() == 2 && told, "{lost:?}");
        Ok(())
    })?;
    let report = burst(&lab.client, &lab.targets(), 30, PATIENCE)?;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.answers.len(), 1, "{:?}", report.answers);
    Ok(())
}

/// What a scripted peer does with each connection it gets.
type Script = fn(&mut TcpStream) -> std::io::Result<()>;

const MARKER: [u8; 16] = [0xff; 16];

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap_or(u16::MAX);
    [&MARKER[..], &length.to_be_bytes(), &[kind], body].concat()
}

/// OPEN of AS 64513 with four-octet AS numbers and IPv4 unicast.
fn open() -> Vec<u8> {
    let capabilities = [&[1_u8, 4, 0, 1, 0, 1][..], &[65, 4, 0, 0, 0xfc, 0x01]].concat();
    let mut body = vec![4, 0xfc, 0x01, 0, 9, 10, 9, 0, 2];
    let length = u8::try_from(capabilities.len()).unwrap_or(u8::MAX);
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    message(1, &body)
}

fn garbage(stream: &mut TcpStream) -> std::io::Result<()> {
    let noise: Vec<u8> =
        (0..4096_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    stream.write_all(&noise)?;
    drain(stream)
}

fn closes(_: &mut TcpStream) -> std::io::Result<()> {
    Ok(())
}

fn truncated_update(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&open())?;
    stream.write_all(&message(4, &[]))?;
    // Withdrawn routes claim 9 bytes in a body of 4 (RFC 4271, 6.3: malformed attribute list).
    stream.write_all(&message(2, &[0, 9, 0, 0]))?;
    drain(stream)
}

fn half_an_update(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&open())?;
    stream.write_all(&message(4, &[]))?;
    let whole = message(2, &[0, 0, 0, 0]);
    stream.write_all(whole.get(..21).unwrap_or_default())
}

fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// A peer that does `script` on each connection beside a good one: the daemon lives, tries again and says why.
fn bad_peer(name: &str, script: Script) -> Result<(sluice_api::BgpPeer, String)> {
    let lab = Lab::new(name)?;
    let (edge, bad, good) = (lab.namespace("edge")?, lab.namespace("bad")?, lab.namespace("good")?);
    lab.link(
        &Link::new(&edge, "eth0", &["10.9.0.1/24"]),
        &Link::new(&bad, "eth0", &["10.9.0.2/24"]).receives_from_xdp(),
    )?;
    lab.link(
        &Link::new(&edge, "eth1", &["10.0.0.2/24"]),
        &Link::new(&good, "eth0", &["10.0.0.1/24"]).receives_from_xdp(),
    )?;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let listener = bad.run(|| TcpListener::bind("10.9.0.2:179"))??;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            // Whatever happens to this peer's own connection is its own fault.
            drop(script(&mut stream));
        }
    });
    let config = Config {
        asn: ROUTER_ASN,
        router_id: ROUTER.0,
        neighbors: vec![sluice_tests::lab::peers::Neighbor::new(APPLIANCE.0.into(), 64512)],
        announce: Vec::new(),
    };
    let frr = Frr::start(&good, lab.dir(), &Frr::config(&config))?;
    let mut appliance = Appliance::new(&edge, lab.dir())?;
    let peers = [([10, 9, 0, 2].into(), 64513), (ROUTER.0.into(), ROUTER_ASN)];
    appliance.write_config(&appliance.config(&settings(&["eth*"], &peers), &[]))?;
    appliance.start()?;
    let at_least = 3;
    until("the bad peer to be called again and again", Duration::from_secs(40), || {
        let calls = calls.load(Ordering::Relaxed);
        ensure!(calls >= at_least, "{calls} calls; {}", appliance.process()?.tail(3));
        Ok(())
    })?;
    frr.wait_established(APPLIANCE.0.into(), SOON)?;
    let (peer, _) = until("an error to be shown", SOON, || {
        let peers: Vec<sluice_api::BgpPeer> = appliance.api("bgp/peers")?;
        let peer = peers.into_iter().find(|peer| peer.address == "10.9.0.2");
        let peer = peer.ok_or_else(|| anyhow::anyhow!("the peer is not listed"))?;
        ensure!(peer.last_error.is_some(), "{peer:?}");
        Ok(peer)
    })?;
    let log = appliance.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(appliance.stop()?.success());
    Ok((peer, log))
}

#[test]
fn a_peer_that_sends_garbage_is_told_so_and_tried_again() -> Result<()> {
    let (peer, _) = bad_peer("e2e_garbage", garbage)?;
    assert_ne!(format!("{:?}", peer.state), "Established");
    Ok(())
}

#[test]
fn a_peer_that_closes_at_once_is_tried_again() -> Result<()> {
    let (peer, _) = bad_peer("e2e_closes", closes)?;
    assert_ne!(format!("{:?}", peer.state), "Established");
    Ok(())
}

#[test]
fn a_malformed_update_ends_only_its_session() -> Result<()> {
    let (peer, _) = bad_peer("e2e_truncated", truncated_update)?;
    assert!(peer.flaps > 0, "{peer:?}");
    Ok(())
}

#[test]
fn an_update_that_stops_half_way_ends_only_its_session() -> Result<()> {
    let (peer, _) = bad_peer("e2e_half", half_an_update)?;
    assert!(peer.flaps > 0, "{peer:?}");
    Ok(())
}

#[test]
fn a_stranger_on_the_bgp_port_is_turned_away() -> Result<()> {
    let mut lab = Topology::build("e2e_stranger", Kind::Frr, 1)?;
    lab.start_standard()?;
    // An address of the router that is no configured peer.
    lab.router_ns.ip(&["addr", "add", "10.0.0.77/24", "dev", "eth1"])?;
    let heard = Mutex::new(Vec::new());
    lab.router_ns.run(|| -> Result<()> {
        let stream = socket_from([10, 0, 0, 77].into(), (APPLIANCE.0, 179).into())?;
        let mut stream = stream;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        drop(stream.write_all(&open()));
        let mut bytes = Vec::new();
        // Closed or reset, both are a refusal.
        drop(stream.read_to_end(&mut bytes));
        heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(bytes);
        Ok(())
    })??;
    let heard = heard.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(heard.get(18) != Some(&1), "a stranger got an OPEN: {heard:?}");
    lab.router.wait_established(APPLIANCE.0.into(), SOON)?;
    Ok(())
}

/// UPDATEs without end, from a second peer beside the router: everything else goes on as if there were none.
#[test]
fn a_flooding_peer_delays_nothing_else() -> Result<()> {
    let mut lab = Topology::build("e2e_bgp_flood", Kind::Frr, 1)?;
    lab.router_ns.ip(&["addr", "add", "10.0.0.77/24", "dev", "eth1"])?;
    let mut settings = lab.settings();
    settings.peers.push(([10, 0, 0, 77].into(), 64513));
    lab.appliance.write_config(&lab.appliance.config(&settings, &lab.services()))?;
    lab.appliance.start_ready()?;
    lab.wait_routes(&vip_routes(), SOON)?;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (until_then, counted) = (Arc::clone(&stop), Arc::clone(&sent));
    let flood = lab.router_ns.thread(move || -> Result<()> {
        // The appliance may refuse at first: it has just dialled and met the router's own daemon there.
        while !until_then.load(Ordering::Relaxed) {
            let stream = socket_from([10, 0, 0, 77].into(), (APPLIANCE.0, 179).into())?;
            drop(flood_over(stream, &until_then, &counted));
        }
        Ok(())
    });
    until("the flood", SOON, || {
        let sent = sent.load(Ordering::Relaxed);
        ensure!(sent > 10_000, "{sent} UPDATEs so far");
        Ok(())
    })?;
    // A whole hold time of the good sessions, with the API asked all the time.
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < Duration::from_secs(9) {
        let asked = Instant::now();
        drop(lab.appliance.get("/readyz")?);
        slowest = slowest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(slowest < Duration::from_secs(2), "the API took {slowest:?}");
    lab.hosts[0].stop()?;
    let withdrawn = lab.router.wait_no_routes(&vip_routes(), SOON)?;
    stop.store(true, Ordering::Relaxed);
    let after: Vec<sluice_api::BgpPeer> = lab.appliance.api("bgp/peers")?;
    drop(flood.join());
    println!("API at most {slowest:?}, withdrawn after {withdrawn:?}, {:?} UPDATEs", sent);
    for peer in after.iter().filter(|peer| peer.address != "10.0.0.77") {
        assert_eq!((peer.flaps, peer.state), (0, sluice_api::BgpState::Established), "{peer:?}");
    }
    let flooded =
        after.iter().find(|peer| peer.address == "10.0.0.77").map(|peer| peer.messages_in);
    assert!(flooded > Some(20_000), "{flooded:?} messages");
    Ok(())
}

/// A session that announces one prefix again and again.
fn flood_over(mut stream: TcpStream, stop: &AtomicBool, sent: &AtomicU32) -> std::io::Result<()> {
    let mut reader = stream.try_clone()?;
    std::thread::spawn(move || drop(std::io::copy(&mut reader, &mut std::io::sink())));
    stream.write_all(&[open(), message(4, &[])].concat())?;
    // ORIGIN, AS_PATH 64513, NEXT_HOP, and 198.51.100.0/24.
    let attributes = [
        &[0x40_u8, 1, 1, 0][..],
        &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x01],
        &[0x40, 3, 4, 10, 0, 0, 77],
    ]
    .concat();
    let length = u16::try_from(attributes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let update = message(2, &[&[0, 0], &length[..], &attributes, &[24, 198, 51, 100]].concat());
    let chunk = update.repeat(500);
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&chunk)?;
        sent.fetch_add(500, Ordering::Relaxed);
    }
    Ok(())
}

/// A connection from a chosen address of this namespace.
fn socket_from(from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(to).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[test]
fn an_unconfigured_appliance_passes_what_is_not_its_own() -> Result<()> {
    let mut lab = Topology::build("e2e_pass", Kind::Frr, 1)?;
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &[]))?;
    lab.appliance.start_ready()?;
    lab.router_ns.ip(&["route", "add", "10.1.0.0/24", "via", "10.0.0.2"])?;
    lab.router_ns.ip(&["route", "add", "2001:db8:1::/64", "via", "2001:db8::2"])?;
    for host in &lab.hosts {
        for ip in [IpAddr::from(host.addresses.0), host.addresses.1.into()] {
            let to = SocketAddr::new(ip, 8080);
            let attempt = lab.client.run(|| request(Transport::Http, to, PATIENCE))?;
            assert!(matches!(attempt.outcome, Outcome::Answered { .. }), "{to}: {attempt:?}");
        }
    }
    assert!(lab.router.routes()?.is_empty());
    Ok(())
}
