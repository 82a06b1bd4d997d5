//! Bridges at the appliance's API: what they wish is served, kept and reported; what is wrong is refused and harms nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sluice_api::{BgpPeer, BgpState};
use sluice_tests::demo::source_measure;
use sluice_tests::lab::backend;
use sluice_tests::lab::certificates::Authority;
use sluice_tests::lab::client::{Outcome, Transport, request};
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::source::{self, Caller};
use sluice_tests::lab::topology::{ROUTER, ROUTER_ASN, Topology, VIP, WEB_PORT, vip_routes};
use sluice_tests::lab::until;

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);

/// An appliance that lets bridges in, and a caller on the first backend's machine. `more` is added to its configuration.
fn bridged(name: &str, more: &str) -> Result<(Topology, Caller)> {
    let mut topology = Topology::build(name, Kind::Frr, 2)?;
    let text = topology.appliance.config(&topology.settings(), &[]);
    let text = format!("{text}{}{more}", source::section(&topology.lab)?);
    topology.appliance.write_config(&text)?;
    topology.appliance.start_ready()?;
    let caller = Caller::new(&topology.hosts.first().context("no host")?.ns, &topology.lab);
    Ok((topology, caller))
}

/// The standard HTTP service on both VIPs, over these hosts.
fn web(topology: &Topology, name: &str, hosts: &[usize]) -> Value {
    let hosts = hosts.iter().filter_map(|&at| topology.hosts.get(at));
    let backends: Vec<Value> = hosts
        .flat_map(|host| [host.addresses.0.to_string(), host.addresses.1.to_string()])
        .map(|address| json!({ "address": address, "port": backend::HTTP_PORT, "weight": 1 }))
        .collect();
    json!({
        "name": name, "vips": [VIP.0.to_string(), VIP.1.to_string()], "port": WEB_PORT,
        "protocol": "tcp", "backends": backends,
    })
}

fn state(owner: &str, generation: u64, services: &[Value]) -> Value {
    json!({ "owner": owner, "generation": generation, "services": services })
}

/// What a report says of a service.
fn said(report: &Value, name: &str) -> Result<Value> {
    let services = report.pointer("/services").and_then(Value::as_array).context("no services")?;
    let found = services.iter().find(|service| service["name"] == name);
    found.cloned().with_context(|| format!("no word about {name}: {report}"))
}

fn is_served(report: &Value, name: &str) -> Result<()> {
    let said = said(report, name)?;
    let wanted = [("programmed", json!(true)), ("announced", json!(true)), ("state", json!("up"))];
    let good = wanted.iter().all(|(key, value)| said.get(key) == Some(value));
    ensure!(good && said.get("problem").is_none(), "{said}");
    Ok(())
}

fn ask(topology: &Topology, to: SocketAddr) -> Result<Outcome> {
    topology.client.run(|| request(Transport::Http, to, PATIENCE).outcome)
}

/// The client is answered by a host on both VIPs.
fn answers(topology: &Topology, host: &str) -> Result<()> {
    for vip in [SocketAddr::from((VIP.0, WEB_PORT)), SocketAddr::from((VIP.1, WEB_PORT))] {
        until(&format!("{vip} to be answered by {host}"), SOON, || match ask(topology, vip)? {
            Outcome::Answered { seen, .. } if seen.backend == host => Ok(()),
            other => anyhow::bail!("{other}"),
        })?;
    }
    Ok(())
}

