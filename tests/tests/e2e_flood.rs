//! Connections without end: who has credentials is served, and probes, routes and packets are not disturbed.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
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

/// What the floods have done.
#[derive(Default)]
struct Done {
    opened: AtomicUsize,
    /// Connections with a whole handshake.
    shaken: AtomicUsize,
    stop: AtomicBool,
}

/// Opens connections and keeps the newest ones, until told to stop. Of three one says nothing, one begins a handshake, and
/// one completes it and then asks for nothing.
fn flood(
    from: &Netns,
    tls: &Arc<ClientConfig>,
    done: &Arc<Done>,
) -> std::thread::JoinHandle<Result<()>> {
    let (tls, done) = (Arc::clone(tls), Arc::clone(done));
    from.thread(move || {
        let mut held = VecDeque::new();
        while !done.stop.load(Ordering::Relaxed) {
            if let Ok(mut stream) = TcpStream::connect_timeout(&API, Duration::from_secs(1)) {
                // Each may be closed already.
                match done.opened.fetch_add(1, Ordering::Relaxed) % 3 {
                    0 => _ = stream.write_all(&HALF_A_HELLO),
                    1 if shake_hands(&tls, &mut stream).is_ok() => {
                        done.shaken.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => {}
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

/// A client that believes the lab's authority and shows no certificate.
fn without_credentials(authority: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn shake_hands(tls: &Arc<ClientConfig>, stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let name = ServerName::from(API.ip());
    let mut connection = ClientConnection::new(Arc::clone(tls), name)?;
    while connection.is_handshaking() {
        connection.complete_io(stream)?;
    }
    Ok(())
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

    let tls = without_credentials(&caller.authority)?;
    let done: Arc<Done> = Arc::default();
    let floods = [&first.ns, &second.ns].map(|ns| flood(ns, &tls, &done));
    until("the flood to be there", 3 * SOON, || {
        let (opened, shaken) = (&done.opened, &done.shaken);
        let (opened, shaken) = (opened.load(Ordering::Relaxed), shaken.load(Ordering::Relaxed));
        ensure!(opened >= 2 * HELD, "{opened} connections");
        ensure!(shaken >= HELD / 2, "{shaken} handshakes of {opened}");
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
    done.stop.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().ok().context("a flood has panicked")??;
    }
    println!(
        "{} connections, {} handshakes; a call takes {calm:?} without them, with them {:?} to {:?}; log: {} lines",
        done.opened.load(Ordering::Relaxed),
        done.shaken.load(Ordering::Relaxed),
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
