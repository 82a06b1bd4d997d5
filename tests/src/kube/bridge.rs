//! The bridge as its users install it: the released manifest, and the settings and secrets that they fill in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use super::api::Patch;
use super::cluster::resident;
use super::{Cluster, Options};
use crate::lab::{run, source, tool, until};

/// Where the manifest puts everything.
pub const NAMESPACE: &str = "sluice-system";
/// Its Deployment, ConfigMap and Secret.
pub const NAME: &str = "sluice-bridge";
/// Where its pods are listed.
const PODS: &str = "/api/v1/namespaces/sluice-system/pods";
/// The class of Services that are ours.
pub const CLASS: &str = "sluice.dev/edge";
/// Where the appliance's API listens for bridges.
pub const APPLIANCE_URL: &str = source::URL;
/// How long two replicas may take to be available; on an idle machine it is three seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a user fills in.
#[derive(Clone, Debug)]
pub struct Install {
    /// URLs of appliances.
    pub appliances: Vec<String>,
    /// The bearer token.
    pub token: String,
    /// The authority that signed the appliances' certificates, as PEM; `None` for the lab's own.
    pub authority: Option<String>,
    /// Serve Services without a class too.
    pub default_class: bool,
    /// Further environment variables.
    pub more: Vec<(String, String)>,
}

impl Default for Install {
    fn default() -> Self {
        Self {
            appliances: vec![APPLIANCE_URL.to_owned()],
            token: source::TOKEN.to_owned(),
            authority: None,
            default_class: false,
            more: Vec::new(),
        }
    }
}

impl Options {
    /// With the image that the manifest names.
    ///
    /// # Errors
    /// When the bridge is not built.
    pub fn with_bridge(self) -> Result<Self> {
        Ok(self.image(NAME, tool(NAME)?))
    }
}

/// The released manifest.
pub fn manifest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s-bridge/deploy/sluice-bridge.yaml")
}

