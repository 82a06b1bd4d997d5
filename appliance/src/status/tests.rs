//! What the snapshot says in situations an operator meets.

use super::*;
use crate::health::Report;
use crate::sources::{Bridge, Bridges};
use sluice_api::{BgpState, Health as Shown, NextHopState, ServiceState, WantedPeer};
use sluice_bgp::{LastErrors, PeerError, PeerState};
use sluice_model::{Desired, Reserved, Verdict};
use std::collections::BTreeSet;
use std::sync::Arc;

const CONFIG: &str = r#"
    name = "edge-1"
    data-plane = { interfaces = ["eth0"] }
    bgp = { asn = 64512, router-id = "10.0.0.2", peer = [{ address = "10.0.0.1", asn = 64513 }] }
    [[service]]
    name = "web"
    vips = ["203.0.113.10"]
    port = 80
    protocol = "tcp"
    health = { type = "http", path = "/healthz" }
    backend = [
      { address = "10.1.0.1", port = 80 },
      { address = "10.1.0.2", port = 80 },
      { address = "10.1.0.3", port = 80, weight = 0 },
    ]
"#;

/// A daemon's knowledge, as far as the snapshot needs it.
struct Scene {
    config: Config,
    merged: Merged,
    observed: Observed,
    health: Health,
    reports: Reports,
    resolutions: BTreeMap<IpAddr, Resolution>,
    peers: Vec<PeerStatus>,
    refused: Refused,
    failures: BTreeMap<String, String>,
    peer_problems: PeerProblems,
    meter: Meter,
}

impl Scene {
    /// Programmed and announced, with these verdicts on the three backends.
    fn new(verdicts: [Verdict; 3]) -> Self {
        let config = crate::config::parse(CONFIG).unwrap();
        let desired = Desired::new(Generation(4), config.services.clone()).0;
        let service = desired.services().next().unwrap().clone();
        let targets = service.backends.iter().map(|b| service.target(b).unwrap());
        let reports: Reports = targets
            .zip(verdicts)
            .map(|(target, verdict)| {
                let reason = (verdict == Verdict::Down).then(|| "connection refused".to_owned());
                (target, Report { verdict, since: SystemTime::UNIX_EPOCH, reason, not_made: None })
            })
            .collect();
        let health = Health {
            verdicts: reports.iter().map(|(t, r)| (t.clone(), r.verdict)).collect(),
            ..Health::default()
        };
        let mut observed = Observed { attached: true, ..Observed::default() };
        for step in sluice_plan::plan(&desired, &observed, &health, &Reserved::default()) {
            step.apply(&mut observed);
        }
        let changed = BTreeMap::from([(service.name, Generation(3))]);
        let peer = PeerStatus {
            address: [10, 0, 0, 1].into(),
            asn: 64513,
            state: PeerState::Established,
            since: SystemTime::UNIX_EPOCH,
            local_address: None,
            router_id: None,
            hold_time: None,
            capabilities: Vec::new(),
            capabilities_sent: Vec::new(),
            capabilities_agreed: Vec::new(),
            families: vec!["ipv4-unicast".to_owned()],
            announced: 1,
            received: 0,
            messages_in: 0,
            messages_out: 0,
            flaps: 0,
            last_error: None,
            errors: LastErrors::default(),
            problems: Vec::new(),
        };
        Scene {
            config,
            merged: Merged { desired, changed, ..Merged::default() },
            observed,
            health,
            reports,
            resolutions: BTreeMap::new(),
            peers: vec![peer],
            refused: Refused::default(),
            failures: BTreeMap::new(),
            peer_problems: PeerProblems::new(),
            meter: Meter::default(),
        }
    }

