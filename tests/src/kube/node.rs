//! A node: container runtime, kubelet and kube-proxy in one network namespace and one mount namespace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Programs;
use super::network::{CONTROL, PODS, Place};
use crate::lab::{Netns, Proc, until};

/// A running node. Field order is the order in which they end.
#[derive(Debug)]
pub struct Node {
    /// Its namespace.
    pub ns: Netns,
    /// Its name.
    pub name: String,
    proxy: Proc,
    kubelet: Proc,
    runtime: Proc,
    dir: PathBuf,
}

/// What every node of a cluster is started with.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    pub(super) programs: &'a Programs,
    pub(super) dir: &'a Path,
    pub(super) kubeconfig: &'a Path,
    pub(super) images: &'a Value,
    pub(super) dual: bool,
}

impl Node {
    pub(super) fn start(place: &Place, shared: &Shared<'_>) -> Result<Self> {
        let dir = shared.dir.join(&place.name);
        std::fs::create_dir_all(dir.join("pods"))?;
        std::fs::write(dir.join("images.json"), shared.images.to_string())?;
        std::fs::write(dir.join("kubelet.yaml"), kubelet_config(place, &dir))?;
        let runtime = start_runtime(place, &dir, shared.programs)?;
        let spawn = |what: &str, flags: Vec<String>| {
            // Into the runtime's mount namespace: containers are to see the volumes that the kubelet mounts.
            let mut command = Command::new("nsenter");
            command.arg(format!("--mount=/proc/{}/ns/mnt", runtime.pid()));
            command.arg(shared.programs.path("kube")).arg(what).args(flags);
            place.ns.spawn(what, command)
        };
        let kubeconfig = format!("--kubeconfig={}", shared.kubeconfig.display());
        let host = format!("--hostname-override={}", place.name);
        let both =
            |v4: &str, v6: &str| if shared.dual { format!("{v4},{v6}") } else { v4.to_owned() };
        let address = both(&place.v4.to_string(), &place.v6.to_string());
        let kubelet = spawn(
            "kubelet",
            vec![
                format!("--config={}", dir.join("kubelet.yaml").display()),
                kubeconfig.clone(),
                host.clone(),
                format!("--node-ip={address}"),
            ],
        )?;
        let proxy = spawn(
            "proxy",
            vec![
                kubeconfig,
                "--proxy-mode=nftables".into(),
                host,
                format!("--cluster-cidr={}", both(PODS.0, PODS.1)),
                // Both sysctls are read-only in a namespace.
                "--conntrack-max-per-core=0".into(),
                "--conntrack-min=0".into(),
            ],
        )?;
        Ok(Self { ns: place.ns.clone(), name: place.name.clone(), proxy, kubelet, runtime, dir })
    }

    /// That everything on it runs.
    ///
    /// # Errors
    /// When something has ended: how, and its last words.
    pub fn alive(&self) -> Result<()> {
        for process in [&self.runtime, &self.kubelet, &self.proxy] {
            if let Some(status) = process.exited()? {
                bail!(
                    "{} of {} ended with {status}: {}",
                    process.label(),
                    self.name,
                    process.tail(8)
                );
            }
        }
        Ok(())
    }

    /// Logs of the pods that ran here, by path `NAMESPACE_POD_UID/CONTAINER/N.log`.
    pub fn pod_logs(&self) -> PathBuf {
        self.dir.join("pods")
    }
}

/// Starts the runtime in a mount namespace of its own where the paths that are fixed in the kubelet are the node's.
fn start_runtime(place: &Place, dir: &Path, programs: &Programs) -> Result<Proc> {
    let socket = dir.join("cri.sock");
    let script = "mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /var/log && \
                  mkdir /var/lib/kubelet /var/log/pods /var/log/containers && \
                  mount --bind \"$1/pods\" /var/log/pods && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(dir);
    command.arg(programs.path("criproc")).arg("--socket").arg(&socket);
    command.arg("--state").arg(dir.join("cri")).args(["--hostname", &place.name]);
    command.arg("--images").arg(dir.join("images.json")).arg("--tools").arg(programs.tools());
    let runtime = place.ns.spawn("criproc", command)?;
    until("the container runtime to listen", Duration::from_secs(20), || {
        if let Some(status) = runtime.exited()? {
            return Ok(Err(anyhow::anyhow!("it ended with {status}: {}", runtime.tail(5))));
        }
        std::os::unix::net::UnixStream::connect(&socket).context("no socket yet")?;
        Ok(Ok(()))
    })
    .and_then(|(listens, _)| listens)?;
    Ok(runtime)
}

/// A kubelet for a machine that it shares with others and whose cgroups it leaves alone.
fn kubelet_config(place: &Place, dir: &Path) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {address}
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
cgroupsPerQOS: false
enforceNodeAllocatable: []
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
containerRuntimeEndpoint: unix://{dir}/cri.sock
evictionHard: {{memory.available: \"0%\", nodefs.available: \"0%\", nodefs.inodesFree: \"0%\",
  imagefs.available: \"0%\", imagefs.inodesFree: \"0%\"}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
registerNode: true
resolvConf: \"\"
clusterDNS: [{CONTROL}]
clusterDomain: cluster.local
serializeImagePulls: false
kubeAPIQPS: 200
kubeAPIBurst: 400
",
        address = place.v4,
        dir = dir.display()
    )
}
