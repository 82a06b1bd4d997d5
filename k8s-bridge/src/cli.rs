//! The command line. Every flag is an environment variable as well.

use crate::index::{self, EndpointMode, NodeHealth};
use crate::lease::{self, machine::Timing};
use crate::push::credentials::Files;
use crate::run::Settings;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The half of Sluice that runs in a Kubernetes cluster: gives Services of type LoadBalancer their addresses, tells the
/// appliances outside what to balance, and writes back what they report.
#[derive(Debug, Parser)]
#[command(name = "sluice-bridge", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the bridge. The API server is that of the pod's cluster, or of $KUBECONFIG.
    Run(Box<RunArgs>),
    /// Undo what the bridge has done, before or after its manifest is deleted: the appliances serve nothing of this cluster
    /// any longer, and no Service waits for the bridge. Takes the same flags as `run`; waits until no bridge runs.
    Uninstall(Box<RunArgs>),
    /// Print the definitions of AddressPool and Peer, for `kubectl apply -f -`.
    Crds,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// URL of an appliance's API, like https://10.1.0.1:8443; several by comma or by repeating the flag.
    #[arg(long, env = "SLUICE_APPLIANCE", value_delimiter = ',', required = true, value_parser = url)]
    appliance: Vec<String>,
    /// File with the bearer token the appliances know this bridge by; read again when it changes.
    #[arg(long, env = "SLUICE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the CA that signed the appliances' certificates; read again when it changes. Default: the system's.
    #[arg(long, env = "SLUICE_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file of a client certificate, instead of a token or beside it.
    #[arg(long, env = "SLUICE_CLIENT_CERTIFICATE", value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// PEM file of its key.
    #[arg(long, env = "SLUICE_CLIENT_KEY", value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// What the appliances call this cluster; unique over the clusters of an appliance. Default: made of the UID of the
    /// cluster.
    #[arg(long, env = "SLUICE_SOURCE", value_parser = source)]
    source: Option<String>,
    /// Serve Services with this spec.loadBalancerClass.
    #[arg(long, env = "SLUICE_CLASS", default_value = "sluice.dev/edge")]
    class: String,
    /// Serve Services without a class as well.
    #[arg(long, env = "SLUICE_DEFAULT_CLASS", action = ArgAction::Set, num_args = 0..=1,
        default_value = "false", default_missing_value = "true")]
    default_class: bool,
    /// Where packets are sent: to pods (needs routes to the pod networks) or to node ports.
    #[arg(long, env = "SLUICE_ENDPOINTS", value_enum, default_value = "pods")]
    endpoints: Endpoints,
    /// Zone of the appliances, for spec.trafficDistribution. Default: zones are ignored.
    #[arg(long, env = "SLUICE_ZONE")]
    zone: Option<String>,
    /// Further prefixes whose clients live beside the backends, so that answers would not pass the appliance; several by
    /// comma or by repeating the flag. Pod networks and nodes are found without it.
    #[arg(long, env = "SLUICE_INSIDE", value_delimiter = ',', value_name = "CIDR", value_parser = network)]
    inside: Vec<Option<ipnet::IpNet>>,
    /// Seconds for which an appliance that cannot be reached counts as serving what it was told: so long a Service that is
    /// deleted waits for it, and its addresses are given to no other one.
    #[arg(long, env = "SLUICE_UNREACHABLE_HOLD", value_name = "SECONDS", default_value_t = 900,
        value_parser = clap::value_parser!(u32).range(0..=604_800))]
    unreachable_hold: u32,
    /// How nodes are probed when packets are sent to node ports: whether the node port accepts a connection, or by asking
    /// kube-proxy, with one probe a node.
    #[arg(long, env = "SLUICE_NODE_HEALTH", value_enum, default_value = "node-port")]
    node_health: ByNodes,
    /// Endpoints in these prefixes are served whoever wrote them into an EndpointSlice, also those of nodes and the API
    /// server and IPv4 link-local ones; several by comma or by repeating the flag.
    #[arg(long, env = "SLUICE_ALLOW_ENDPOINTS", value_delimiter = ',', value_name = "CIDR", value_parser = network)]
    allow_endpoints: Vec<Option<ipnet::IpNet>>,
    /// Endpoints in these prefixes are never served; several by comma or by repeating the flag.
    #[arg(long, env = "SLUICE_DENY_ENDPOINTS", value_delimiter = ',', value_name = "CIDR", value_parser = network)]
    deny_endpoints: Vec<Option<ipnet::IpNet>>,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "SLUICE_LISTEN", default_value = "[::]:8080")]
    listen: SocketAddr,
    /// How log lines are written. What is logged says $RUST_LOG.
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Namespace of the Lease by which one replica leads.
    #[arg(long, env = "SLUICE_NAMESPACE", default_value = "sluice-system")]
    namespace: String,
    /// Name of this pod; identifies the replica.
    #[arg(long, env = "SLUICE_POD_NAME", default_value = "sluice-bridge")]
    pod_name: String,
    /// Name of the Lease.
    #[arg(long, env = "SLUICE_LEASE_NAME", default_value = "sluice-bridge")]
    lease_name: String,
    /// Seconds after which a leader that fell silent is replaced.
    #[arg(long, env = "SLUICE_LEASE_DURATION", default_value_t = 15,
        value_parser = clap::value_parser!(u32).range(3..=300))]
    lease_duration: u32,
    /// Seconds after which a leader that cannot renew the Lease stops; less than the duration.
    #[arg(long, env = "SLUICE_LEASE_RENEW_DEADLINE", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(2..=299))]
    lease_renew_deadline: u32,
    /// Seconds between two looks at the Lease; less than the renew deadline.
    #[arg(long, env = "SLUICE_LEASE_RETRY", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=60))]
    lease_retry: u32,
}

