//! The lab itself: what other tests rely on it for.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use sluice_tests::lab::client::{Outcome, Transport, request};
use sluice_tests::lab::peers::{Bird, Config, Frr, Kind, Neighbor, Router};
use sluice_tests::lab::topology::{self, Topology};
use sluice_tests::lab::traffic::burst;
use sluice_tests::lab::{Lab, Link, Netns, backend, leak};

const SOON: Duration = Duration::from_secs(20);

fn pair(lab: &Lab) -> Result<(Netns, Netns)> {
    let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
    lab.link(
        &Link::new(&a, "eth0", &["10.9.0.1/24", "2001:db8:9::1/64"]),
        &Link::new(&b, "eth0", &["10.9.0.2/24", "2001:db8:9::2/64"]),
    )?;
    Ok((a, b))
}

/// Each router learns from each other one, in both families, over both transports.
fn exchange(name: &str, left: Kind, right: Kind) -> Result<()> {
    let lab = Lab::new(name)?;
    let (a, b) = pair(&lab)?;
    let nets: [IpNet; 2] = ["192.0.2.0/24".parse()?, "2001:db8:192::/48".parse()?];
    let peers = |last: u8, asn| {
        let v6 = [0x2001, 0xdb8, 9, 0, 0, 0, 0, u16::from(last)];
        vec![
            Neighbor::new(IpAddr::from([10, 9, 0, last]), asn),
            Neighbor::new(IpAddr::from(v6), asn),
        ]
    };
    let config = |asn, id: u8, neighbors, announce: &[IpNet]| Config {
        asn,
        router_id: [10, 9, 0, id].into(),
        neighbors,
        announce: announce.to_vec(),
    };
    let _sender = left.start(&a, lab.dir(), &config(64601, 1, peers(2, 64602), &nets))?;
    let receiver = right.start(&b, lab.dir(), &config(64602, 2, peers(1, 64601), &[]))?;
    receiver.wait_established("10.9.0.1".parse()?, SOON)?;
    receiver.wait_established("2001:db8:9::1".parse()?, SOON)?;
    receiver.wait_routes(&nets, SOON)?;
    let routes = receiver.routes()?;
    ensure!(routes.len() == 2, "{left} to {right}: {routes:?}");
    for (net, hop) in nets.iter().zip(["10.9.0.1", "2001:db8:9::1"]) {
        let route = routes.get(net).with_context(|| format!("{left} to {right}: no {net}"))?;
        assert_eq!(route.next_hop, Some(hop.parse()?), "{left} to {right}: {route:?}");
        assert_eq!(route.as_path, "64601", "{left} to {right}: {route:?}");
        assert!(!route.stale, "{left} to {right}: {route:?}");
    }
    Ok(())
}

#[test]
fn frr_learns_from_bird() -> Result<()> {
    exchange("frr_bird", Kind::Bird, Kind::Frr)
}

#[test]
fn bird_learns_from_frr() -> Result<()> {
    exchange("bird_frr", Kind::Frr, Kind::Bird)
}

#[test]
fn gobgp_learns_from_frr() -> Result<()> {
    exchange("gobgp_frr", Kind::Frr, Kind::GoBgp)
}

#[test]
fn a_killed_bird_leaves_stale_routes_in_frr() -> Result<()> {
    let lab = Lab::new("stale")?;
    let (a, b) = pair(&lab)?;
    let net: IpNet = "192.0.2.0/24".parse()?;
    let config = |asn, id: u8, neighbor: Neighbor, announce: &[IpNet]| Config {
        asn,
        router_id: [10, 9, 0, id].into(),
        neighbors: vec![neighbor],
        announce: announce.to_vec(),
    };
    let sender = config(64601, 1, Neighbor::new("10.9.0.2".parse()?, 64602), &[net]);
    // A BIRD that speaks RFC 4724 for itself, not only as a helper.
    let text =
        Bird::config(&sender).replace("  connect delay", "  graceful restart on;\n  connect delay");
    let mut bird = Bird::start(&a, lab.dir(), &text)?;
    let receiver = config(64602, 2, Neighbor::new("10.9.0.1".parse()?, 64601), &[]);
    let frr = Frr::start(&b, lab.dir(), &Frr::config(&receiver))?;
    frr.wait_routes(&[net], SOON)?;
    bird.kill()?;
    let (route, _) = sluice_tests::lab::until("FRR to call the route stale", SOON, || {
        let route = frr.routes()?.remove(&net);
        ensure!(route.as_ref().is_some_and(|route| route.stale), "{route:?}");
        Ok(route)
    })?;
    assert!(route.is_some());
    bird.start_again()?;
    sluice_tests::lab::until("the route to be fresh again", SOON, || {
        let route = frr.routes()?.remove(&net);
        ensure!(route.as_ref().is_some_and(|route| !route.stale), "{route:?}");
        Ok(())
    })?;
    Ok(())
}

