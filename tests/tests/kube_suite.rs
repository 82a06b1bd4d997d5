//! The upstream suite `[Feature:LoadBalancer]` of Kubernetes against Sluice, with the bridge as its manifest installs it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_tests::kube::bridge::{CLASS, Install};
use sluice_tests::kube::suite::{Case, Run, Verdict, set_class};
use sluice_tests::kube::{Cluster, Options, tell};

/// Tests of the suite that take longer than all others together.
const ROLLING: &str = "rolling update";
/// Tests that mostly wait, each for more than a minute: in processes of their own they let the others work meanwhile.
const PATIENT: [&str; 2] = ["ports of a UDP service", "source ranges"];
/// A test that fails waits up to fifteen minutes before it says so.
const DEADLINE: Duration = Duration::from_secs(25 * 60);
/// What the suite skips by itself, and why. Anything else must run.
const SKIPPED: [(&str, &str); 2] = [
    ("LoadBalancers ExternalTrafficPolicy: Local should work for type=LoadBalancer", PROXY),
    ("LoadBalancers ExternalTrafficPolicy: Local should work from pods", PROXY),
];
const PROXY: &str = "LoadBalancer uses 'Proxy' IPMode";

/// A cluster with appliance, bridge and pool, for Services without a class as well.
fn cluster(name: &str, install: &Install) -> Result<Cluster> {
    let mut cluster = Cluster::start(&Options::new(name).with_bridge()?)?;
    cluster.start_appliance()?;
    cluster.install_bridge(install)?;
    cluster.create_pool("suite", &json!({ "addresses": ["203.0.113.0/24"] }))?;
    Ok(cluster)
}

fn by_default(name: &str) -> Result<Cluster> {
    cluster(name, &Install { default_class: true, ..Install::default() })
}

/// Runs parts side by side and judges every test of them.
fn judge(cluster: &Cluster, parts: &[(&str, &str, &str)], count: usize) -> Result<()> {
    let runs: Vec<Run> = parts
        .iter()
        .map(|(name, focus, skip)| Run::start(cluster, name, focus, skip))
        .collect::<Result<_>>()?;
    let mut cases: Vec<Case> = Vec::new();
    for run in runs {
        cases.extend(run.finish(DEADLINE)?);
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    let mut wrong = Vec::new();
    for Case { name, verdict, took } in &cases {
        tell(&format!("{:6.1} s  {name}: {verdict:?}", took.as_secs_f64()));
        let right = match verdict {
            Verdict::Passed => true,
            Verdict::Skipped(why) => SKIPPED.contains(&(name.as_str(), why.as_str())),
            Verdict::Failed(_) => false,
        };
        if !right {
            wrong.push(name);
        }
    }
    let memory: u64 = cluster.memory()?.values().sum();
    tell(&format!("cluster up in {:.1?}, {} MiB in all", cluster.took.get("all"), memory >> 20));
    ensure!(wrong.is_empty(), "failed or skipped without leave: {wrong:?}");
    ensure!(cases.len() == count, "{} tests instead of {count}", cases.len());
    Ok(())
}

/// The fifteen that are not rolling updates.
fn quick(cluster: &Cluster) -> Result<()> {
    let [udp, ranges] = PATIENT.map(|name| format!("LoadBalancers.*{name}"));
    let rest = format!("{ROLLING}|{}", PATIENT.join("|"));
    let parts =
        [("udp", udp.as_str(), ""), ("ranges", &ranges, ""), ("rest", "LoadBalancers", &rest)];
    judge(cluster, &parts, 15)
}

#[test]
fn as_the_default_for_services_without_a_class() -> Result<()> {
    quick(&by_default("suite_default")?)
}

#[test]
fn by_class() -> Result<()> {
    let cluster = cluster("suite_class", &Install::default())?;
    set_class(&cluster, CLASS)?;
    quick(&cluster)
}

#[test]
#[ignore = "two rolling updates of five rounds each take ten minutes; ./dev test --all runs them"]
fn rolling_updates() -> Result<()> {
    let cluster = by_default("suite_rolling")?;
    let focus = |policy: &str| format!("LoadBalancers.*{ROLLING}.*={policy}");
    let (all, local) = (focus("Cluster"), focus("Local"));
    judge(&cluster, &[("cluster", &all, ""), ("local", &local, "")], 2)
}
