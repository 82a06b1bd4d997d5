//! The acts of the demo, in the order in which they are played.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stage::{Stage, time};
use crate::lab::backend::OTHER_HTTP_PORT;
use crate::lab::client::{Attempt, Outcome, Transport, request};
use crate::lab::topology::{APPLIANCE, CLIENT, Topology, VIP, vip_routes};
use crate::lab::traffic::{Report, Traffic, burst};
use crate::lab::until;

/// How long anything of the demo may take before it gives up.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long a client waits for an answer; longer than the kernel's first retransmission of a SYN would hide a loss.
const PATIENCE: Duration = Duration::from_millis(900);
/// Requests of background traffic: one each so often, for each of the four targets.
const PACE: Duration = Duration::from_millis(5);

fn shown(transport: Transport, v6: bool) -> String {
    let transport = if transport == Transport::Http { "HTTP" } else { "UDP " };
    format!("{transport} over {}", if v6 { "IPv6" } else { "IPv4" })
}

fn shares(report: &Report) -> String {
    let shares: Vec<String> =
        report.answers.iter().map(|(name, n)| format!("{name} {n}")).collect();
    shares.join(", ")
}

fn health_of(lab: &Topology, address: &str) -> Result<Vec<String>> {
    let backends: Value = lab.appliance.api("backends")?;
    let list = backends.as_array().context("backends is no list")?;
    Ok(list
        .iter()
        .filter(|backend| backend.get("address").and_then(Value::as_str) == Some(address))
        .filter_map(|backend| backend.get("health").and_then(Value::as_str).map(str::to_owned))
        .collect())
}

fn wait_health(lab: &Topology, index: usize, wanted: &str) -> Result<Duration> {
    let host = lab.hosts.get(index).context("no such backend")?;
    let (v4, v6) = host.addresses;
    until(&format!("{} to be {wanted}", host.name), DEADLINE, || {
        let mut seen = health_of(lab, &v4.to_string())?;
        seen.extend(health_of(lab, &v6.to_string())?);
        ensure!(!seen.is_empty() && seen.iter().all(|health| health == wanted), "it is {seen:?}");
        Ok(())
    })
    .map(|((), took)| took)
}

/// The appliance starts and the router learns.
pub(super) fn arrive(stage: &mut Stage, lab: &mut Topology) -> Result<()> {
    stage.act("The appliance starts");
    let text = lab.appliance.config(&lab.settings(), &lab.services());
    lab.appliance.write_config(&text)?;
    let start = Instant::now();
    lab.appliance.start()?;
    lab.wait_routes(&vip_routes(), DEADLINE)?;
    let learned = start.elapsed();
    lab.appliance.wait_ready(DEADLINE)?;
    let status: Value = lab.appliance.api("status")?;
    let links: Vec<String> = status
        .get("links")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|link| format!("{} {}", word(link, "name"), word(link, "xdp")))
        .collect();
    stage.check(!links.is_empty(), &format!("sluice run: XDP on {}", links.join(", ")), "");
    let routes = lab.router.routes()?;
    for net in vip_routes() {
        let hop = routes.get(&net).and_then(|route| route.next_hop);
        let right = if net.addr().is_ipv4() { APPLIANCE.0.into() } else { APPLIANCE.1.into() };
        let via = hop.map_or_else(|| "nowhere".to_owned(), |hop| hop.to_string());
        stage.check(
            hop == Some(right),
            &format!("FRR learned {net} by BGP, via {via}"),
            time(learned),
        );
    }
    stage.keep("`sluice run` to both routes in FRR", time(learned));
    Ok(())
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// All backends answer and see the client.
pub(super) fn balance(stage: &mut Stage, lab: &mut Topology) -> Result<()> {
    stage.act("The client sends requests to the VIPs");
    let mut whole = 0;
    for target in lab.targets() {
        let report = burst(&lab.client, &[target], 60, PATIENCE)?;
        let all = report.failures.is_empty() && report.answers.len() == lab.hosts.len();
        whole += report.answered() - report.disguised;
        stage.check(
            all,
            &format!(
                "{}: {} of {} answered: {}",
                shown(target.0, target.1.is_ipv6()),
                report.answered(),
                report.sent,
                shares(&report)
            ),
            format!("{} each", time(report.mean())),
        );
    }
    stage.check(
        whole == 240,
        &format!(
            "the backends saw the client itself: {} and {}, its own ports",
            CLIENT.0, CLIENT.1
        ),
        format!("{whole} of 240"),
    );
    Ok(())
}

