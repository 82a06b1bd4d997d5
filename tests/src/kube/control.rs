//! The control plane: etcd, API server, controllers, scheduler, a name server, and a plain-text way to the API for tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Programs;
use super::api::Api;
use super::network::{CONTROL, PODS, SERVICES};
use crate::lab::certificates::{Authority, key_pair};
use crate::lab::{Netns, Proc, run, until};

/// How long a program may take to be ready; on an idle machine it is three seconds.
const DEADLINE: Duration = Duration::from_secs(90);
/// Bearer token of the cluster's administrator.
const ADMIN: &str = "sluice-lab-admin";
/// Port of the plain-text way to the API, inside the control plane's namespace.
const PROXY_PORT: u16 = 8001;

/// The running control plane. Field order is the order in which they end.
#[derive(Debug)]
pub struct Control {
    ns: Netns,
    programs: Programs,
    dir: PathBuf,
    dual: bool,
    names: Option<Proc>,
    proxy: Option<Proc>,
    scheduler: Option<Proc>,
    controllers: Option<Proc>,
    apiserver: Option<Proc>,
    etcd: Option<Proc>,
}

impl Control {
    /// Writes certificates, tokens and the kubeconfig, and starts etcd and the API server.
    pub(super) fn start(ns: &Netns, programs: &Programs, dir: &Path, dual: bool) -> Result<Self> {
        let dir = dir.join("control");
        std::fs::create_dir_all(&dir)?;
        let mut control = Self {
            ns: ns.clone(),
            programs: programs.clone(),
            dir,
            dual,
            names: None,
            proxy: None,
            scheduler: None,
            controllers: None,
            apiserver: None,
            etcd: None,
        };
        control.write_files()?;
        control.etcd = Some(control.spawn("etcd", &control.etcd_flags())?);
        control.start_apiserver()?;
        control.start_proxy()?;
        Ok(control)
    }