    fn view(&self) -> View<'_> {
        View {
            now: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(90),
            started: SystemTime::UNIX_EPOCH,
            adopted: false,
            config: &self.config,
            merged: &self.merged,
            observed: &self.observed,
            programmed: Generation(4),
            complete: true,
            health: &self.health,
            refused: &self.refused,
            reports: &self.reports,
            resolutions: &self.resolutions,
            links: Vec::new(),
            peers: &self.peers,
            meter: &self.meter,
            failures: &self.failures,
            peer_problems: &self.peer_problems,
            troubles: Vec::new(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let view = self.view();
        view.snapshot(&view.wanted(), &SourceReports::new())
    }

    fn reports(&self) -> SourceReports {
        let view = self.view();
        view.source_reports(&view.wanted(), &SourceReports::new(), &mut 0)
    }
}

const UP: Verdict = Verdict::Up;
const DOWN: Verdict = Verdict::Down;

#[test]
fn all_is_well() {
    let snapshot = Scene::new([UP, UP, UP]).snapshot();
    assert_eq!(snapshot.status.problems, Vec::<String>::new());
    assert!(snapshot.status.ready);
    assert_eq!((snapshot.status.generation, snapshot.status.uptime_seconds), (4, 90));
    let web = &snapshot.services[0];
    assert_eq!((web.state, web.programmed, web.announced), (ServiceState::Up, true, true));
    assert_eq!((web.generation, web.check.as_deref()), (3, Some("http GET /healthz every 1s")));
    let health: Vec<Shown> = web.backends.iter().map(|b| b.health).collect();
    assert_eq!(health, [Shown::Up, Shown::Up, Shown::Draining]);
    assert_eq!(snapshot.routes[0].peers, ["10.0.0.1"]);
    assert!(snapshot.vips[0].on_link && snapshot.vips[0].announced);
}

#[test]
fn some_backends_are_down() {
    let snapshot = Scene::new([UP, DOWN, UP]).snapshot();
    let web = &snapshot.services[0];
    assert_eq!((web.state, web.announced), (ServiceState::Degraded, true));
    assert_eq!(web.backends[1].reason.as_deref(), Some("connection refused"));
    assert_eq!(snapshot.status.problems, Vec::<String>::new());
}

#[test]
fn all_backends_are_down() {
    let snapshot = Scene::new([DOWN, DOWN, UP]).snapshot();
    let web = &snapshot.services[0];
    assert_eq!((web.state, web.programmed, web.announced), (ServiceState::Down, true, false));
    assert_eq!(snapshot.status.problems, ["service web has no usable backend for 203.0.113.10"]);
    assert!(snapshot.routes.is_empty() && snapshot.vips[0].on_link && !snapshot.vips[0].announced);
}

#[test]
fn a_backend_without_a_route() {
    let mut scene = Scene::new([UP, UP, UP]);
    scene.resolutions.insert([10, 1, 0, 2].into(), Resolution::NoRoute);
    let snapshot = scene.snapshot();
    let backend = &snapshot.services[0].backends[1];
    assert_eq!(backend.next_hop, NextHopState::NoRoute);
    assert_eq!(backend.reason.as_deref(), Some("no route to 10.1.0.2"));
    assert_eq!(snapshot.status.problems, ["no route to 10.1.0.2 (backend of web)"]);
}

#[test]
fn nobody_listens() {
    let mut scene = Scene::new([UP, UP, UP]);
    scene.peers[0].state = PeerState::Active;
    scene.peers[0].last_error = Some("connection refused".to_owned());
    let snapshot = scene.snapshot();
    assert!(!snapshot.status.ready && !snapshot.services[0].announced);
    assert_eq!(
        snapshot.status.problems,
        ["BGP peer 10.0.0.1 is not established: connection refused"]
    );
}

/// A text of the peer's operator outlives the attempts that follow it, in every face of the state.
#[test]
fn why_a_session_was_lost_stays() {
    let mut scene = Scene::new([UP, UP, UP]);
    let error = |text: &str| Some(PeerError { at: SystemTime::UNIX_EPOCH, text: text.to_owned() });
    let peer = &mut scene.peers[0];
    peer.state = PeerState::Active;
    peer.last_error = Some("connection refused".to_owned());
    peer.errors.lost = error("received Cease: \"upgrade\"");
    peer.errors.transport = error("connection refused");
    peer.capabilities = vec!["add-path".to_owned()];
    peer.capabilities_agreed = vec!["4-octet AS".to_owned()];
    let snapshot = scene.snapshot();
    let why = "received Cease: \"upgrade\"; since then: connection refused";
    assert_eq!(snapshot.status.problems, [format!("BGP peer 10.0.0.1 is not established: {why}")]);
    let peer = &snapshot.peers[0];
    let kinds: Vec<_> = peer.errors.iter().map(|error| (error.kind.as_str(), &*error.at)).collect();
    assert_eq!(kinds, [("lost", "1970-01-01T00:00:00Z"), ("transport", "1970-01-01T00:00:00Z")]);
    assert_eq!(
        (&*peer.capabilities[0], &*peer.capabilities_received[0]),
        ("4-octet AS", "add-path")
    );
}

#[test]
fn a_program_that_is_missing_shows() {
    let mut scene = Scene::new([UP, UP, UP]);
    scene.observed.programs.clear();
    assert_eq!(scene.snapshot().services[0].state, ServiceState::Unprogrammed);
}

#[test]
fn a_peer_of_another_source_with_the_same_name_is_another_peer() {
    let mut scene = Scene::new([UP, UP, UP]);
    let peer = |address: &str| WantedPeer {
        name: "tor".into(),
        address: address.into(),
        asn: 64513,
        ..WantedPeer::default()
    };
    let bridge = |address| Arc::new(Bridge { peers: vec![peer(address)], ..Bridge::default() });
    scene.merged.bridges = Bridges::from([
        ("east".to_owned(), bridge("10.0.0.1")),
        ("west".to_owned(), bridge("10.0.0.300")),
    ]);
    let why = BTreeMap::from([("tor".to_owned(), "no such address".to_owned())]);
    scene.peer_problems.insert("west".to_owned(), why);
    let reports = scene.reports();
    let of = |source: &str| reports[source].peers[0].clone();
    assert_eq!((of("east").state, of("east").problem), (BgpState::Established, None));
    assert_eq!(of("west").problem.as_deref(), Some("no such address"));
}

#[test]
fn a_refused_address_is_named_and_the_rest_is_served() {
    use sluice_model::{Holder, reasons};
    let mut scene = Scene::new([Verdict::Up; 3]);
    let text = CONFIG.replace("[\"203.0.113.10\"]", "[\"203.0.113.10\", \"203.0.113.11\"]");
    let services = crate::config::parse(&text).unwrap().services;
    scene.merged.desired = Desired::new(Generation(5), services).0;
    let mut reserved = Reserved::default();
    reserved.hold("203.0.113.11".parse().unwrap(), Holder::Gateway);
    reserved.hold("10.1.0.1".parse().unwrap(), Holder::Own { key: "api.tls.listen" });
    let (health, host) = (scene.health.clone(), BTreeSet::new());
    scene.refused = Refused::new(&scene.merged.desired, &health, &reserved, &host);
    for step in sluice_plan::plan(&scene.merged.desired, &scene.observed, &health, &reserved) {
        step.apply(&mut scene.observed);
    }
    let snapshot = scene.snapshot();
    let service = &snapshot.services[0];
    assert_eq!((service.state, service.programmed), (ServiceState::Degraded, true));
    assert!(snapshot.routes.iter().any(|route| route.prefix == "203.0.113.10/32"));
    let problems: Vec<&str> = snapshot.status.problems.iter().map(String::as_str).collect();
    assert_eq!(
        problems,
        [
            "service web: VIP 203.0.113.11 is refused: it is a default gateway's of this host",
            "service web: backend 10.1.0.1 is left out: it is the appliance's own (api.tls.listen)",
        ]
    );
    let shown = &service.backends[0];
    assert_eq!(shown.health, Shown::Down);
    let why = &scene.refused.backends[&sluice_model::ServiceName("web".into())];
    let why = format!("left out: it {}", reasons(&why[&"10.1.0.1".parse().unwrap()]));
    assert_eq!(shown.reason.as_deref(), Some(why.as_str()));
}

#[test]
fn what_there_is_no_place_for_is_a_problem_of_its_service() {
    let mut scene = Scene::new([Verdict::Up; 3]);
    let web = scene.merged.desired.services().next().unwrap().clone();
    let services = (0..31).map(|n| sluice_model::Service {
        name: sluice_model::ServiceName(format!("p{n:02}")),
        port: 100 + n,
        health: None,
        ..web.clone()
    });
    scene.merged.desired = Desired::new(Generation(5), services).0;
    let (desired, health) = (&scene.merged.desired, &scene.health);
    for step in sluice_plan::plan(desired, &scene.observed, health, &Reserved::default()) {
        step.apply(&mut scene.observed);
    }
    let snapshot = scene.snapshot();
    let programmed: Vec<bool> = snapshot.services.iter().map(|s| s.programmed).collect();
    assert_eq!(programmed, [true; 31], "nothing is left as it was");
    let problems: Vec<&str> = snapshot.status.problems.iter().map(String::as_str).collect();
    assert_eq!(
        problems,
        [
            "service p30: 10.1.0.1:80 is no backend of port 130/tcp of 203.0.113.10: 30 other frontends lead to it, as \
             many as the data plane can tell apart",
            "service p30 has no usable backend for 203.0.113.10",
        ]
    );
}
