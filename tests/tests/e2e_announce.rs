//! The whole appliance between a real router, a real client and real backends: what is announced and when, for each
//! of the three routers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use sluice_tests::lab::appliance::Service;
use sluice_tests::lab::client::{Outcome, Transport, request};
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::topology::{APPLIANCE, Topology, VIP, vip_routes};
use sluice_tests::lab::traffic::{Traffic, burst};
use sluice_tests::lab::{backend, until};

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);

/// Everything the first path through the appliance promises, against one router.
fn announce_balance_withdraw(name: &str, kind: Kind) -> Result<()> {
    let mut lab = Topology::build(name, kind, 2)?;
    lab.start_standard()?;
    let routes = lab.router.routes()?;
    assert_eq!(routes.len(), 2, "exactly the VIPs are announced: {routes:?}");
    for (net, hop) in vip_routes().into_iter().zip([APPLIANCE.0.into(), APPLIANCE.1.into()]) {
        let route = routes.get(&net).with_context(|| format!("no {net}"))?;
        assert_eq!(route.next_hop, Some(hop), "{net}: {route:?}");
        assert_eq!(route.as_path, "64512", "{net}: {route:?}");
    }
    every_backend_answers(&lab)?;
    withdrawn_without_backends(&mut lab)?;
    for host in &mut lab.hosts {
        host.start()?;
    }
    lab.wait_routes(&vip_routes(), SOON)?;
    leaves_cleanly(&mut lab)
}

fn every_backend_answers(lab: &Topology) -> Result<()> {
    for target in lab.targets() {
        let report = burst(&lab.client, &[target], 40, PATIENCE)?;
        assert!(report.failures.is_empty(), "{target:?}: {:?}", report.failures);
        assert_eq!(report.answers.len(), 2, "both backends take part in {target:?}: {report:?}");
        assert_eq!(report.disguised, 0, "backends see the client's address and port: {target:?}");
    }
    Ok(())
}

fn withdrawn_without_backends(lab: &mut Topology) -> Result<()> {
    for host in &mut lab.hosts {
        host.stop()?;
    }
    lab.router.wait_no_routes(&vip_routes(), SOON)?;
    for (transport, to) in lab.targets() {
        let attempt = lab.client.run(|| request(transport, to, PATIENCE))?;
        assert_eq!(attempt.outcome, Outcome::Refused, "{transport:?} to {to}: {attempt:?}");
        assert!(attempt.took < Duration::from_millis(500), "refused at once: {attempt:?}");
    }
    let addresses = lab.appliance.namespace().ip(&["addr", "show", "dev", "lo"])?;
    assert!(addresses.contains(&VIP.0.to_string()), "a withdrawn VIP stays ours: {addresses}");
    Ok(())
}

fn leaves_cleanly(lab: &mut Topology) -> Result<()> {
    let status = lab.appliance.stop()?;
    assert!(status.success(), "{status}");
    lab.router.wait_no_routes(&vip_routes(), SOON)?;
    let edge = lab.appliance.namespace();
    let lo = edge.ip(&["addr", "show", "dev", "lo"])?;
    assert!(!lo.contains(&VIP.0.to_string()) && !lo.contains(&VIP.1.to_string()), "{lo}");
    let links = edge.ip(&["link", "show"])?;
    assert!(!links.contains("prog/xdp"), "{links}");
    let pins = std::fs::read_dir(lab.appliance.pin_dir()).map_or(0, Iterator::count);
    assert_eq!(pins, 0, "pins in {}", lab.appliance.pin_dir().display());
    Ok(())
}

#[test]
fn frr_learns_and_loses_the_vips() -> Result<()> {
    announce_balance_withdraw("e2e_frr", Kind::Frr)
}

#[test]
fn bird_learns_and_loses_the_vips() -> Result<()> {
    announce_balance_withdraw("e2e_bird", Kind::Bird)
}

#[test]
fn gobgp_learns_and_loses_the_vips() -> Result<()> {
    announce_balance_withdraw("e2e_gobgp", Kind::GoBgp)
}

#[test]
fn no_request_fails_once_a_dead_backend_is_marked_down() -> Result<()> {
    let mut lab = Topology::build("e2e_dead", Kind::Frr, 3)?;
    lab.start_standard()?;
    let traffic = Traffic::start(&lab.client, &lab.targets(), Duration::from_millis(5), PATIENCE);
    lab.hosts.first_mut().context("a backend")?.stop()?;
    until("b1 to be marked down everywhere", SOON, || {
        let backends: Vec<sluice_api::Backend> = lab.appliance.api("backends")?;
        let b1: Vec<_> =
            backends.iter().filter(|backend| backend.address.ends_with("11")).collect();
        let down =
            b1.iter().all(|backend| format!("{:?}", backend.health).eq_ignore_ascii_case("down"));
        ensure!(b1.len() == 4 && down, "{b1:?}");
        Ok(())
    })?;
    let verdict = Instant::now();
    traffic.wait_answered(200, SOON)?;
    let report = traffic.stop()?;
    let later = report.failures_after(verdict);
    assert!(later.is_empty(), "{} of {}: {later:?}", later.len(), report.sent);
    let routes = lab.router.routes()?;
    assert_eq!(routes.len(), 2, "a VIP with living backends stays announced: {routes:?}");
    Ok(())
}

