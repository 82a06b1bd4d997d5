//! The demo on Kubernetes: a cluster, the bridge from its manifest, and one Service from its creation to its end.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use super::keep::{end_with_whoever_waits, stay};
use super::kube_acts as acts;
use super::stage::{Stage, time};
use crate::kube::bridge::Install;
use crate::kube::{Cluster, Options};

/// Runs the demo and takes everything away again.
///
/// # Errors
/// When the cluster does not come up or a step gives up.
pub fn run() -> Result<ExitCode> {
    crate::lab::leak::clean_on_signals()?;
    let mut stage = Stage::default();
    let held = {
        let cluster = open(&mut stage)?;
        play(&mut stage, &cluster)?;
        acts::delete(&mut stage, &cluster)?;
        stage.summary()
    };
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays the demo, then holds the cluster until a signal.
///
/// # Errors
/// When the demo fails.
pub fn hold() -> Result<ExitCode> {
    end_with_whoever_waits()?;
    let mut stage = Stage::default();
    let cluster = open(&mut stage)?;
    play(&mut stage, &cluster)?;
    if !stage.summary() {
        return Ok(ExitCode::FAILURE);
    }
    look_around(&stage, &cluster);
    stay(cluster.lab.dir())
}

fn open(stage: &mut Stage) -> Result<Cluster> {
    stage.say(&stage.paint("1", "Sluice for Kubernetes, from kubectl apply to a packet"));
    stage.say(
        "\n  client ──── router (FRR) ──── appliance (sluice) ──── switch ──┬── control plane, 10.1.0.2\n  \
         198.51.100.10   AS 64513           AS 64512                    ├── node n1, pods 10.244.1.0/24\n  \
         203.0.113.0/24                                                 └── node n2, pods 10.244.2.0/24",
    );
    stage.act("Setting up");
    let mut cluster = Cluster::start(&Options::new("demo").with_bridge()?)?;
    let parts = cluster.took.clone();
    let took = |part: &str| parts.get(part).copied().unwrap_or_default();
    stage.did(
        "etcd, API server, controllers and scheduler of Kubernetes 1.36",
        time(took("control plane")),
    );
    stage.did(
        "two nodes are Ready: kubelet, kube-proxy and a runtime of processes",
        time(took("nodes")),
    );
    let start = Instant::now();
    cluster.start_appliance()?;
    stage
        .did("sluice run, with an API for bridges on https://10.1.0.1:8443", time(start.elapsed()));
    let start = Instant::now();
    cluster.install_bridge(&Install::default())?;
    stage.did(
        "kubectl apply -f k8s-bridge/deploy/sluice-bridge.yaml: two replicas",
        time(start.elapsed()),
    );
    stage.keep("from nothing to a cluster with two nodes", time(took("all")));
    Ok(cluster)
}

/// Every act that leaves the Service there.
fn play(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    acts::apply(stage, cluster)?;
    acts::requests(stage, cluster)?;
    acts::scale(stage, cluster)?;
    acts::edit(stage, cluster)
}

fn look_around(stage: &Stage, cluster: &Cluster) {
    let (control, client) = (cluster.control.namespace().name(), cluster.client.name());
    let edge = cluster.appliance.namespace().name();
    let binary = crate::lab::tool("sluice").unwrap_or_else(|_| "sluice".into());
    let kubectl = cluster.programs.path("kubectl");
    stage.act("The cluster is still there. Look around:");
    stage.say(&format!("  export KUBECONFIG={}", cluster.control.kubeconfig().display()));
    stage.say(&format!("  alias kubectl='ip netns exec {control} {}'\n", kubectl.display()));
    let lines = [
        ("services", "kubectl get services,addresspools,pods -o wide".to_owned()),
        ("events", "kubectl describe service hello".to_owned()),
        ("the bridge", "kubectl -n sluice-system get pods; kubectl -n sluice-system logs deploy/sluice-bridge".into()),
        ("a request", format!("ip netns exec {client} curl http://203.0.113.1:8080/")),
        ("a new one", "kubectl expose deployment hello --name again --port 80 --target-port 8080 --type LoadBalancer \
                       --overrides '{\"spec\":{\"loadBalancerClass\":\"sluice.dev/edge\"}}'".into()),
        ("scale", "kubectl scale deployment hello --replicas 0".to_owned()),
        ("appliance", format!("ip netns exec {edge} {} services", binary.display())),
        ("the router", format!("ip -n {} route", cluster.router_ns.name())),
        ("logs", format!("ls {}/*.log", cluster.lab.dir().display())),
        ("the end", "./dev demo --down".to_owned()),
    ];
    for (what, how) in lines {
        stage.say(&format!("  {what:<12} {how}"));
    }
}
