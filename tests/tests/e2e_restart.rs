//! Either side of a session ends, crashes, freezes or comes back, with traffic running.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::topology::{APPLIANCE, ROUTER, Topology, VIP, vip_routes};
use sluice_tests::lab::traffic::{Traffic, burst};
use sluice_tests::lab::until;

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);
const PACE: Duration = Duration::from_millis(5);

fn both_established(lab: &Topology, deadline: Duration) -> Result<()> {
    lab.router.wait_established(APPLIANCE.0.into(), deadline)?;
    lab.router.wait_established(APPLIANCE.1.into(), deadline)?;
    Ok(())
}

fn killed_and_adopted(name: &str, kind: Kind) -> Result<()> {
    let mut lab = Topology::build(name, kind, 2)?;
    lab.start_standard()?;
    let traffic = Traffic::start(&lab.client, &lab.targets(), PACE, PATIENCE);
    traffic.wait_answered(50, SOON)?;
    lab.appliance.kill()?;
    traffic.wait_answered(200, SOON)?;
    let routes = lab.router.routes()?;
    assert_eq!(routes.len(), 2, "{kind} keeps the routes of a crashed daemon: {routes:?}");
    lab.appliance.start_ready()?;
    let status: sluice_api::Status = lab.appliance.api("status")?;
    assert!(status.adopted, "{status:?}");
    both_established(&lab, Duration::from_secs(60))?;
    until("fresh routes", SOON, || {
        let routes = lab.router.routes()?;
        for net in vip_routes() {
            let route = routes.get(&net).with_context(|| format!("{net} is gone"))?;
            ensure!(!route.stale, "{net} is stale");
        }
        Ok(())
    })?;
    traffic.wait_answered(50, SOON)?;
    let report = traffic.stop_unharmed()?;
    assert_eq!(report.disguised, 0);
    Ok(())
}

#[test]
fn kill_and_restart_lose_no_request_with_frr() -> Result<()> {
    killed_and_adopted("e2e_kill_frr", Kind::Frr)
}

#[test]
fn kill_and_restart_lose_no_request_with_bird() -> Result<()> {
    killed_and_adopted("e2e_kill_bird", Kind::Bird)
}

#[test]
fn kill_and_restart_lose_no_request_with_gobgp() -> Result<()> {
    killed_and_adopted("e2e_kill_gobgp", Kind::GoBgp)
}

#[test]
fn what_changed_while_the_daemon_was_dead_is_put_right() -> Result<()> {
    let mut lab = Topology::build("e2e_dead_change", Kind::Frr, 2)?;
    let mut services = lab.services();
    let mut gone = lab.service("gone", "tcp", 80, 8080);
    gone.vips = vec!["203.0.113.99".parse()?];
    gone.backends.retain(std::net::SocketAddr::is_ipv4);
    services.push(gone);
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &services))?;
    lab.appliance.start_ready()?;
    let net = "203.0.113.99/32".parse()?;
    lab.wait_routes(&[net], SOON)?;
    lab.appliance.kill()?;
    // An operator's own address, and a service taken out, both behind the daemon's back.
    let edge = lab.appliance.namespace();
    edge.ip(&["addr", "add", "192.0.2.77/32", "dev", "lo"])?;
    edge.ip(&["addr", "del", &format!("{}/32", VIP.0), "dev", "lo"])?;
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &lab.services()))?;
    lab.appliance.start_ready()?;
    lab.router.wait_no_routes(&[net], SOON)?;
    until("the addresses to be right", SOON, || {
        let lo = lab.appliance.namespace().ip(&["addr", "show", "dev", "lo"])?;
        ensure!(lo.contains(&VIP.0.to_string()), "the VIP is not back: {lo}");
        ensure!(!lo.contains("203.0.113.99"), "the old VIP is still there: {lo}");
        ensure!(lo.contains("192.0.2.77"), "a foreign address was removed: {lo}");
        Ok(())
    })?;
    let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    Ok(())
}

fn router_returns(name: &str, kind: Kind, crash: bool) -> Result<()> {
    let mut lab = Topology::build(name, kind, 2)?;
    lab.start_standard()?;
    if crash {
        lab.router.kill()?;
    } else {
        lab.router.stop()?;
    }
    until("the appliance to see both sessions down", SOON, || {
        let peers: Vec<sluice_api::BgpPeer> = lab.appliance.api("bgp/peers")?;
        let up = peers.iter().filter(|peer| format!("{:?}", peer.state) == "Established").count();
        ensure!(peers.len() == 2 && up == 0, "{peers:?}");
        Ok(())
    })?;
    lab.router.start_again()?;
    both_established(&lab, Duration::from_secs(60))?;
    lab.wait_routes(&vip_routes(), SOON)?;
    let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    Ok(())
}

#[test]
fn a_stopped_frr_comes_back() -> Result<()> {
    router_returns("e2e_stop_frr", Kind::Frr, false)
}

#[test]
fn a_crashed_frr_comes_back() -> Result<()> {
    router_returns("e2e_crash_frr", Kind::Frr, true)
}

#[test]
fn a_stopped_bird_comes_back() -> Result<()> {
    router_returns("e2e_stop_bird", Kind::Bird, false)
}

#[test]
fn a_crashed_gobgp_comes_back() -> Result<()> {
    router_returns("e2e_crash_gobgp", Kind::GoBgp, true)
}

#[test]
fn a_frozen_router_is_given_up_after_the_hold_time() -> Result<()> {
    let mut lab = Topology::build("e2e_hold", Kind::Bird, 1)?;
    lab.start_standard()?;
    lab.router.pause()?;
    // Hold time in the lab: 9 s.
    until("both sessions to expire", Duration::from_secs(20), || {
        let peers: Vec<sluice_api::BgpPeer> = lab.appliance.api("bgp/peers")?;
        let up = peers.iter().filter(|peer| format!("{:?}", peer.state) == "Established").count();
        ensure!(up == 0, "{peers:?}");
        Ok(())
    })?;
    let peers: Vec<sluice_api::BgpPeer> = lab.appliance.api("bgp/peers")?;
    let words: Vec<String> =
        peers.iter().filter_map(|peer| peer.last_error.clone()).map(|e| e.to_lowercase()).collect();
    assert!(
        words.len() == 2 && words.iter().all(|error| error.contains("hold")),
        "the reason is told for both: {peers:?}"
    );
    lab.router.resume()?;
    both_established(&lab, Duration::from_secs(60))?;
    lab.wait_routes(&vip_routes(), SOON)?;
    Ok(())
}

#[test]
fn a_cleared_session_is_up_again_with_its_routes() -> Result<()> {
    let mut lab = Topology::build("e2e_clear", Kind::Frr, 1)?;
    lab.start_standard()?;
    lab.router.clear(APPLIANCE.0.into())?;
    until("the flap to be counted", SOON, || {
        let peers: Vec<sluice_api::BgpPeer> = lab.appliance.api("bgp/peers")?;
        let flaps: u64 =
            peers.iter().filter(|peer| peer.address == ROUTER.0.to_string()).map(|p| p.flaps).sum();
        ensure!(flaps > 0, "{peers:?}");
        Ok(())
    })?;
    both_established(&lab, SOON)?;
    lab.wait_routes(&vip_routes(), SOON)?;
    Ok(())
}
