//! The Kubernetes laboratory itself: without it being sound, what is tested in it says nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};
use sluice_tests::kube::api::Event;
use sluice_tests::kube::cluster::is;
use sluice_tests::kube::suite::{Run, Verdict, set_class};
use sluice_tests::kube::{Cluster, Options, tell};
use sluice_tests::lab::appliance::Service;
use sluice_tests::lab::backend::{HTTP_PORT, UDP_PORT};
use sluice_tests::lab::client::{Outcome, Transport, request};
use sluice_tests::lab::until;

const SOON: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_millis(900);

fn pod_addresses(cluster: &Cluster, app: &str) -> Result<Vec<String>> {
    let pods = cluster.pods(app)?;
    let ips = pods.iter().filter_map(|pod| pod.pointer("/status/podIPs")?.as_array());
    Ok(ips.flatten().filter_map(|ip| Some(ip.get("ip")?.as_str()?.to_owned())).collect())
}

/// Pods answer through the appliance and see the client itself; NodePorts answer; exec works; RBAC holds.
#[test]
fn pods_behind_the_appliance_see_the_client() -> Result<()> {
    let mut cluster = Cluster::start(&Options::new("kube_lab").dual())?;
    tell(&format!("cluster: {:.1?}", cluster.took));
    cluster.start_backends("web", 2)?;
    let addresses = pod_addresses(&cluster, "web")?;
    assert_eq!(addresses.len(), 4, "two pods with two addresses each: {addresses:?}");

    let backends: Vec<SocketAddr> = addresses
        .iter()
        .map(|ip| Ok(SocketAddr::new(ip.parse()?, HTTP_PORT)))
        .collect::<Result<_>>()?;
    let vips = ["203.0.113.20".parse()?, "2001:db8:113::20".parse()?];
    let web = Service {
        name: "web".into(),
        vips: vips.to_vec(),
        port: 80,
        protocol: "tcp",
        backends,
        health: None,
        more: String::new(),
    };
    let text = cluster.appliance.config(&cluster.settings(), &[web]);
    cluster.appliance.write_config(&text)?;
    cluster.appliance.start_ready()?;
    let routes: Vec<IpNet> = vips.iter().map(|vip| (*vip).into()).collect();
    cluster.wait_routes(&routes, SOON)?;
    for vip in vips {
        let to = SocketAddr::new(vip, 80);
        let attempt = cluster.client.run(|| request(Transport::Http, to, PATIENCE))?;
        let Outcome::Answered { seen, local } = attempt.outcome else {
            anyhow::bail!("{to}: {attempt:?}")
        };
        assert_eq!(seen.client, local, "the pod sees the client's own address and port");
        assert!(seen.backend.starts_with("web-"), "{seen:?}");
    }
    node_ports(&cluster)?;
    exec_and_rbac(&cluster)?;
    security_context(&cluster)?;
    upstream(&cluster)?;
    watches_and_restarts(&mut cluster)?;
    let memory: u64 = cluster.memory()?.values().sum();
    tell(&format!("{} MiB in all", memory >> 20));
    let dir = cluster.lab.dir().to_owned();
    drop(cluster);
    ensure!(!dir.exists(), "{} is left", dir.display());
    Ok(())
}

