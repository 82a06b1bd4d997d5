//! NAT64 through the whole appliance: an IPv6 client, an IPv6 VIP announced to a router, and backends that have IPv4
//! alone.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use sluice_tests::lab::appliance::Service;
use sluice_tests::lab::client::{Outcome, Transport, request};
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::topology::{ECHO_PORT, Topology, VIP, WEB_PORT};
use sluice_tests::lab::until;

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);
/// The appliance towards the backends: health checks go out from it, too.
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// The standard services with the IPv6 VIP and the IPv4 backends alone.
fn services(lab: &Topology) -> Vec<Service> {
    let mut services = lab.services();
    for service in &mut services {
        service.vips.retain(IpAddr::is_ipv6);
        service.backends.retain(SocketAddr::is_ipv4);
    }
    services
}

fn config(lab: &Topology, more: &str) -> String {
    let text = lab.appliance.config(&lab.settings(), &services(lab));
    text.replacen("[data-plane]\n", &format!("[data-plane]\n{more}\n"), 1)
}

/// An appliance that has learnt its source, with its VIP at the router.
fn start(name: &str) -> Result<Topology> {
    let mut lab = Topology::build(name, Kind::Frr, 2)?;
    lab.appliance.write_config(&config(&lab, &format!("nat64-source = \"{SOURCE}\"")))?;
    lab.appliance.start_ready()?;
    lab.wait_routes(&[IpNet::from(IpAddr::from(VIP.1))], SOON)?;
    Ok(lab)
}

fn targets() -> [(Transport, SocketAddr); 2] {
    [(Transport::Http, (VIP.1, WEB_PORT).into()), (Transport::Udp, (VIP.1, ECHO_PORT).into())]
}

/// Every request is answered, by both backends, which see the appliance and not the client.
fn everybody_answers(lab: &Topology, requests: usize) -> Result<()> {
    for (transport, to) in targets() {
        let mut backends = BTreeSet::new();
        for n in 0..requests {
            let attempt = lab.client.run(|| request(transport, to, PATIENCE))?;
            let Outcome::Answered { seen, .. } = attempt.outcome else {
                anyhow::bail!("request {n} to {to} over {transport:?}: {}", attempt.outcome);
            };
            ensure!(seen.client.ip() == SOURCE, "{seen:?}");
            ensure!((1024..=32_767).contains(&seen.client.port()), "{seen:?}");
            backends.insert(seen.backend);
        }
        ensure!(backends.len() == 2, "{transport:?} was answered by {backends:?} alone");
    }
    Ok(())
}

#[test]
fn ipv6_clients_get_answers_from_ipv4_backends() -> Result<()> {
    let mut lab = start("e2e_nat64")?;
    everybody_answers(&lab, 60)?;
    // The health checks' own connections to the same backends, from the same address, were not in the way.
    let backends: Vec<sluice_api::Backend> = lab.appliance.api("backends")?;
    ensure!(backends.len() == 4, "{backends:?}");
    for backend in &backends {
        let health = format!("{:?}", backend.health);
        ensure!(health.eq_ignore_ascii_case("up"), "{backend:?}");
    }
    // A dead backend is left out, the VIP stays; without any it is withdrawn and refuses.
    lab.hosts.first_mut().context("a backend")?.stop()?;
    until("the other backend to answer alone", SOON, || {
        let (transport, to) = (Transport::Http, (VIP.1, WEB_PORT).into());
        for _ in 0..20 {
            let attempt = lab.client.run(|| request(transport, to, PATIENCE))?;
            ensure!(attempt.backend() == Some("b2"), "{}", attempt.outcome);
        }
        Ok(())
    })?;
    lab.hosts.last_mut().context("a backend")?.stop()?;
    lab.router.wait_no_routes(&[IpNet::from(IpAddr::from(VIP.1))], SOON)?;
    let attempt =
        lab.client.run(|| request(Transport::Http, (VIP.1, WEB_PORT).into(), PATIENCE))?;
    assert_eq!(attempt.outcome, Outcome::Refused, "{attempt:?}");
    Ok(())
}

/// One request and its answer over a connection that stays open.
fn ask(stream: &mut TcpStream) -> Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")?;
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.ends_with('\n') || !text.contains("\r\n\r\nb") {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()));
    }
    Ok(text)
}

#[test]
fn a_connection_outlives_a_killed_daemon() -> Result<()> {
    let mut lab = start("e2e_nat64_kill")?;
    let to = SocketAddr::from((VIP.1, WEB_PORT));
    let mut stream = lab.client.run(|| TcpStream::connect_timeout(&to, PATIENCE))??;
    stream.set_read_timeout(Some(PATIENCE))?;
    let before = ask(&mut stream)?;
    lab.appliance.kill()?;
    assert_eq!(ask(&mut stream)?, before, "without a daemon");
    lab.appliance.start_ready()?;
    assert_eq!(ask(&mut stream)?, before, "the same backend sees the same port after a restart");
    lab.wait_routes(&[IpNet::from(IpAddr::from(VIP.1))], SOON)?;
    everybody_answers(&lab, 20)
}

#[test]
fn without_a_source_the_setting_is_named() -> Result<()> {
    let lab = Topology::build("e2e_nat64_none", Kind::Frr, 1)?;
    lab.appliance.write_config(&config(&lab, ""))?;
    let path = lab.appliance.config_path();
    let path = path.to_str().context("a path in UTF-8")?;
    let output = lab.appliance.cli(&["check", "--config", path])?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("nat64-source in [data-plane]"), "{said}");
    Ok(())
}