#[test]
fn a_wish_is_served_changed_kept_and_taken_away() -> Result<()> {
    let (mut topology, caller) = bridged("src_wish", "")?;
    caller.wish("PUT", "prod", &state("uid-1", 5, &[web(&topology, "prod/web", &[0])]))?;
    topology.wait_routes(&vip_routes(), SOON)?;
    answers(&topology, "b1")?;
    until("the report to say so", SOON, || is_served(&caller.report("prod")?, "prod/web"))?;

    // A poll waits for news, and brings them.
    let before = caller.report("prod")?;
    let poll = format!("/api/v1/sources/prod?revision={}", before["revision"]);
    let news = std::thread::spawn({
        let caller = caller.clone();
        move || caller.send("GET", &poll, None)
    });
    let change = |base: u64, generation: u64, upsert: &[Value]| json!({ "owner": "uid-1", "base": base, "generation": generation, "upsert": upsert, "remove": [] });
    let moved = web(&topology, "prod/web", &[1]);
    let report = caller.wish("PATCH", "prod", &change(5, 6, std::slice::from_ref(&moved)))?;
    assert_eq!(report["generation"], 6);
    answers(&topology, "b2")?;
    let news = news.join().ok().context("the poll has panicked")??;
    let news: Value = serde_json::from_str(&news.body)?;
    assert_ne!(news["revision"], before["revision"], "{news}");

    // One bad service says why, and harms no other.
    let bad = json!({ "name": "prod/bad", "vips": ["203.0.113.300"], "port": 1, "protocol": "tcp", "backends": [] });
    caller.wish("PATCH", "prod", &change(6, 7, &[bad]))?;
    until("the bad one to be reported", SOON, || {
        let report = caller.report("prod")?;
        let bad = said(&report, "prod/bad")?;
        let why = bad["problem"].as_str().context("no problem")?;
        ensure!(why.contains("203.0.113.300") && bad["programmed"] == false, "{bad}");
        is_served(&report, "prod/web")
    })?;

    // The past is refused, with what to do.
    for (method, body, status, word) in [
        ("PATCH", change(5, 8, &[]), 409, "PUT everything"),
        ("PATCH", change(7, 7, &[]), 409, "not above"),
        ("PUT", state("uid-1", 4, &[]), 409, "older"),
        ("PUT", state("uid-1", 7, &[]), 409, "count on"),
        ("PUT", state("uid-2", 9, &[]), 409, "belongs to"),
        ("PATCH", json!({ "nonsense": 1 }), 422, "owner is missing"),
        ("PUT", state("uid-1\u{1b}[2J", 9, &[]), 422, "U+001B"),
        ("PUT", state(&"o".repeat(129), 9, &[]), 422, "128"),
    ] {
        let (got, why) = caller.refused(method, "prod", &body.to_string())?;
        assert!(got == status && why.contains(word), "{method} {body}: {got} {why}");
    }
    answers(&topology, "b2")?;

    // Whoever restarts, what was wished stays.
    topology.appliance.kill()?;
    topology.appliance.start_ready()?;
    topology.wait_routes(&vip_routes(), SOON)?;
    answers(&topology, "b2")?;
    until("the report to be back", SOON, || {
        let report = caller.report("prod")?;
        ensure!(report["generation"] == 7 && report["owner"] == "uid-1", "{report}");
        ensure!(said(&report, "prod/bad")?["problem"].is_string(), "{report}");
        is_served(&report, "prod/web")
    })?;

    assert_eq!(caller.send("DELETE", "/api/v1/sources/prod", None)?.status, 204);
    until("the routes to be gone", SOON, || {
        let routes = topology.router.routes()?;
        ensure!(vip_routes().iter().all(|net| !routes.contains_key(net)), "{routes:?}");
        Ok(())
    })?;
    assert_eq!(caller.send("GET", "/api/v1/sources/prod", None)?.status, 404);
    assert_eq!(caller.send("DELETE", "/api/v1/sources/prod", None)?.status, 404);
    Ok(())
}

