//! `sluice-lab kube-measure`: the bridge's figures, on one clock: raw watches, the router's own table, an open-loop client.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::stage::time;
use crate::kube::api::{Api, Patch};
use crate::kube::bridge::{CLASS, Install, NAMESPACE};
use crate::kube::cluster::resident;
use crate::kube::services::{SERVICES, SOON, ingress, path, plain};
use crate::kube::{Cluster, Options};
use crate::lab::client::Transport;
use crate::lab::traffic::Traffic;
use crate::lab::{run as run_command, until};

/// Requests of background traffic: one each so often.
const PACE: Duration = Duration::from_millis(5);
/// Longer than the kernel's first retransmission of a SYN would hide a loss.
const PATIENCE: Duration = Duration::from_millis(900);
/// Makers of Services at once.
const MAKERS: u32 = 8;

/// Measures everything and prints it.
///
/// # Errors
/// When something does not come up or a step gives up.
pub fn run(runs: u32, services: u32) -> Result<()> {
    crate::lab::leak::clean_on_signals()?;
    let mut cluster = Cluster::start(&Options::new("measure").with_bridge()?)?;
    cluster.start_appliance()?;
    cluster.install_bridge(&Install::default())?;
    cluster.create_pool("small", &json!({ "addresses": ["203.0.113.0/24"], "priority": 1 }))?;
    cluster.create_pool("large", &json!({ "addresses": ["100.64.0.0/18"] }))?;
    cluster.start_backends("web", 2)?;
    println!(
        "cluster with two nodes: {}",
        time(cluster.took.get("all").copied().unwrap_or_default())
    );
    life_of_a_service(&cluster, runs)?;
    endpoint_removed(&cluster)?;
    rolling_update(&cluster)?;
    leader_killed(&cluster)?;
    many(&cluster, services)?;
    memory(&cluster)
}

/// Resident memory of what is Sluice's own, with all those Services; of the rest its share.
fn memory(cluster: &Cluster) -> Result<()> {
    let print = |what: &str, bytes: u64| println!("memory of {what}: {} MiB", bytes >> 20);
    let appliance = cluster.appliance.process()?.pid();
    print("the appliance (resident)", resident(appliance)?);
    for (leads, bytes) in cluster.bridge_memory()? {
        let what = if leads { "the bridge that leads" } else { "the bridge that stands by" };
        print(&format!("{what} (resident)"), bytes);
    }
    for (what, bytes) in cluster.memory()? {
        print(&what, bytes);
    }
    Ok(())
}

/// Samples of one figure.
#[derive(Debug)]
struct Figure {
    name: &'static str,
    samples: Vec<Duration>,
}

impl Figure {
    fn new(name: &'static str) -> Self {
        Self { name, samples: Vec::new() }
    }

    fn print(&mut self) {
        self.samples.sort();
        let median = self.samples.get(self.samples.len() / 2).copied().unwrap_or_default();
        let worst = self.samples.last().copied().unwrap_or_default();
        let (name, count) = (self.name, self.samples.len());
        println!("{name:<64} median {:>9}  worst {:>9}  of {count}", time(median), time(worst));
    }
}

/// Every change of the router's kernel table, with the moment it was read.
fn routes(cluster: &Cluster) -> Result<(Receiver<(String, Instant)>, Monitor)> {
    let mut command = Command::new("ip");
    command.args(["monitor", "route"]).stdout(Stdio::piped());
    let mut child = cluster.router_ns.prepare(command).spawn().context("starting ip monitor")?;
    let out = child.stdout.take().context("no output of ip monitor")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send((line, Instant::now())).is_err() {
                return;
            }
        }
    });
    Ok((receiver, Monitor(child)))
}

/// Ends `ip monitor` with its reader.
struct Monitor(std::process::Child);