/// Where packets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Endpoints {
    /// To pods.
    Pods,
    /// To node ports.
    Nodes,
}

/// How nodes are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ByNodes {
    /// Whether the node port accepts a connection.
    NodePort,
    /// Where kube-proxy answers.
    KubeProxy,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

// === impl RunArgs ===

impl RunArgs {
    /// What the flags mean together.
    ///
    /// # Errors
    /// Flags that contradict each other, in words.
    pub fn settings(self) -> Result<Settings, String> {
        let seconds = |n: u32| Duration::from_secs(n.into());
        let timing = Timing {
            duration: seconds(self.lease_duration),
            renew_deadline: seconds(self.lease_renew_deadline),
            retry: seconds(self.lease_retry),
        };
        if timing.renew_deadline >= timing.duration || timing.retry >= timing.renew_deadline {
            return Err(
                "--lease-retry must be less than --lease-renew-deadline, and that less than \
                        --lease-duration"
                    .to_owned(),
            );
        }
        let mut appliances = self.appliance;
        appliances.sort();
        appliances.dedup();
        // Two processes of one pod never run at once; the random part tells them apart nevertheless.
        let identity = format!("{}_{:08x}", self.pod_name, fastrand::u32(..));
        Ok(Settings {
            index: index::Settings {
                class: self.class,
                default_class: self.default_class,
                source: self.source.unwrap_or_default(),
                endpoints: match self.endpoints {
                    Endpoints::Pods => EndpointMode::Pods,
                    Endpoints::Nodes => EndpointMode::Nodes,
                },
                zone: self.zone.filter(|zone| !zone.is_empty()),
                inside: networks(&self.inside),
                node_health: match self.node_health {
                    ByNodes::NodePort => NodeHealth::NodePort,
                    ByNodes::KubeProxy => NodeHealth::KubeProxy,
                },
                allowed_endpoints: networks(&self.allow_endpoints),
                denied_endpoints: networks(&self.deny_endpoints),
                appliances: appliances.iter().filter_map(|url| address(url)).collect(),
            },
            appliances,
            files: Files {
                token: named(self.token_file),
                ca: named(self.ca_file),
                client: named(self.client_certificate).zip(named(self.client_key)),
            },
            listen: self.listen,
            namespace: self.namespace,
            lease: lease::Settings { name: self.lease_name, identity, timing },
            pod: self.pod_name,
            hold: seconds(self.unreachable_hold),
        })
    }
}

