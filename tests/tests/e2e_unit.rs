//! What the systemd unit leaves the daemon, on the real daemon: it is enough for all it does, and each part is needed.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::topology::{Topology, vip_routes};
use sluice_tests::lab::traffic::burst;
use sluice_tests::lab::{Proc, run, tool, until};

const UNIT: &str = include_str!("../../appliance/dist/sluice.service");

const SOON: Duration = Duration::from_secs(20);

/// As setpriv(1) writes them.
fn capabilities() -> Result<Vec<String>> {
    let set = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let set = set.context("the unit bounds no capabilities")?;
    let name = |word: &str| word.strip_prefix("CAP_").map(str::to_lowercase);
    set.split(' ').map(|word| name(word).context("not a capability")).collect()
}

/// A lab with a bpffs, which systemd mounts before any service.
fn lab(name: &str) -> Result<Topology> {
    let lab = Topology::build(name, Kind::Frr, 2)?;
    let text = lab.appliance.config(&lab.settings(), &lab.services());
    lab.appliance.write_config(&text)?;
    let pin_dir = lab.appliance.pin_dir();
    let bpffs = pin_dir.parent().context("a pin directory is below a bpffs")?;
    std::fs::create_dir_all(bpffs)?;
    run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(bpffs))?;
    Ok(lab)
}

fn start(lab: &Topology, capabilities: &[String]) -> Result<Proc> {
    let mut bounds = "-all".to_owned();
    for capability in capabilities {
        bounds.push_str(",+");
        bounds.push_str(capability);
    }
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all", "--bounding-set", &bounds]);
    command.arg(tool("sluice")?).arg("run").arg("--config").arg(lab.appliance.config_path());
    lab.appliance.namespace().spawn("sluice", command)
}

fn ready(lab: &Topology, daemon: &Proc) -> Result<()> {
    let waited = until("sluice to be ready", SOON, || {
        if let Some(status) = daemon.exited()? {
            return Ok(Err(anyhow::anyhow!("it ended with {status}: {}", daemon.tail(8))));
        }
        let answer = lab.appliance.get("/readyz")?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(Ok(()))
    });
    waited?.0
}

#[test]
fn what_the_unit_allows_is_enough() -> Result<()> {
    let lab = lab("e2e_unit_enough")?;
    let capabilities = capabilities()?;
    let daemon = start(&lab, &capabilities)?;
    ready(&lab, &daemon)?;
    until("routes at the router", SOON, || {
        let routes = lab.router.routes()?;
        ensure!(vip_routes().iter().all(|net| routes.contains_key(net)), "{routes:?}");
        Ok(())
    })?;
    let report = burst(&lab.client, &lab.targets(), 10, Duration::from_secs(2))?;
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let waited = lab.appliance.cli(&["wait", "--routed", "--timeout", "10s"])?;
    assert!(waited.status.success(), "{waited:?}");
    // What is in place belongs to a process of the past.
    daemon.kill()?;
    let daemon = start(&lab, &capabilities)?;
    ready(&lab, &daemon)?;
    let status: sluice_api::Status = lab.appliance.api("status")?;
    assert!(status.adopted, "{status:?}");
    daemon.signal(Signal::SIGHUP)?;
    let ended = daemon.stop()?;
    assert!(ended.success(), "{ended}");
    assert!(!lab.appliance.pin_dir().exists(), "it did not remove its pins");
    let lo = lab.appliance.namespace().ip(&["addr", "show", "dev", "lo"])?;
    assert!(!lo.contains("203.0.113."), "a VIP is left: {lo}");
    Ok(())
}

#[test]
fn each_capability_is_needed() -> Result<()> {
    let lab = lab("e2e_unit_needed")?;
    let all = capabilities()?;
    for one in &all {
        let others: Vec<String> = all.iter().filter(|it| *it != one).cloned().collect();
        let daemon = start(&lab, &others)?;
        let (status, _) = until("sluice to give up", SOON, || {
            daemon.exited()?.with_context(|| format!("it runs without {one}"))
        })?;
        assert!(!status.success(), "it ended well without {one}");
    }
    Ok(())
}

#[test]
fn waiting_says_what_is_missing() -> Result<()> {
    let lab = lab("e2e_unit_wait")?;
    let waited = lab.appliance.cli(&["wait", "--timeout", "300ms"])?;
    assert_eq!(waited.status.code(), Some(1));
    let words = String::from_utf8_lossy(&waited.stderr);
    assert!(words.contains("not ready within 0.3 s:\n- no answer from"), "{words}");
    Ok(())
}