#[test]
fn only_who_may_is_let_in() -> Result<()> {
    let (topology, caller) = bridged("src_may", "")?;
    let dir = topology.lab.dir().to_owned();
    std::fs::write(dir.join("other"), "another-long-token\n")?;
    let limited = format!(
        "\n[[api.tls.token]]\nname = \"other\"\nfile = \"{}\"\nsources = [\"mine\"]\n",
        dir.join("other").display()
    );
    let text = std::fs::read_to_string(topology.appliance.config_path())?;
    topology.appliance.write_config(&format!("{text}{limited}"))?;
    topology.appliance.reload()?;
    let with = |token: Option<&str>| Caller { token: token.map(str::to_owned), ..caller.clone() };
    let wish = state("uid", 1, &[]);
    until("the new token to count", SOON, || {
        with(Some("another-long-token")).wish("PUT", "mine", &wish).map(drop)
    })?;

    let body = wish.to_string();
    for (token, status) in
        [(None, 401), (Some("wrong-token-here"), 401), (Some("another-long-token"), 403)]
    {
        let (got, why) = with(token).refused("PUT", "prod", &body)?;
        assert_eq!(got, status, "{token:?}: {why}");
        assert_eq!(
            with(token).send("GET", "/api/v1/sources/prod", None)?.status,
            if status == 403 { 404 } else { status }
        );
    }
    let certificate = Some((dir.join("client.crt"), dir.join("client.key")));
    let certified = Caller { token: None, certificate, ..caller.clone() };
    certified.wish("PUT", "prod", &wish)?;

    // A client that does not know the authority sends nothing.
    std::fs::write(dir.join("stranger.crt"), Authority::new("stranger")?.pem())?;
    let stranger = Caller { authority: dir.join("stranger.crt"), ..caller.clone() };
    let error = stranger.report("prod").expect_err("a wrong authority was believed");
    assert!(error.to_string().contains("certificate"), "{error}");
    // A certificate that nobody here signed opens nothing.
    Authority::new("stranger")?.client(&dir, "forged")?;
    let forged = Some((dir.join("forged.crt"), dir.join("forged.key")));
    let forged = Caller { token: None, certificate: forged, ..caller.clone() };
    assert!(forged.report("prod").is_err(), "a forged certificate was let in");

    // A token that is revoked while its owner waits for news: the poll ends and nothing more is answered.
    let revision = caller.report("prod")?["revision"].clone();
    let poll = std::thread::spawn({
        let caller = caller.clone();
        move || caller.send("GET", &format!("/api/v1/sources/prod?revision={revision}"), None)
    });
    std::fs::write(dir.join("token"), "quite-another-token\n")?;
    until("the old token to be refused", SOON, || {
        let got = caller.send("GET", "/api/v1/sources/prod", None)?.status;
        ensure!(got == 401, "{got}");
        Ok(())
    })?;
    let last = poll.join().ok().context("the poll has panicked")?;
    assert!(last.is_err() || last.as_ref().is_ok_and(|answer| answer.status == 401), "{last:?}");
    with(Some("quite-another-token")).report("prod")?;
    Ok(())
}

#[test]
fn two_clusters_share_an_appliance() -> Result<()> {
    let (mut topology, caller) = bridged("src_two", "")?;
    caller.wish("PUT", "west", &state("uid-w", 1, &[web(&topology, "west/web", &[0])]))?;
    answers(&topology, "b1")?;
    // The other asks for what is taken, and for something of its own.
    let own = json!({
        "name": "east/own", "vips": [VIP.0.to_string()], "port": 81, "protocol": "tcp",
        "backends": [{ "address": topology.hosts[1].addresses.0.to_string(), "port": backend::HTTP_PORT, "weight": 1 }],
    });
    let wish = state("uid-e", 1, &[web(&topology, "east/web", &[1]), own]);
    caller.wish("PUT", "east", &wish)?;
    let clash = |topology: &Topology| {
        until("the clash to be reported", SOON, || {
            let report = caller.report("east")?;
            let refused = said(&report, "east/web")?;
            let why = refused["problem"].as_str().context("no problem")?;
            ensure!(why.contains("west/web") && refused["programmed"] == false, "{refused}");
            is_served(&report, "east/own")?;
            is_served(&caller.report("west")?, "west/web")
        })?;
        answers(topology, "b1")
    };
    clash(&topology)?;
    // After a restart the same one has it, although the other's name comes first.
    topology.appliance.kill()?;
    topology.appliance.start_ready()?;
    clash(&topology)?;
    let output = topology.appliance.cli(&["sources"])?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(listed.contains("east") && listed.contains("west"), "{listed}");
    // Given up, the other gets it.
    let output = topology.appliance.cli(&["sources", "forget", "west"])?;
    assert!(output.status.success(), "{output:?}");
    answers(&topology, "b2")?;
    until("the clash to be over", SOON, || is_served(&caller.report("east")?, "east/web"))?;
    Ok(())
}