    fn write_files(&self) -> Result<()> {
        let authority = Authority::new("sluice-lab-cluster")?;
        let address = CONTROL.to_string();
        authority.server(
            &self.dir,
            "apiserver",
            &[
                &address,
                // The first cluster IP of each family is the API server's own.
                "10.96.0.1",
                "fd00:10:96::1",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
            ],
        )?;
        std::fs::write(self.dir.join("ca.crt"), authority.pem())?;
        key_pair(&self.dir, "accounts")?;
        std::fs::write(
            self.dir.join("tokens.csv"),
            format!("{ADMIN},admin,admin,\"system:masters\"\n"),
        )?;
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\n\
             clusters: [{{name: lab, cluster: {{server: \"https://{CONTROL}:6443\", certificate-authority: {ca}}}}}]\n\
             users: [{{name: admin, user: {{token: {ADMIN}}}}}]\n\
             contexts: [{{name: lab, context: {{cluster: lab, user: admin}}}}]\n\
             current-context: lab\n",
            ca = self.dir.join("ca.crt").display()
        );
        std::fs::write(self.kubeconfig(), kubeconfig)?;
        Ok(())
    }

    /// Path of the administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Path of the certificate of the authority behind the API server.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The control plane's namespace.
    pub fn namespace(&self) -> &Netns {
        &self.ns
    }

    /// The API as its administrator.
    pub fn api(&self) -> Api {
        Api::new(&self.ns, ([127, 0, 0, 1], PROXY_PORT).into())
    }

    /// The API server's process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn apiserver(&self) -> Result<&Proc> {
        self.apiserver.as_ref().context("the API server does not run")
    }

    /// Starts the API server (again) and waits until it is ready; returns how long that took.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn start_apiserver(&mut self) -> Result<Duration> {
        self.apiserver = Some(self.spawn("apiserver", &self.apiserver_flags())?);
        let process = self.apiserver()?;
        // curl, because the lab has no TLS client of its own.
        let ca = self.dir.join("ca.crt").display().to_string();
        let bearer = format!("Authorization: Bearer {ADMIN}");
        let url = format!("https://{CONTROL}:6443/readyz");
        until("the API server to be ready", DEADLINE, || {
            if let Some(status) = process.exited()? {
                return Ok(Err(anyhow::anyhow!("it ended with {status}: {}", process.tail(8))));
            }
            let answer = self.ns.exec("curl", &["-sS", "--cacert", &ca, "-H", &bearer, &url])?;
            ensure!(answer == "ok", "{answer}");
            Ok(Ok(()))
        })
        .and_then(|(ready, took)| ready.map(|()| took))
    }

    /// Ends the API server as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_apiserver(&mut self) -> Result<()> {
        self.apiserver.take().context("the API server does not run")?.kill()
    }

    /// Copies etcd's data, as a backup does. The API server and etcd are away meanwhile.
    ///
    /// # Errors
    /// When one of them does not run, or does not come back.
    pub fn back_up(&mut self) -> Result<()> {
        self.with_store_stopped("cp -r etcd etcd.backup")
    }

    /// Puts the last backup in place of etcd's data: everything since then never was, and resource versions go back.
    ///
    /// # Errors
    /// When there is none, or as [`Control::back_up`].
    pub fn restore(&mut self) -> Result<()> {
        self.with_store_stopped("rm -r etcd && mv etcd.backup etcd")
    }

    fn with_store_stopped(&mut self, script: &str) -> Result<()> {
        self.kill_apiserver()?;
        // What it wrote is in the page cache, which outlives it.
        self.etcd.take().context("etcd does not run")?.kill()?;
        run(Command::new("sh").args(["-c", script]).current_dir(&self.dir))?;
        self.etcd = Some(self.spawn("etcd", &self.etcd_flags())?);
        self.start_apiserver().map(drop)
    }

    fn start_proxy(&mut self) -> Result<()> {
        let port = PROXY_PORT.to_string();
        let flags = ["proxy", "--port", &port, "--reject-paths", "^$", "--kubeconfig"];
        let mut flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(self.kubeconfig().display().to_string());
        self.proxy = Some(self.spawn_as("api", "kubectl", &flags)?);
        let api = self.api();
        until("the plain-text way to the API", DEADLINE, || api.get("/readyz").map(drop)).map(drop)
    }

    /// Starts what works on objects, once the Node objects are there.
    pub(super) fn start_workers(&mut self) -> Result<()> {
        self.controllers = Some(self.spawn("controllers", &self.controllers_flags())?);
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        self.scheduler =
            Some(self.spawn("scheduler", &[kubeconfig.clone(), "--leader-elect=false".into()])?);
        let mut names = Command::new(self.programs.path("labdns"));
        names.arg(kubeconfig).arg(format!("--listen={CONTROL}:53"));
        self.names = Some(self.ns.spawn("labdns", names)?);
        Ok(())
    }

    fn spawn(&self, what: &str, flags: &[String]) -> Result<Proc> {
        self.spawn_as(what, what, flags)
    }

    fn spawn_as(&self, label: &str, what: &str, flags: &[String]) -> Result<Proc> {
        let mut command = Command::new(self.programs.path("kube"));
        command.arg(what).args(flags);
        self.ns.spawn(label, command)
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn etcd_flags(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.file("etcd")),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            "--initial-advertise-peer-urls=http://127.0.0.1:2380".into(),
            "--initial-cluster=default=http://127.0.0.1:2380".into(),
            // The lab's data need not outlive the machine.
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ]
    }

    fn apiserver_flags(&self) -> Vec<String> {
        let services = if self.dual {
            format!("{},{}", SERVICES.0, SERVICES.1)
        } else {
            SERVICES.0.to_owned()
        };
        vec![
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--bind-address={CONTROL}"),
            format!("--advertise-address={CONTROL}"),
            "--secure-port=6443".into(),
            format!("--tls-cert-file={}", self.file("apiserver.crt")),
            format!("--tls-private-key-file={}", self.file("apiserver.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", self.file("accounts.pub")),
            format!("--service-account-signing-key-file={}", self.file("accounts.key")),
            format!("--token-auth-file={}", self.file("tokens.csv")),
            "--authorization-mode=Node,RBAC".into(),
            format!("--service-cluster-ip-range={services}"),
            "--allow-privileged=true".into(),
            "--kubelet-preferred-address-types=InternalIP".into(),
            // A killed one frees its port at once for the next.
            "--permit-address-sharing=true".into(),
        ]
    }

    fn controllers_flags(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.kubeconfig().display()),
            "--leader-elect=false".into(),
            format!("--service-account-private-key-file={}", self.file("accounts.key")),
            "--use-service-account-credentials=true".into(),
            format!("--root-ca-file={}", self.file("ca.crt")),
            "--allocate-node-cidrs=false".into(),
            // The default of twenty requests a second makes its start three seconds longer.
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
            format!("--cluster-cidr={}", PODS.0),
            // Nodes get their pod CIDRs from the lab; Services of type LoadBalancer are ours.
            "--controllers=*,-node-ipam-controller,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller".into(),
        ]
    }
}