impl Drop for Monitor {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn wait_route(lines: &Receiver<(String, Instant)>, ip: IpAddr, deleted: bool) -> Result<Instant> {
    loop {
        let (line, at) =
            lines.recv_timeout(SOON).with_context(|| format!("no route event for {ip}"))?;
        let gone = line.starts_with("Deleted ");
        let line = line.trim_start_matches("Deleted ");
        if gone == deleted && line.split(' ').next() == Some(&ip.to_string()) {
            return Ok(at);
        }
    }
}

/// Created, answered, deleted: one after the other.
fn life_of_a_service(cluster: &Cluster, runs: u32) -> Result<()> {
    let mut shown = Figure::new("Service POST returned to address in its status");
    let mut routed = Figure::new("Service POST returned to route in FRR's kernel table");
    let mut answered = Figure::new("Service POST returned to first answer");
    let mut unrouted = Figure::new("Service DELETE returned to route gone");
    let mut gone = Figure::new("Service DELETE returned to object gone");
    let mut watch = cluster.api().watch(SERVICES)?;
    let (lines, _monitor) = routes(cluster)?;
    for index in 0..runs {
        let name = format!("life-{index}");
        cluster.create_service(&plain(&name, "web", 80))?;
        let start = Instant::now();
        let of = |object: &Value| {
            object.pointer("/metadata/name").and_then(Value::as_str) == Some(&name)
        };
        let (ip, at) = watch
            .find(|event| of(&event.object).then(|| ingress(&event.object).first().copied())?)?;
        shown.samples.push(at.saturating_duration_since(start));
        until("the first answer", SOON, || {
            let attempt = cluster.ask(Transport::Http, ip, 80)?;
            ensure!(attempt.backend().is_some(), "{}", attempt.outcome);
            Ok(())
        })?;
        answered.samples.push(start.elapsed());
        routed.samples.push(wait_route(&lines, ip, false)?.saturating_duration_since(start));
        cluster.api().delete(&path(&name))?;
        let start = Instant::now();
        let (_, at) =
            watch.find(|event| (of(&event.object) && event.kind == "DELETED").then_some(()))?;
        gone.samples.push(at.saturating_duration_since(start));
        unrouted.samples.push(wait_route(&lines, ip, true)?.saturating_duration_since(start));
    }
    [shown, routed, answered, unrouted, gone].iter_mut().for_each(Figure::print);
    Ok(())
}

/// A Service `web` under traffic while `disturb` happens.
fn under_traffic(cluster: &Cluster, disturb: impl FnOnce() -> Result<Instant>) -> Result<()> {
    cluster.create_service(&plain("web", "web", 80))?;
    let ip = cluster.wait_address("web")?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    let traffic =
        Traffic::start(&cluster.client, &[(Transport::Http, (ip, 80).into())], PACE, PATIENCE);
    let since = disturb()?;
    let report = traffic.stop()?;
    let last = report.last_failure_after(since).map_or_else(|| "none".to_owned(), time);
    println!(
        "    {} requests failed of {}; the last one after {last}",
        report.failures.len(),
        report.sent
    );
    cluster.delete_service("web").map(drop)
}

/// One of two pods is killed without grace.
fn endpoint_removed(cluster: &Cluster) -> Result<()> {
    println!("a pod is deleted without grace:");
    under_traffic(cluster, || {
        let pods = cluster.pods("web")?;
        let name = pods
            .first()
            .and_then(|pod| pod.pointer("/metadata/name")?.as_str())
            .context("no pod")?;
        let start = Instant::now();
        let at = format!("/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0");
        cluster.api().delete(&at)?;
        cluster.api().wait_gone(&format!("/api/v1/namespaces/default/pods/{name}"), SOON)?;
        cluster.wait_deployment("default", "web", Duration::from_secs(60))?;
        Ok(start)
    })
}

fn rolling_update(cluster: &Cluster) -> Result<()> {
    println!("a rolling update of both pods:");
    under_traffic(cluster, || {
        let start = Instant::now();
        let change =
            json!({ "spec": { "template": { "metadata": { "annotations": { "round": "2" } } } } });
        cluster.api().patch(
            "/apis/apps/v1/namespaces/default/deployments/web",
            Patch::Merge,
            &change,
        )?;
        cluster.wait_deployment("default", "web", Duration::from_secs(60))?;
        Ok(start)
    })
}

fn leader_killed(cluster: &Cluster) -> Result<()> {
    let leader = cluster.leader()?;
    let pod = leader.split('_').next().context("a pod's name")?;
    let start = Instant::now();
    cluster.kill_bridge(pod)?;
    cluster.create_service(&plain("after-the-leader", "web", 80))?;
    cluster.wait_address("after-the-leader")?;
    println!("leader killed to the next change applied: {}", time(start.elapsed()));
    cluster.wait_bridge()?;
    cluster.delete_service("after-the-leader").map(drop)
}

/// A Service without a selector, and ten endpoints that no other has.
fn fake(index: u32) -> (Value, Value) {
    let name = format!("many-{index}");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "type": "LoadBalancer", "loadBalancerClass": CLASS, "ports": [{ "name": "http", "port": 80 }] },
    });
    let endpoints: Vec<Value> = (0..10)
        .map(|offset| {
            let number = u32::from(std::net::Ipv4Addr::new(10, 128, 0, 0)) + index * 10 + offset;
            json!({ "addresses": [std::net::Ipv4Addr::from(number)], "conditions": { "ready": true } })
        })
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    });
    (service, slice)
}