#[test]
fn a_flow_outlives_changes_around_it() -> Result<()> {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut lab = Topology::build("e2e_flow", Kind::Frr, 3)?;
    lab.start_standard()?;
    // Connections over which request after request is sent while backends come and go.
    let ask = |stream: &mut BufReader<std::net::TcpStream>| -> Result<String> {
        stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            ensure!(stream.read_line(&mut line)? > 0, "closed");
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        std::io::Read::read_exact(stream, &mut body)?;
        let body = String::from_utf8(body)?;
        Ok(body.split(' ').next().unwrap_or_default().to_owned())
    };
    let mut flows = Vec::new();
    for index in 0..12 {
        let vip: std::net::IpAddr = if index % 2 == 0 { VIP.0.into() } else { VIP.1.into() };
        let stream = lab.client.run(|| std::net::TcpStream::connect((vip, 80)))??;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut stream = BufReader::new(stream);
        let backend = ask(&mut stream)?;
        flows.push((backend, stream));
    }
    let dead = "b1";
    lab.hosts.first_mut().context("a backend")?.stop()?;
    until("b1 to be down", SOON, || {
        let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
        ensure!(report.failures.is_empty(), "{:?}", report.failures.len());
        Ok(())
    })?;
    lab.hosts.first_mut().context("a backend")?.start()?;
    until("b1 to answer again", SOON, || {
        let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
        ensure!(report.answers.contains_key(dead), "{:?}", report.answers);
        Ok(())
    })?;
    let mut kept = 0;
    for (backend, stream) in flows.iter_mut().filter(|(backend, _)| backend != dead) {
        assert_eq!(&ask(stream)?, backend, "the flow stays with its backend");
        kept += 1;
    }
    assert!(kept > 0, "no flow to another backend than {dead}");
    Ok(())
}

#[test]
fn hundreds_of_services_are_announced_and_withdrawn() -> Result<()> {
    const COUNT: u16 = 300;
    let mut lab = Topology::build("e2e_many", Kind::Frr, 2)?;
    let ports: Vec<u16> = (9000..9000 + COUNT).collect();
    let mut servers = Vec::new();
    for host in &mut lab.hosts {
        host.stop()?;
        servers.push(backend::start_many(&host.ns, &host.name, &ports)?);
    }
    let (services, nets) = many(&lab, &ports)?;
    assert_eq!(nets.len(), 450);
    let text = lab.appliance.config(&lab.settings(), &services);
    lab.appliance.write_config(&text)?;
    lab.appliance.start()?;
    let took = lab.wait_routes(&nets, Duration::from_secs(60))?;
    println!("{COUNT} services, {} routes in FRR after {took:.1?}", nets.len());
    assert_eq!(lab.router.routes()?.len(), 450);
    for (vip, port) in [([203, 0, 113, 10], 80), ([203, 0, 113, 159], 81)] {
        let target = (Transport::Http, std::net::SocketAddr::from((vip, port)));
        let report = burst(&lab.client, &[target], 20, PATIENCE)?;
        assert_eq!((report.failures.len(), report.answers.len()), (0, 2), "{report:?}");
    }
    servers.clear();
    lab.router.wait_no_routes(&nets, Duration::from_secs(60))?;
    assert_eq!(lab.router.routes()?.len(), 0);
    Ok(())
}

/// A service for each port: two on each IPv4 VIP, one on each IPv6 VIP.
fn many(lab: &Topology, ports: &[u16]) -> Result<(Vec<Service>, Vec<IpNet>)> {
    let (mut services, mut nets) = (Vec::new(), Vec::<IpNet>::new());
    for (index, port) in (0..).zip(ports) {
        let v4: Ipv4Addr = [203, 0, 113, 10 + u8::try_from(index % 150)?].into();
        let v6: Ipv6Addr = [0x2001, 0xdb8, 0x113, 0, 0, 0, 1, index].into();
        let mut service = lab.service(&format!("s{index}"), "tcp", 80 + index / 150, *port);
        service.vips = vec![v4.into(), v6.into()];
        // 1,200 backends are checked: often enough to be noticed, seldom enough for a small machine.
        service.health = Some("type = \"tcp\"\ninterval = \"3s\"\ntimeout = \"2s\"".into());
        nets.extend([IpNet::from(IpAddr::from(v4)), IpAddr::from(v6).into()]);
        services.push(service);
    }
    nets.sort();
    nets.dedup();
    Ok((services, nets))
}
