//! A whole cluster: started, used, taken away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::Programs;
use super::api::Api;
use super::control::Control;
use super::network::{Network, Place};
use super::node::{Node, Shared};
use crate::lab::appliance::{Appliance, Settings};
use crate::lab::peers::{Kind, Router};
use crate::lab::topology::{APPLIANCE, APPLIANCE_ASN, ROUTER, ROUTER_ASN, router_config};
use crate::lab::{Lab, Netns, run, tool, until};

/// How long nodes may take to be ready; on an idle machine it is two seconds.
const DEADLINE: Duration = Duration::from_secs(90);

/// What kind of cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the lab.
    pub name: String,
    /// Number of nodes.
    pub nodes: u8,
    /// Nodes, pods and Services have IPv6 as well.
    pub dual: bool,
    /// Further images: name and program.
    pub images: Vec<(String, PathBuf)>,
}

impl Options {
    /// Two nodes, IPv4 only.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), nodes: 2, dual: false, images: Vec::new() }
    }

    /// Dual stack.
    #[must_use]
    pub fn dual(mut self) -> Self {
        self.dual = true;
        self
    }

    /// So many nodes.
    #[must_use]
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// One more image: containers of this name (any registry, any tag) run this program.
    #[must_use]
    pub fn image(mut self, name: &str, program: PathBuf) -> Self {
        self.images.push((name.to_owned(), program));
        self
    }
}

/// A running cluster with router, client and an appliance that is not started. Field order is drop order.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The control plane.
    pub control: Control,
    /// The appliance in front of the nodes; not started.
    pub appliance: Appliance,
    /// The router, running.
    pub router: Box<dyn Router>,
    /// The client's namespace.
    pub client: Netns,
    /// The router's namespace.
    pub router_ns: Netns,
    /// The switch's namespace.
    pub switch: Netns,
    /// The laboratory's programs.
    pub programs: Programs,
    /// How long each part of the start took.
    pub took: BTreeMap<&'static str, Duration>,
    /// What all of it lives in.
    pub lab: Lab,
}

impl Cluster {
    /// Starts a cluster and waits until its nodes are ready and the API is usable.
    ///
    /// # Errors
    /// When the laboratory is not built or something does not come up.
    pub fn start(options: &Options) -> Result<Self> {
        let programs = Programs::find()?;
        let mut took = BTreeMap::new();
        let start = Instant::now();
        let lab = Lab::new(&options.name)?;
        let network = Network::lay(&lab, options.nodes)?;
        took.insert("network", start.elapsed());
        let Network { client, router: router_ns, edge, switch, control, nodes: places } = network;

        let mark = Instant::now();
        let mut control = Control::start(&control, &programs, lab.dir(), options.dual)?;
        took.insert("control plane", mark.elapsed());
        let mark = Instant::now();
        create_nodes(&control.api(), &places, options.dual)?;
        control.start_workers()?;
        let images = images(&programs, &options.images)?;
        let shared = Shared {
            programs: &programs,
            dir: lab.dir(),
            kubeconfig: &control.kubeconfig(),
            images: &images,
            dual: options.dual,
        };
        let nodes =
            places.iter().map(|place| Node::start(place, &shared)).collect::<Result<_>>()?;
        let peers = router_config(&[APPLIANCE.0.into(), APPLIANCE.1.into()]);
        let router = Kind::Frr.start(&router_ns, lab.dir(), &peers)?;
        let appliance = Appliance::new(&edge, lab.dir())?;
        let mut cluster = Self {
            nodes,
            control,
            appliance,
            router,
            client,
            router_ns,
            switch,
            programs,
            took,
            lab,
        };
        cluster.wait_ready()?;
        cluster.took.insert("nodes", mark.elapsed());
        cluster.took.insert("all", start.elapsed());
        Ok(cluster)
    }

    fn wait_ready(&self) -> Result<()> {
        let api = self.api();
        until("the nodes to be ready", DEADLINE, || {
            for node in &self.nodes {
                if let Err(ended) = node.alive() {
                    return Ok(Err(ended));
                }
            }
            let nodes = api.list("/api/v1/nodes")?;
            let waiting: Vec<_> = nodes.iter().filter(|node| !is(node, "Ready")).collect();
            ensure!(waiting.is_empty(), "{} are not: {:?}", waiting.len(), waiting.first());
            // Pods need the default account, which a controller makes.
            api.object("/api/v1/namespaces/default/serviceaccounts/default")?;
            Ok(Ok(()))
        })
        .and_then(|(ready, _)| ready)
    }

    /// The API as its administrator.
    pub fn api(&self) -> Api {
        self.control.api()
    }