/// One server stops under traffic.
pub(super) fn one_backend_dies(stage: &mut Stage, lab: &mut Topology) -> Result<()> {
    stage.act("A backend dies under traffic");
    let traffic = Traffic::start(&lab.client, &lab.targets(), PACE, PATIENCE);
    std::thread::sleep(Duration::from_millis(500));
    let died = Instant::now();
    lab.hosts.first_mut().context("no backends")?.stop()?;
    wait_health(lab, 0, "down")?;
    let marked = died.elapsed();
    stage.did("b1's server stopped: marked down by its health check", time(marked));
    let verdict = Instant::now();
    std::thread::sleep(Duration::from_secs(1));
    let report = traffic.stop()?;
    let last = report.last_failure_after(died);
    stage.did(
        &format!("requests that failed until then: {}", report.failures_after(died).len()),
        last.map_or_else(|| "none".to_owned(), |last| format!("last {}", time(last))),
    );
    let later = report.failures_after(verdict);
    stage.check(
        later.is_empty(),
        "requests that failed once it was marked down",
        format!("{} in 1 s", later.len()),
    );
    stage.keep("backend death to marked down (2 checks, 200 ms apart)", time(marked));
    let last = last.map_or_else(|| "none failed".to_owned(), time);
    stage.keep("backend death to last failed request", last);
    Ok(())
}

/// All servers stop: the route goes, the client is refused.
pub(super) fn all_backends_die(stage: &mut Stage, lab: &mut Topology) -> Result<()> {
    stage.act("All backends die");
    let died = Instant::now();
    for host in lab.hosts.iter_mut().skip(1) {
        host.stop()?;
    }
    lab.router.wait_no_routes(&vip_routes(), DEADLINE)?;
    stage.did("all servers stopped: FRR lost both routes", time(died.elapsed()));
    stage.keep("last backend's death to both routes gone from FRR", time(died.elapsed()));
    for (transport, to) in lab.targets() {
        let attempt = lab.client.run(|| request(transport, to, PATIENCE))?;
        let how = match transport {
            Transport::Http => "connection refused (RST)",
            Transport::Udp => "refused (ICMP port unreachable)",
        };
        refused(stage, &format!("{}: {how}", shown(transport, to.is_ipv6())), &attempt);
    }
    Ok(())
}

fn refused(stage: &mut Stage, what: &str, attempt: &Attempt) {
    let refused = attempt.outcome == Outcome::Refused;
    let figure = if refused { time(attempt.took) } else { attempt.outcome.to_string() };
    stage.check(refused, what, figure);
}

/// The servers start: announced again.
pub(super) fn backends_return(stage: &mut Stage, lab: &mut Topology) -> Result<()> {
    stage.act("The backends return");
    for host in &mut lab.hosts {
        host.start()?;
    }
    let back = Instant::now();
    lab.wait_routes(&vip_routes(), DEADLINE)?;
    stage.did("servers started: FRR has both routes again", time(back.elapsed()));
    for index in 0..lab.hosts.len() {
        wait_health(lab, index, "up")?;
    }
    let report = burst(&lab.client, &lab.targets(), 30, PATIENCE)?;
    let right = report.failures.is_empty() && report.answers.len() == lab.hosts.len();
    stage.check(
        right,
        &format!("{} of {} requests answered: {}", report.answered(), report.sent, shares(&report)),
        format!("{} each", time(report.mean())),
    );
    Ok(())
}

