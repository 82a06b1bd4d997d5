//! Connections without end: who has credentials is served, and probes, routes and packets are not disturbed.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice_api::{BgpPeer, BgpState, Health, Service};
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::source::{self, Caller};
use sluice_tests::lab::topology::{Topology, vip_routes};
use sluice_tests::lab::traffic::burst;
use sluice_tests::lab::{Netns, until};

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);
/// What a process gets unless somebody says otherwise.
const DESCRIPTORS: u32 = 1024;
/// Connections that each of the two sources keeps open.
const HELD: usize = 1300;
const API: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 1)), 8443);

/// The head of a TLS record whose rest never comes.
const HALF_A_HELLO: [u8; 5] = [22, 3, 1, 2, 0];

/// Opens connections and keeps the newest ones, until told to stop. Every second one begins a handshake.
fn flood(
    from: &Netns,
    opened: &Arc<AtomicUsize>,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<Result<()>> {
    let (opened, stop) = (Arc::clone(opened), Arc::clone(stop));
    from.thread(move || {
        let mut held = VecDeque::new();
        while !stop.load(Ordering::Relaxed) {
            if let Ok(mut stream) = TcpStream::connect_timeout(&API, Duration::from_secs(1)) {
                let count = opened.fetch_add(1, Ordering::Relaxed);
                if count.is_multiple_of(2) {
                    // It may be closed already.
                    _ = stream.write_all(&HALF_A_HELLO);
                }
                held.push_back(stream);
            }
            if held.len() > HELD {
                held.pop_front();
                // The load is bounded: this goes on while others are asked.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    })
}

#[test]
fn connections_without_credentials_starve_nobody() -> Result<()> {
    // The flood is held by this process.
    let pid = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--nofile=8192:8192"]).status()?;
    ensure!(raised.success(), "the limit of descriptors cannot be raised");
    let mut lab = Topology::build("e2e_flood", Kind::Frr, 3)?;
    let text = lab.appliance.config(&lab.settings(), &lab.services());
    lab.appliance.write_config(&format!("{text}{}", source::section(&lab.lab)?))?;
    lab.appliance.start_with_descriptors(DESCRIPTORS)?;
    lab.wait_routes(&vip_routes(), SOON)?;
    let [friend, first, second] = lab.hosts.as_slice() else { anyhow::bail!("not three hosts") };
    let caller = Caller::new(&friend.ns, &lab.lab);
    let call = || -> Result<Duration> {
        let began = Instant::now();
        let answer = caller.send("GET", "/api/v1/status", None)?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
        Ok(began.elapsed())
    };
    let calm = call()?;

    let (opened, stop) = (Arc::default(), Arc::default());
    let floods = [&first.ns, &second.ns].map(|ns| flood(ns, &opened, &stop));
    until("the flood to be there", SOON, || {
        let opened = opened.load(Ordering::Relaxed);
        ensure!(opened >= 2 * HELD, "{opened} connections");
        Ok(())
    })?;
    let mut took = Vec::new();
    for _ in 0..10 {
        took.push(call().context("under the flood")?);
    }
    took.sort();
    let report = burst(&lab.client, &lab.targets(), 10, PATIENCE)?;
    // Asked over loopback: the plain listener has its own room.
    let services: Vec<Service> = lab.appliance.api("services")?;
    let peers: Vec<BgpPeer> = lab.appliance.api("bgp/peers")?;
    let problems = lab.appliance.api::<sluice_api::Status>("status")?.problems;
    let log = lab.appliance.log();
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().ok().context("a flood has panicked")??;
    }
    println!(
        "{} connections; a call takes {calm:?} without them, with them {:?} to {:?}; log: {} lines",
        opened.load(Ordering::Relaxed),
        took.first(),
        took.last(),
        log.lines().count(),
    );

    assert!(report.failures.is_empty(), "{:?}", report.failures);
    for backend in services.iter().flat_map(|service| &service.backends) {
        assert!(matches!(backend.health, Health::Up | Health::Unchecked), "{backend:?}");
    }
    assert!(!log.contains("Down"), "no backend was ever down:\n{log}");
    for peer in &peers {
        assert_eq!((peer.state, peer.flaps), (BgpState::Established, 0), "{peer:?}");
    }
    let told = problems.iter().any(|problem| problem.starts_with("API: connections without"));
    assert!(told, "{problems:?}");
    Ok(())
}