#[test]
fn a_source_brings_its_peers() -> Result<()> {
    let mut topology = Topology::build("src_peers", Kind::Frr, 1)?;
    let mut settings = topology.settings();
    // One of the router's two sessions is the file's, the other one the bridge's.
    settings.peers = vec![(ROUTER.1.into(), ROUTER_ASN)];
    let text = topology.appliance.config(&settings, &[]);
    let text = format!("{text}{}", source::section(&topology.lab)?);
    topology.appliance.write_config(&text)?;
    topology.appliance.start_ready()?;
    let caller = Caller::new(&topology.hosts[0].ns, &topology.lab);
    // Each session that is up, and since when.
    let sessions = |wanted: &[&str]| {
        until(&format!("sessions with {wanted:?}"), SOON, || {
            let peers: Vec<BgpPeer> = topology.appliance.api("bgp/peers")?;
            let up = peers.iter().filter(|peer| peer.state == BgpState::Established);
            let up: BTreeMap<_, _> =
                up.map(|peer| (peer.address.clone(), peer.since.clone())).collect();
            let exactly = peers.len() == wanted.len() && up.keys().eq(wanted);
            ensure!(exactly, "{peers:?}");
            Ok(up)
        })
        .map(|(up, _)| up)
    };
    let (v4, v6) = (ROUTER.0.to_string(), ROUTER.1.to_string());
    sessions(&[&v6])?;
    let mut wish = state("uid", 1, &[web(&topology, "prod/web", &[0])]);
    wish["peers"] = json!([
        { "name": "tor", "address": v4, "asn": ROUTER_ASN, "hold_time_seconds": 9 },
        { "name": "twice", "address": v6, "asn": ROUTER_ASN },
        { "name": "elsewhere", "address": "10.0.0.77", "asn": 1, "appliances": ["another"] },
    ]);
    caller.wish("PUT", "prod", &wish)?;
    sessions(&[&v4, &v6])?;
    topology.wait_routes(&vip_routes(), SOON)?;
    until("the peers to be reported", SOON, || {
        let report = caller.report("prod")?;
        let peers = report["peers"].as_array().context("no peers")?;
        let of = |name: &str| peers.iter().find(|peer| peer["name"] == name);
        ensure!(
            of("tor").is_some_and(|p| p["state"] == "Established" && p.get("problem").is_none()),
            "{report}"
        );
        ensure!(of("twice").is_some_and(|p| p["problem"].is_string()), "{report}");
        ensure!(of("elsewhere").is_none(), "{report}");
        Ok(())
    })?;
    // A reload of the file leaves both sessions alone.
    let before = sessions(&[&v4, &v6])?;
    topology.appliance.write_config(&format!("{text}\n[[service]]\nname = \"own\"\nvips = [\"203.0.113.99\"]\nport = 1\nprotocol = \"tcp\"\n"))?;
    topology.appliance.reload()?;
    until("the file's service", SOON, || {
        topology.appliance.api::<Value>("services/own").map(drop)
    })?;
    assert_eq!(sessions(&[&v4, &v6])?, before);
    wish["generation"] = 2.into();
    wish["peers"] = json!([]);
    caller.wish("PUT", "prod", &wish)?;
    sessions(&[&v6])?;
    topology.appliance.stop().map(drop)
}

#[test]
fn changes_that_come_together_are_written_together() -> Result<()> {
    let (mut topology, _) = bridged("src_many", "")?;
    let many = source_measure::patches(&topology, 160, 8)?;
    let (median, worst) = (many.answers[many.answers.len() / 2], many.answers[159]);
    println!(
        "{} writes in {:.1?}, answers {median:.1?}, at worst {worst:.1?}",
        many.writes, many.took
    );
    assert_eq!(many.answers.len(), 160);
    // How many come together is the machine's affair; that some do is ours.
    assert!(many.writes < 160, "{} writes for 160 changes from 8 sources", many.writes);
    // All of it is kept.
    topology.appliance.kill()?;
    topology.appliance.start_ready()?;
    until("every service to be back", SOON, || {
        let services: Vec<Value> = topology.appliance.api("services")?;
        ensure!(services.len() == 160, "{} are", services.len());
        Ok(())
    })?;
    topology.appliance.stop().map(drop)
}