impl Cluster {
    /// Starts the appliance with an API for bridges, under a certificate of an authority of its own.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_appliance(&mut self) -> Result<()> {
        let text = self.bridged_config()?;
        self.appliance.write_config(&text)?;
        self.appliance.start_ready().map(drop)
    }

    /// The configuration of an appliance that bridges may talk to; makes its certificate and token once.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn bridged_config(&self) -> Result<String> {
        let text = self.appliance.config(&self.settings(), &[]);
        Ok(format!("{text}{}", source::section(&self.lab)?))
    }

    /// Applies the manifest and what a user fills in, and waits until both replicas are available; returns how long
    /// that took.
    ///
    /// # Errors
    /// When the manifest is refused or the bridge does not come up.
    pub fn install_bridge(&self, install: &Install) -> Result<Duration> {
        self.apply_bridge(install)?;
        self.wait_bridge()
    }

    /// Waits until all replicas of the bridge are available and one of them leads, not one that is about to end.
    ///
    /// # Errors
    /// When that is not so in time.
    pub fn wait_bridge(&self) -> Result<Duration> {
        let available = self.wait_deployment(NAMESPACE, NAME, DEADLINE)?;
        let (_, led) = until("a replica of the bridge to lead", DEADLINE, || {
            let leader = self.leader()?;
            let pods = self.api().list(PODS)?;
            let stays = |pod: &&Value| pod.pointer("/metadata/deletionTimestamp").is_none();
            let names =
                pods.iter().filter(stays).filter_map(|pod| pod.pointer("/metadata/name")?.as_str());
            let names: Vec<&str> = names.collect();
            let leads = names.iter().any(|name| leader.starts_with(&format!("{name}_")));
            ensure!(leads, "{leader} leads, and {names:?} are there");
            Ok(())
        })?;
        Ok(available + led)
    }

    /// Applies the manifest and what a user fills in.
    ///
    /// # Errors
    /// When something is refused.
    pub fn apply_bridge(&self, install: &Install) -> Result<()> {
        self.kubectl(&["apply", "-f", &manifest().display().to_string()])?;
        let api = self.api();
        let settings = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}");
        let there = api.object(&settings)?;
        let mut wanted = Map::new();
        wanted.insert("SLUICE_APPLIANCE".into(), install.appliances.join(",").into());
        wanted.insert("SLUICE_DEFAULT_CLASS".into(), install.default_class.to_string().into());
        for (key, value) in &install.more {
            wanted.insert(key.clone(), value.clone().into());
        }
        api.patch(&settings, Patch::Merge, &json!({ "data": wanted }))?;
        // The files' names are the keys of the Secret that is mounted there.
        let key = |variable: &str, otherwise: &str| {
            let path = there.pointer(&format!("/data/{variable}")).and_then(Value::as_str);
            path.and_then(|path| path.rsplit('/').next()).unwrap_or(otherwise).to_owned()
        };
        let authority = match &install.authority {
            Some(pem) => pem.clone(),
            None => std::fs::read_to_string(self.lab.dir().join("ca.crt"))
                .context("the appliance has no certificate yet")?,
        };
        let mut secrets = Map::new();
        secrets.insert(key("SLUICE_TOKEN_FILE", "token"), install.token.clone().into());
        secrets.insert(key("SLUICE_CA_FILE", "ca.crt"), authority.into());
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": NAME, "namespace": NAMESPACE }, "stringData": secrets,
        });
        api.patch(
            &format!("/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}"),
            Patch::Apply,
            &secret,
        )?;
        // Environment is read at the start; a first start waits for nothing.
        self.kubectl(&["rollout", "restart", "deployment", NAME, "-n", NAMESPACE]).map(drop)
    }

    /// Makes an address pool.
    ///
    /// # Errors
    /// When it is refused.
    pub fn create_pool(&self, name: &str, spec: &Value) -> Result<()> {
        let pool = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "AddressPool",
            "metadata": { "name": name }, "spec": spec,
        });
        self.api().create("/apis/sluice.dev/v1alpha1/addresspools", &pool).map(drop)
    }

    /// Name of the replica that leads, by its Lease.
    ///
    /// # Errors
    /// When there is none.
    pub fn leader(&self) -> Result<String> {
        let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
        let all = self.api().list(&leases)?;
        let holder = all.iter().find_map(|lease| lease.pointer("/spec/holderIdentity")?.as_str());
        holder.map(str::to_owned).context("nobody holds a Lease")
    }

    /// Ends the bridge's process in a pod at once, as a crash would; the kubelet starts it again.
    ///
    /// # Errors
    /// When the pod does not run.
    pub fn kill_bridge(&self, pod: &str) -> Result<()> {
        let object = self.api().object(&format!("{PODS}/{pod}"))?;
        run(Command::new("kill").args(["-KILL", &process_of(&object)?.to_string()])).map(drop)
    }

    /// Resident memory of the bridge's process in each pod, in bytes, and whether it is the one that leads.
    ///
    /// # Errors
    /// When a pod does not run or nobody leads.
    pub fn bridge_memory(&self) -> Result<Vec<(bool, u64)>> {
        let leader = self.leader()?;
        let memory = |pod: &Value| {
            let name = pod.pointer("/metadata/name").and_then(Value::as_str).context("no name")?;
            let leads = leader.starts_with(&format!("{name}_"));
            Ok((leads, resident(process_of(pod)?)?))
        };
        self.api().list(PODS)?.iter().map(memory).collect()
    }
}

/// The bridge's process in a pod. Pods are processes of this machine.
fn process_of(pod: &Value) -> Result<i32> {
    let address = pod.pointer("/status/podIP").and_then(Value::as_str).context("no address")?;
    process_with(address)?.with_context(|| format!("no process with {address} found"))
}

/// The bridge's process in the pod with this address.
fn process_with(address: &str) -> Result<Option<i32>> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !line.starts_with(b"/sluice-bridge\0") {
            continue;
        }
        let table = std::fs::read_to_string(entry.path().join("net/fib_trie")).unwrap_or_default();
        if table.contains(&format!("-- {address}\n")) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}
