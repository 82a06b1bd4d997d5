//! The ledger is lost while the daemon is away: what the kernel carries goes on until the sources have spoken again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sluice_tests::lab::backend;
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::source::{self, Caller};
use sluice_tests::lab::topology::{APPLIANCE, Topology, VIP, WEB_PORT, vip_routes};
use sluice_tests::lab::traffic::Traffic;
use sluice_tests::lab::until;

const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);
const PACE: Duration = Duration::from_millis(5);

/// The standard HTTP service, and a member that a later version may know.
fn state(topology: &Topology, generation: u64) -> Value {
    let backends: Vec<Value> = topology
        .hosts
        .iter()
        .flat_map(|host| [host.addresses.0.to_string(), host.addresses.1.to_string()])
        .map(|address| json!({ "address": address, "port": backend::HTTP_PORT, "weight": 1 }))
        .collect();
    json!({ "owner": "uid", "generation": generation, "services": [{
        "name": "prod/web", "vips": [VIP.0.to_string(), VIP.1.to_string()], "port": WEB_PORT,
        "protocol": "tcp", "backends": backends, "algorithm": "least-connections",
    }]})
}

#[test]
fn a_ledger_of_garbage_takes_nothing_off_the_air() -> Result<()> {
    let mut lab = Topology::build("e2e_ledger", Kind::Frr, 2)?;
    let text = lab.appliance.config(&lab.settings(), &[]);
    lab.appliance.write_config(&format!("{text}{}", source::section(&lab.lab)?))?;
    lab.appliance.start_ready()?;
    let caller = Caller::new(&lab.hosts.first().context("no host")?.ns, &lab.lab);
    caller.wish("PUT", "prod", &state(&lab, 1))?;
    lab.wait_routes(&vip_routes(), SOON)?;
    until("what is not known to be told", SOON, || {
        let report = caller.report("prod")?;
        let served = report["services"][0]["announced"] == true;
        ensure!(served && report["services"][0]["ignored"] == json!(["algorithm"]), "{report}");
        ensure!(report["contract"] == sluice_api::CONTRACT, "{report}");
        Ok(())
    })?;
    let targets = [(VIP.0, WEB_PORT).into(), (VIP.1, WEB_PORT).into()];
    let targets = targets.map(|to| (sluice_tests::lab::client::Transport::Http, to));
    let traffic = Traffic::start(&lab.client, &targets, PACE, PATIENCE);
    traffic.wait_answered(50, SOON)?;

    lab.appliance.kill()?;
    let ledger = lab.appliance.state_dir().join("desired.json");
    std::fs::write(&ledger, b"\0\0\0\0garbage")?;
    std::fs::write(ledger.with_extension("json.1"), "{\"format\": 99}")?;
    lab.appliance.start()?;
    lab.router.wait_established(APPLIANCE.0.into(), Duration::from_secs(60))?;
    lab.router.wait_established(APPLIANCE.1.into(), Duration::from_secs(60))?;
    let degraded = || {
        until("readyz to say what has happened", SOON, || {
            let answer = lab.appliance.get("/readyz")?;
            let words =
                ["degraded: the ledger could not be read", "2 frontends", "waiting for a source"];
            let told = words.iter().all(|word| answer.body.contains(word));
            ensure!(answer.status == 503 && told, "{}: {}", answer.status, answer.body);
            Ok(())
        })
    };
    degraded()?;
    let fresh = || {
        until("fresh routes", SOON, || {
            let routes = lab.router.routes()?;
            for net in vip_routes() {
                let route = routes.get(&net).with_context(|| format!("{net} is gone"))?;
                ensure!(!route.stale, "{net} is stale");
            }
            Ok(())
        })
    };
    fresh()?;
    traffic.wait_answered(100, SOON)?;
    let output = lab.appliance.cli(&["status"])?;
    assert!(String::from_utf8_lossy(&output.stdout).contains("DEGRADED"), "{output:?}");

    // A source that wants nothing at first takes nothing away.
    caller.wish("PUT", "other", &json!({ "owner": "o", "generation": 1, "services": [] }))?;
    degraded()?;
    caller.wish("PUT", "prod", &state(&lab, 2))?;
    lab.appliance.wait_ready(SOON)?;
    fresh()?;
    traffic.wait_answered(50, SOON)?;
    let services: Vec<sluice_api::Service> = lab.appliance.api("services")?;
    assert_eq!(services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["prod/web"]);
    traffic.stop_unharmed()?;
    lab.appliance.stop().map(drop)
}