#[test]
fn a_client_reaches_every_backend_through_the_kernel() -> Result<()> {
    let lab = Topology::build("forward", Kind::Frr, 2)?;
    for host in &lab.hosts {
        for ip in [IpAddr::from(host.addresses.0), host.addresses.1.into()] {
            let targets = [
                (Transport::Http, SocketAddr::new(ip, backend::HTTP_PORT)),
                (Transport::Udp, SocketAddr::new(ip, backend::UDP_PORT)),
            ];
            // The router knows no way to the backends: they are behind the appliance.
            let (net, via) = if ip.is_ipv4() {
                ("10.1.0.0/24", "10.0.0.2")
            } else {
                ("2001:db8:1::/64", "2001:db8::2")
            };
            lab.router_ns.ip(&["route", "replace", net, "via", via])?;
            let report = burst(&lab.client, &targets, 3, Duration::from_secs(2))?;
            assert_eq!(report.answers.get(&host.name), Some(&6), "{report:?}");
            assert_eq!((report.failures.len(), report.disguised), (0, 0), "{report:?}");
        }
    }
    Ok(())
}

#[test]
fn refusal_and_silence_are_told_apart() -> Result<()> {
    let lab = Lab::new("refuse")?;
    let (a, b) = pair(&lab)?;
    let to = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), 9);
    b.ip(&["route", "add", "blackhole", "10.9.1.0/24"])?;
    a.ip(&["route", "add", "10.9.1.0/24", "via", "10.9.0.2"])?;
    b.forward()?;
    for ip in ["10.9.0.2", "2001:db8:9::2"] {
        for transport in [Transport::Http, Transport::Udp] {
            let attempt = a.run(|| request(transport, to(ip), Duration::from_secs(2)))?;
            assert_eq!(attempt.outcome, Outcome::Refused, "{transport:?} to {ip}");
            assert!(attempt.took < Duration::from_millis(500), "{attempt:?}");
        }
    }
    // The first address of nobody on the link: ARP gets no answer.
    let attempt = a.run(|| request(Transport::Udp, to("10.9.0.77"), Duration::from_millis(200)))?;
    assert_eq!(attempt.outcome, Outcome::TimedOut);
    Ok(())
}

#[test]
fn a_lab_leaves_nothing_behind() -> Result<()> {
    let (name, log) = {
        let lab = Lab::new("clean")?;
        let (a, _b) = pair(&lab)?;
        let _server = backend::start(&a, "left")?;
        let name = a.name().to_owned();
        assert!(leak::leftovers(false).iter().any(|what| what.contains(&name)));
        (name, lab.dir().to_owned())
    };
    let left = leak::leftovers(false);
    assert!(!left.iter().any(|what| what.contains(&name)), "{left:?}");
    assert!(!log.exists());
    Ok(())
}

#[test]
fn a_panic_cleans_the_lab_too() -> Result<()> {
    let seen = std::sync::Mutex::new(String::new());
    let panic = std::panic::catch_unwind(|| {
        let lab = Lab::new("panic").expect("a lab");
        let (a, _b) = pair(&lab).expect("namespaces");
        a.name().clone_into(&mut seen.lock().expect("no other thread"));
        panic!("as a failing test does");
    });
    assert!(panic.is_err());
    let name = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(!name.is_empty());
    let left = leak::leftovers(false);
    assert!(!left.iter().any(|what| what.contains(&name)), "{left:?}");
    Ok(())
}

#[test]
fn what_a_killed_process_left_is_found_and_removed() -> Result<()> {
    // A process id that is not in use: beyond what this kernel hands out by default.
    let name = "slc-4194999-gone-a";
    sluice_tests::lab::run(std::process::Command::new("ip").args(["netns", "add", name]))?;
    assert!(leak::leftovers(true).contains(&format!("namespace {name}")));
    let started = Instant::now();
    drop(Lab::new("after")?);
    assert!(
        !leak::leftovers(true).contains(&format!("namespace {name}")),
        "{:?}",
        started.elapsed()
    );
    Ok(())
}

#[test]
fn the_standard_configuration_names_both_families() -> Result<()> {
    let lab = Topology::build("config", Kind::GoBgp, 1)?;
    let text = lab.appliance.config(&lab.settings(), &lab.services());
    for wanted in ["203.0.113.10", "2001:db8:113::10", "10.1.0.11", "2001:db8:1::11", "10.0.0.1"] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert_eq!(topology::targets().len(), 4);
    Ok(())
}
