//! Who answers for a VIP: backends, whatever others take away, from wherever it is asked for, and never the box itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use sluice_tests::lab::Link;
use sluice_tests::lab::backend;
use sluice_tests::lab::client::{Outcome, Transport, request};
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::topology::{ROUTER, Topology, VIP, WEB_PORT};
use sluice_tests::lab::traffic::Traffic;
use sluice_tests::lab::until;

/// The resync every ten seconds, and then some.
const REPAIRED: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);
const PACE: Duration = Duration::from_millis(5);

/// A clean-up job, or a bpffs that is mounted anew.
#[test]
fn pins_removed_under_traffic_lose_no_request_and_come_back() -> Result<()> {
    let mut lab = Topology::build("e2e_unpinned", Kind::Frr, 2)?;
    lab.start_standard()?;
    let traffic = Traffic::start(&lab.client, &lab.targets(), PACE, PATIENCE);
    traffic.wait_answered(50, REPAIRED)?;
    std::fs::remove_dir_all(lab.appliance.pin_dir())?;
    traffic.wait_answered(200, REPAIRED)?;
    until("the pins to be back and it to be said", REPAIRED, || {
        let status: sluice_api::Status = lab.appliance.api("status")?;
        let is_told =
            status.problems.iter().any(|problem| problem.contains("pins had been removed"));
        ensure!(is_told, "{:?}", status.problems);
        ensure!(lab.appliance.pin_dir().join("FLOWS").exists());
        Ok(())
    })?;
    lab.appliance.kill()?;
    traffic.wait_answered(50, REPAIRED)?;
    lab.appliance.start_ready()?;
    let status: sluice_api::Status = lab.appliance.api("status")?;
    assert!(status.adopted, "{status:?}");
    traffic.wait_answered(50, REPAIRED)?;
    traffic.stop_unharmed()?;
    Ok(())
}

/// A host's own service listens on all addresses, as most do.
#[test]
fn the_hosts_own_services_are_not_met_on_a_vip() -> Result<()> {
    let mut lab = Topology::build("e2e_silent", Kind::Frr, 2)?;
    let edge = lab.appliance.namespace().clone();
    let stranger = lab.lab.namespace("stranger")?;
    lab.lab.link(
        &Link::new(&stranger, "eth0", &["192.0.2.2/24", "2001:db8:9::2/64"]),
        &Link::new(&edge, "mgmt0", &["192.0.2.1/24", "2001:db8:9::1/64"]),
    )?;
    stranger.ip(&["route", "add", "default", "via", "192.0.2.1"])?;
    stranger.ip(&["route", "add", "default", "via", "2001:db8:9::1"])?;
    edge.ip(&["route", "add", "default", "via", &ROUTER.0.to_string()])?;
    edge.ip(&["route", "add", "default", "via", &ROUTER.1.to_string()])?;
    let _own = backend::start_many(&edge, "own", &[WEB_PORT])?;
    lab.start_standard()?;
    let own: SocketAddr = (Ipv4Addr::new(192, 0, 2, 1), WEB_PORT).into();
    let met = stranger.run(|| request(Transport::Http, own, PATIENCE))?;
    assert_eq!(met.backend(), Some("own"), "the service is there: {met:?}");
    for vip in [IpAddr::from(VIP.0), IpAddr::from(VIP.1)] {
        let to = SocketAddr::from((vip, WEB_PORT));
        let arrived = stranger.run(|| request(Transport::Http, to, PATIENCE))?;
        assert_eq!(arrived.outcome, Outcome::TimedOut, "by a link without the program: {vip}");
        let closed = SocketAddr::from((vip, WEB_PORT + 1));
        let arrived = stranger.run(|| request(Transport::Http, closed, PATIENCE))?;
        assert_eq!(arrived.outcome, Outcome::TimedOut, "not even refused: {vip}");
    }
    // Of IPv6 the kernel takes the VIP itself as source towards the VIP (RFC 6724 rule 1): nobody answers, least of all
    // the host's own service.
    let to = SocketAddr::from((VIP.0, WEB_PORT));
    let from_here = edge.run(|| request(Transport::Http, to, PATIENCE))?;
    assert!(matches!(from_here.backend(), Some("b1" | "b2")), "balanced as others: {from_here:?}");
    let to = SocketAddr::from((VIP.1, WEB_PORT));
    let from_here = edge.run(|| request(Transport::Http, to, PATIENCE))?;
    assert_ne!(from_here.backend(), Some("own"), "{from_here:?}");
    // What docs/faults.md says to do about it.
    edge.sysctl("ipv6/conf/eth0/use_oif_addrs_only", "1")?;
    let from_here = edge.run(|| request(Transport::Http, to, PATIENCE))?;
    assert!(matches!(from_here.backend(), Some("b1" | "b2")), "balanced as others: {from_here:?}");
    Ok(())
}

/// VIPs in the prefix of the link to the clients, on a host that answers ARP for nothing but the link's own address.
#[test]
fn vips_of_a_flat_network_are_resolved_whatever_the_host_is_set_to() -> Result<()> {
    let mut lab = Topology::build("e2e_flat", Kind::Frr, 2)?;
    let edge = lab.appliance.namespace().clone();
    edge.sysctl("ipv4/conf/all/arp_ignore", "2")?;
    let vips: [IpAddr; 2] =
        [Ipv4Addr::new(10, 0, 0, 100).into(), "2001:db8::100".parse::<Ipv6Addr>()?.into()];
    let mut service = lab.service("flat", "tcp", WEB_PORT, 8080);
    service.vips = vips.to_vec();
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &[service]))?;
    lab.appliance.start_ready()?;
    // The router's host routes would hide that nobody resolves the VIP on the link.
    lab.router.stop()?;
    for vip in vips {
        until("a backend's answer on the link", REPAIRED, || {
            let to = SocketAddr::from((vip, WEB_PORT));
            let attempt = lab.router_ns.run(|| request(Transport::Http, to, PATIENCE))?;
            ensure!(attempt.backend().is_some(), "{vip}: {attempt:?}");
            Ok(())
        })?;
        let neighbours = lab.router_ns.ip(&["neigh", "show", &vip.to_string()])?;
        let mac = edge.ip(&["-o", "link", "show", "dev", "eth0"])?;
        let mac = mac.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
        assert!(mac.is_some_and(|mac| neighbours.contains(mac)), "{neighbours} is not {mac:?}");
    }
    // A NIC and a switch let only groups in that were joined; a veth lets in all.
    let groups = edge.ip(&["maddr", "show", "dev", "eth0"])?;
    assert!(groups.contains("ff02::1:ff00:100"), "{groups}");
    Ok(())
}