/// SIGKILL under traffic, then a new daemon.
pub(super) fn the_daemon_is_killed(stage: &mut Stage, lab: &mut Topology) -> Result<()> {
    stage.act("The daemon is killed (-9) under traffic");
    let traffic = Traffic::start(&lab.client, &lab.targets(), PACE, PATIENCE);
    std::thread::sleep(Duration::from_millis(500));
    lab.appliance.kill()?;
    let killed = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let alone = traffic.so_far();
    let lost = alone.failures_after(killed).len();
    stage.check(
        lost == 0 && alone.answered() > 0,
        "without a daemon, XDP goes on balancing: requests that failed",
        format!("{lost} in 2 s"),
    );
    let routes = lab.router.routes()?;
    let kept = vip_routes().iter().filter(|net| routes.contains_key(*net)).count();
    stage.check(kept == 2, "FRR keeps the routes (graceful restart)", format!("{kept} of 2"));
    let start = Instant::now();
    lab.appliance.start()?;
    lab.appliance.wait_ready(DEADLINE)?;
    stage.did("sluice run again: ready", time(start.elapsed()));
    let status: Value = lab.appliance.api("status")?;
    let adopted = status.get("adopted") == Some(&Value::Bool(true));
    stage.check(adopted, "it adopted maps, links and VIPs as it found them", "");
    for peer in [APPLIANCE.0.into(), APPLIANCE.1.into()] {
        lab.router.wait_established(peer, DEADLINE)?;
    }
    until("FRR to hold fresh routes", DEADLINE, || {
        let routes = lab.router.routes()?;
        for net in vip_routes() {
            let route = routes.get(&net).with_context(|| format!("{net} is gone"))?;
            ensure!(!route.stale, "{net} is stale");
        }
        Ok(())
    })?;
    stage.did("both sessions up again, routes no longer stale", time(start.elapsed()));
    stage.keep("restarted daemon to fresh routes in FRR", time(start.elapsed()));
    std::thread::sleep(Duration::from_millis(500));
    let report = traffic.stop()?;
    stage.check(
        report.failures.is_empty(),
        &format!("requests from before the kill to now: {} sent, failed", report.sent),
        format!("{}", report.failures.len()),
    );
    stage.keep("requests that failed by kill -9 and restart", report.failures.len().to_string());
    Ok(())
}

/// SIGHUP with one more service, then with nonsense.
pub(super) fn reload(stage: &mut Stage, lab: &mut Topology) -> Result<()> {
    stage.act("The configuration is reloaded (SIGHUP)");
    let mut services = lab.services();
    let mut more = lab.service("more", "tcp", 80, OTHER_HTTP_PORT);
    more.vips = vec!["203.0.113.11".parse()?];
    more.backends.retain(std::net::SocketAddr::is_ipv4);
    services.push(more);
    lab.appliance.write_config(&lab.appliance.config(&lab.settings(), &services))?;
    let net = "203.0.113.11/32".parse()?;
    let start = Instant::now();
    lab.appliance.reload()?;
    lab.wait_routes(&[net], DEADLINE)?;
    stage.did("one service more: FRR learned 203.0.113.11/32", time(start.elapsed()));
    stage.keep("reload to the new route in FRR", time(start.elapsed()));
    lab.appliance.write_config("[api]\nlisten = \"nowhere\"\ntypo = 1\n")?;
    lab.appliance.reload()?;
    until("the refusal in the log", DEADLINE, || {
        ensure!(lab.appliance.log().contains("typo"), "nothing about the unknown key");
        Ok(())
    })?;
    let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
    let routes = lab.router.routes()?.len();
    stage.check(
        report.failures.is_empty() && routes == 3,
        "a broken file: refused with its errors, nothing changed, requests failed",
        report.failures.len().to_string(),
    );
    // Back to what the file said at the start, for whoever stays.
    let text = lab.appliance.config(&lab.settings(), &lab.services());
    lab.appliance.write_config(&text)?;
    lab.appliance.reload()?;
    lab.router.wait_no_routes(&[net], DEADLINE)?;
    stage.did("the first file again: FRR lost 203.0.113.11/32", "");
    Ok(())
}

/// SIGTERM: withdrawn and clean.
pub(super) fn leave(stage: &mut Stage, lab: &mut Topology) -> Result<()> {
    stage.act("The appliance is stopped (SIGTERM)");
    let start = Instant::now();
    let status = lab.appliance.stop()?;
    stage.check(status.success(), &format!("sluice ended: {status}"), time(start.elapsed()));
    lab.router.wait_no_routes(&vip_routes(), DEADLINE)?;
    stage.did("FRR lost both routes", time(start.elapsed()));
    let edge = lab.appliance.namespace();
    let addresses = edge.ip(&["addr", "show", "dev", "lo"])?;
    let vips = [VIP.0.to_string(), VIP.1.to_string()];
    let gone = !vips.iter().any(|vip| addresses.contains(vip));
    stage.check(gone, "no VIP left on lo", "");
    let links = edge.ip(&["link", "show"])?;
    stage.check(!links.contains("prog/xdp"), "no XDP program left on a link", "");
    let pins = std::fs::read_dir(lab.appliance.pin_dir()).map_or(0, Iterator::count);
    stage.check(pins == 0, "no pins left", pins.to_string());
    Ok(())
}