fn node_ports(cluster: &Cluster) -> Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "type": "NodePort", "selector": { "app": "web" },
            "ports": [
                { "name": "http", "port": 80, "targetPort": HTTP_PORT, "nodePort": 30080 },
                { "name": "echo", "port": 53, "targetPort": UDP_PORT, "nodePort": 30053, "protocol": "UDP" },
            ],
        },
    });
    cluster.api().create("/api/v1/namespaces/default/services", &service)?;
    for (transport, port) in [(Transport::Http, 30080), (Transport::Udp, 30053)] {
        for node in ["10.1.0.11", "10.1.0.12"] {
            let to = SocketAddr::new(node.parse()?, port);
            until(&format!("{transport:?} at {to}"), SOON, || {
                let attempt = cluster.client.run(|| request(transport, to, PATIENCE))?;
                ensure!(attempt.backend().is_some(), "{attempt:?}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn exec_and_rbac(cluster: &Cluster) -> Result<()> {
    let pods = cluster.pods("web")?;
    let pod = pods.first().context("a pod")?;
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).context("a name")?;
    assert_eq!(cluster.exec(name, &["hostname"])?.trim(), name);
    let names = cluster.exec(name, &["getent", "hosts", "web.default.svc.cluster.local"])?;
    assert!(names.contains("10.96."), "the name server knows Services: {names}");
    let may = cluster.kubectl(&[
        "auth",
        "can-i",
        "list",
        "pods",
        "--as",
        "system:serviceaccount:default:default",
    ]);
    assert!(may.is_err(), "an account without a role may not list pods: {may:?}");
    Ok(())
}

/// The suite's own machinery works here: a test that needs no load balancer passes, and the policy that gives classes is
/// in force.
fn upstream(cluster: &Cluster) -> Result<()> {
    let run = Run::start(
        cluster,
        "nodeport",
        "Services should be able to create a functioning NodePort service",
        "",
    )?;
    let cases = run.finish(Duration::from_secs(300))?;
    for case in &cases {
        tell(&format!("{:6.1} s  {}", case.took.as_secs_f64(), case.name));
    }
    assert!(
        cases.len() == 1 && cases.iter().all(|case| case.verdict == Verdict::Passed),
        "{cases:?}"
    );
    set_class(cluster, "example.com/edge")
}

/// A security context holds, or else the bridge's manifest would be tried in vain.
fn security_context(cluster: &Cluster) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "nobody" },
        "spec": {
            "securityContext": { "runAsNonRoot": true },
            "containers": [{
                "name": "pause", "image": "agnhost", "args": ["pause"],
                "securityContext": {
                    "runAsUser": 65532, "runAsGroup": 65532, "readOnlyRootFilesystem": true,
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                },
            }],
        },
    });
    let path = "/api/v1/namespaces/default/pods";
    cluster.api().create(path, &pod)?;
    until("the pod to run", SOON, || {
        let pod = cluster.api().object(&format!("{path}/nobody"))?;
        ensure!(is(&pod, "Ready"), "{:?}", pod.get("status"));
        Ok(())
    })?;
    let token = "test -s /var/run/secrets/kubernetes.io/serviceaccount/token && grep NoNewPrivs /proc/1/status && id -u";
    let said = cluster.exec("nobody", &["sh", "-c", token])?;
    assert!(said.ends_with("65532\n") && said.contains("NoNewPrivs:\t1"), "{said}");
    let wrote =
        cluster.exec("nobody", &["sh", "-c", "touch /x"]).map_err(|error| format!("{error:#}"));
    assert!(wrote.as_ref().is_err_and(|why| why.contains("Read-only")), "{wrote:?}");
    Ok(())
}

/// A watch tells of a change at once; a killed API server comes back with everything that was there.
fn watches_and_restarts(cluster: &mut Cluster) -> Result<()> {
    let api = cluster.api();
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    let named =
        |event: &Event, name: &str| event.object.pointer("/metadata/name") == Some(&json!(name));
    let mut watch = api.watch(maps)?;
    api.create(maps, &map("before"))?;
    let created = Instant::now();
    let (kind, seen) = watch.find(|event| named(event, "before").then(|| event.kind.clone()))?;
    assert_eq!(kind, "ADDED");
    let late = seen.saturating_duration_since(created);
    assert!(
        late < Duration::from_millis(500),
        "an event that is held back measures nothing: {late:?}"
    );
    cluster.control.kill_apiserver()?;
    let took = cluster.control.start_apiserver()?;
    tell(&format!("API server again after {took:.1?}"));
    assert!(api.find(&format!("{maps}/before"))?.is_some(), "what was there is there");
    api.create(maps, &map("after"))?;
    api.delete(&format!("{maps}/after"))?;
    api.wait_gone(&format!("{maps}/after"), SOON).map(drop)
}