fn many(cluster: &Cluster, count: u32) -> Result<()> {
    // Backends must have a way, though nobody is there.
    cluster.appliance.namespace().ip(&["route", "add", "10.128.0.0/9", "via", "10.1.0.11"])?;
    let start = Instant::now();
    let counter = {
        let api = cluster.api();
        std::thread::spawn(move || all_shown(&api, count as usize))
    };
    let makers: Vec<_> = (0..MAKERS)
        .map(|maker| {
            let api = cluster.api();
            std::thread::spawn(move || -> Result<()> {
                for index in (maker..count).step_by(MAKERS as usize) {
                    let (service, slice) = fake(index);
                    api.create(
                        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
                        &slice,
                    )?;
                    api.create(SERVICES, &service)?;
                }
                Ok(())
            })
        })
        .collect();
    for maker in makers {
        maker.join().map_err(|_| anyhow::anyhow!("a maker panicked"))??;
    }
    let created = Instant::now();
    println!(
        "{count} services with ten endpoints each: created in {}",
        time(created.duration_since(start))
    );
    let shown = counter.join().map_err(|_| anyhow::anyhow!("the counter panicked"))??;
    println!(
        "    last create to all with an address: {}",
        time(shown.saturating_duration_since(created))
    );
    // Their addresses come from the large pool once the small one is used up; nobody answers, so none is withdrawn.
    until("all routes in the router", Duration::from_secs(120), || {
        let table = cluster.router_ns.ip(&["route", "show", "proto", "bgp"])?;
        ensure!(table.lines().count() >= count as usize, "{} routes", table.lines().count());
        Ok(())
    })?;
    println!("    last create to all routes in the router: {}", time(created.elapsed()));
    bridge_metrics(cluster)
}

/// When all of the services had an address. The API server ends a watch whose reader is slow; the next one begins with
/// everything that is there.
fn all_shown(api: &Api, count: usize) -> Result<Instant> {
    let mut done = BTreeSet::new();
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let shown = api.watch(&format!("{SERVICES}?resourceVersion=0"))?.find(|event| {
            let name = event.object.pointer("/metadata/name")?.as_str()?;
            if name.starts_with("many-") && !ingress(&event.object).is_empty() {
                done.insert(name.to_owned());
            }
            (done.len() == count).then_some(())
        });
        match shown {
            Ok(((), at)) => return Ok(at),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
    }
}

/// API requests of each replica by kind, as it counts them itself.
fn bridge_metrics(cluster: &Cluster) -> Result<()> {
    for pod in cluster.api().list(&format!("/api/v1/namespaces/{NAMESPACE}/pods"))? {
        let text =
            |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let port = pod.pointer("/spec/containers/0/ports/0/containerPort").and_then(Value::as_u64);
        let url = format!("http://{}:{}/metrics", text("/status/podIP"), port.context("no port")?);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "5", &url]);
        let all = run_command(&mut cluster.control.namespace().prepare(curl))?;
        println!("    {}:", text("/metadata/name"));
        let requests =
            all.lines().filter(|line| !line.starts_with('#') && line.contains("requests"));
        requests.for_each(|line| println!("      {line}"));
    }
    Ok(())
}