fn url(text: &str) -> Result<String, String> {
    let uri: hyper::Uri = text.trim().parse().map_err(|e| format!("{e}"))?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_http || uri.host().is_none() || !matches!(uri.path(), "" | "/") || uri.query().is_some()
    {
        return Err("give scheme, host and port, like https://10.1.0.1:8443".to_owned());
    }
    Ok(text.trim().trim_end_matches('/').to_owned())
}

/// The address in a URL; a name may be another one tomorrow, and the appliance itself refuses its own.
fn address(url: &str) -> Option<IpAddr> {
    let uri: hyper::Uri = url.parse().ok()?;
    uri.host()?.trim_matches(['[', ']']).parse().ok()
}

/// Empty stands for none, as a variable in a ConfigMap may be.
fn network(text: &str) -> Result<Option<ipnet::IpNet>, String> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "give a prefix, like 10.0.0.0/8".to_owned()),
    }
}

fn networks(all: &[Option<ipnet::IpNet>]) -> Vec<ipnet::IpNet> {
    all.iter().flatten().map(ipnet::IpNet::trunc).collect()
}

/// An empty path is none, as an empty variable is.
fn named(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// Empty stands for the default, because a variable in a ConfigMap cannot be absent in one cluster only.
fn source(text: &str) -> Result<String, String> {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.len() > 63 || !text.chars().all(is_good) {
        return Err("use up to 63 lower-case letters, digits and dashes".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn settings(args: &[&str]) -> Result<Settings, String> {
        let all = ["sluice-bridge", "run"].into_iter().chain(args.iter().copied());
        match Cli::try_parse_from(all).map_err(|e| e.to_string())?.command {
            Command::Run(args) | Command::Uninstall(args) => args.settings(),
            Command::Crds => Err("crds".to_owned()),
        }
    }

    #[test]
    fn every_flag_has_its_variable() {
        let cli = Cli::command();
        let run = cli.find_subcommand("run").unwrap();
        for arg in run.get_arguments().filter(|a| a.get_long().is_some_and(|l| l != "help")) {
            let long = arg.get_long().unwrap();
            let variable = format!("SLUICE_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|e| e.to_str()), Some(&*variable), "--{long}");
            assert!(arg.get_help().is_some(), "--{long} says nothing");
        }
    }

    #[test]
    fn flags_mean_what_they_say() {
        let got = settings(&[
            "--appliance",
            "https://b:1/,https://a:1",
            "--appliance",
            "https://a:1",
            "--default-class",
            "--inside",
            "10.0.0.1/8",
            "--appliance",
            "https://[2001:db8::1]:8443,https://10.1.0.1:8443",
            "--allow-endpoints",
            "10.1.0.1/24,169.254.7.0/24",
            "--deny-endpoints",
            "10.2.0.0/16, ,",
        ])
        .unwrap();
        let addresses: Vec<_> = got.index.appliances.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.0.1", "2001:db8::1"], "names are none");
        assert_eq!(got.index.allowed_endpoints[0].to_string(), "10.1.0.0/24");
        assert_eq!((got.index.allowed_endpoints.len(), got.index.denied_endpoints.len()), (2, 1));
        assert_eq!(got.index.node_health, NodeHealth::NodePort);
        assert_eq!(got.appliances.len(), 4, "each once");
        assert!(got.appliances.is_sorted());
        assert!(got.index.default_class && got.index.source.is_empty());
        assert_eq!(got.index.inside[0].to_string(), "10.0.0.0/8");
        assert!(
            !settings(&["--appliance", "http://a:1", "--default-class", "false"])
                .unwrap()
                .index
                .default_class
        );
        for bad in [
            &["--appliance", "a:1"][..],
            &["--appliance", "https://a:1/path"],
            &["--appliance", "https://a:1", "--source", "a/b"],
            &["--appliance", "https://a:1", "--client-key", "k"],
            &["--appliance", "https://a:1", "--lease-renew-deadline", "15"],
            &["--appliance", "https://a:1", "--node-health", "ping"],
            &["--appliance", "https://a:1", "--deny-endpoints", "10.0.0.0/33"],
            &[],
        ] {
            assert!(settings(bad).is_err(), "{bad:?}");
        }
    }
}