    /// A `kubectl` that is the administrator, in the control plane's namespace.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.programs.path("kube"));
        command.arg("kubectl").arg("--kubeconfig").arg(self.control.kubeconfig()).args(args);
        // Its caches of the API go with the lab.
        command.env("HOME", self.lab.dir());
        run(&mut self.control.namespace().prepare(command))
    }

    /// Applies manifests, as `kubectl apply -f` does.
    ///
    /// # Errors
    /// When one is refused.
    pub fn apply(&self, name: &str, manifests: &str) -> Result<String> {
        let path = self.lab.dir().join(format!("{name}.yaml"));
        std::fs::write(&path, manifests)?;
        self.kubectl(&["apply", "-f", &path.display().to_string()])
    }

    /// Waits until all replicas of a Deployment are available; returns how long that took.
    ///
    /// # Errors
    /// When they are not in time: its status and what its pods say.
    pub fn wait_deployment(
        &self,
        namespace: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Duration> {
        let api = self.api();
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
        until(&format!("deployment {namespace}/{name} to be available"), deadline, || {
            let object = api.object(&path)?;
            let number = |at: &str| object.pointer(at).and_then(Value::as_u64).unwrap_or_default();
            let wanted = number("/spec/replicas");
            let current = number("/status/observedGeneration") >= number("/metadata/generation");
            let there =
                ["/status/replicas", "/status/updatedReplicas", "/status/availableReplicas"];
            let complete = there.iter().all(|at| number(at) == wanted);
            if current && complete {
                return Ok(());
            }
            let pods = api.list(&format!("/api/v1/namespaces/{namespace}/pods"))?;
            let said: Vec<_> =
                pods.iter().filter_map(|pod| pod.pointer("/status/containerStatuses")).collect();
            bail!("{:?}; pods: {said:?}", object.get("status"))
        })
        .map(|((), took)| took)
    }

    /// Settings of an appliance that peers with the router over both families.
    pub fn settings(&self) -> Settings {
        Settings {
            interfaces: vec!["eth*".into()],
            asn: APPLIANCE_ASN,
            router_id: APPLIANCE.0,
            peers: vec![(ROUTER.0.into(), ROUTER_ASN), (ROUTER.1.into(), ROUTER_ASN)],
            peer_more: String::new(),
            bgp_more: String::new(),
        }
    }

    /// Waits until the router has these routes by BGP, or the appliance has ended; returns how long that took.
    ///
    /// # Errors
    /// When one is missing at the deadline, or the appliance ends.
    pub fn wait_routes(&self, wanted: &[IpNet], deadline: Duration) -> Result<Duration> {
        until(&format!("the router to learn {wanted:?}"), deadline, || {
            let routes = self.router.routes()?;
            let missing: Vec<_> = wanted.iter().filter(|net| !routes.contains_key(net)).collect();
            if missing.is_empty() {
                return Ok(Ok(()));
            }
            if let Err(ended) = self.appliance.alive() {
                return Ok(Err(ended));
            }
            bail!("{} are missing: {missing:?}", missing.len())
        })
        .and_then(|(found, took)| found.map(|()| took))
    }

    /// Memory of every process of the cluster itself (proportional share, in bytes), by its label; pods are no part of it.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn memory(&self) -> Result<BTreeMap<String, u64>> {
        let mut all = BTreeMap::new();
        for ns in self.lab.namespaces() {
            let pids = run(Command::new("ip").args(["netns", "pids", ns.name()]))?;
            for pid in pids.lines() {
                // A process may have ended since.
                let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
                let text = String::from_utf8_lossy(&line).into_owned();
                let mut words = text.split('\0').filter_map(|word| word.rsplit('/').next());
                let (program, first) = (words.next().unwrap_or_default(), words.next());
                let label = if program == "kube" { first.unwrap_or_default() } else { program };
                *all.entry(label.to_owned()).or_default() += pss(pid);
            }
        }
        Ok(all)
    }
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// When it has ended.
pub fn resident(pid: i32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no resident memory")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// Proportional share of memory of a process, in bytes.
fn pss(pid: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default()
        * 1024
}

/// True when a condition of this type holds.
pub fn is(object: &Value, condition: &str) -> bool {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    all.into_iter().flatten().any(|one| {
        one.get("type").and_then(Value::as_str) == Some(condition)
            && one.get("status").and_then(Value::as_str) == Some("True")
    })
}

/// Node objects with their pods' addresses, so that routes can be laid before the nodes run.
fn create_nodes(api: &Api, places: &[Place], dual: bool) -> Result<()> {
    for place in places {
        let mut shares = vec![place.pods.0.clone()];
        if dual {
            shares.push(place.pods.1.clone());
        }
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": place.name },
            "spec": { "podCIDR": place.pods.0, "podCIDRs": shares },
        });
        api.create("/api/v1/nodes", &node)?;
    }
    Ok(())
}

/// What containers may name: agnhost and pause for the suite, our own backend, and what the options add.
fn images(programs: &Programs, more: &[(String, PathBuf)]) -> Result<Value> {
    let agnhost = programs.path("agnhost");
    let mut images = json!({
        "agnhost": { "binary": agnhost, "args": ["pause"] },
        "pause": { "binary": agnhost, "args": ["pause"] },
        "backend": { "binary": tool("sluice-lab")? },
    });
    let all = images.as_object_mut().context("images are an object")?;
    for (name, program) in more {
        all.insert(name.clone(), json!({ "binary": program }));
    }
    Ok(images)
}
