//! What the upstream suite does not reach, on a dual-stack cluster with the bridge as its manifest installs it.
//!
//! One cluster for all cases: each makes its own Services and takes them away. Cases that disturb everybody come last.
//! The bridge is told of a second appliance that is dead from the start: whatever passes here was not delayed by it.

mod addresses;
mod basics;
mod changes;
mod disturbances;
mod mistakes;
mod quarrels;
mod rows;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_tests::kube::bridge::{APPLIANCE_URL, Install};
use sluice_tests::kube::{Cluster, Options, tell};

/// Nobody has this address.
const DEAD: &str = "https://10.1.0.250:8443";
/// Backends that most cases share.
const APP: &str = "web";

type Case = (&'static str, fn(&mut Cluster) -> Result<()>);

const CASES: &[Case] = &[
    ("a service gets an address that answers", basics::answers),
    ("the pool shows its use", basics::pool_shows_its_use),
    ("without pods it is refused, with pods it answers again", basics::scale_to_zero_and_back),
    ("thirty come and go, each answers", basics::come_and_go),
    ("deleted, nothing is left", basics::delete),
    ("another type, nothing is left", basics::becomes_a_cluster_ip),
    ("edits keep the address", changes::edits_keep_the_address),
    ("source ranges hold at once", changes::source_ranges),
    ("a client keeps its pod", changes::affinity),
    ("a pod reaches the address", changes::from_a_pod),
    ("both families", addresses::dual_stack),
    ("IPv6 alone", addresses::only_ipv6),
    ("two services share an address", addresses::shared),
    ("an exclusive address is one service's", addresses::exclusive),
    ("what cannot be is refused with its reason, and served once mended", addresses::refusals),
    ("a pool with a typing error is refused", addresses::typing_error),
    ("a pool that overlaps gives nothing until it is parted", rows::pool_overlaps),
    ("an address in use survives its pool", rows::pool_shrinks),
    ("nodes as endpoints", rows::nodes_as_endpoints),
    ("endpoints made by hand, and one without a way", rows::selectorless),
    ("a port of SCTP beside one of TCP", rows::mixed_with_sctp),
    ("Services of others are left alone", rows::of_another_class),
    ("typing errors in annotations take nothing off the air", mistakes::in_annotations),
    ("a port too many leaves the others served", mistakes::in_ports),
    ("of a hundred ports to one endpoint thirty are served", mistakes::too_many_ports),
    ("endpoints that are none, not ready, or too many", mistakes::in_slices),
    ("a token is revoked in mid-flight", quarrels::token_is_revoked),
    ("the bridge is away", quarrels::bridge_is_away),
    ("another controller writes the status too", quarrels::status_is_fought_over),
    ("the source is somebody else's", quarrels::source_is_somebody_elses),
    ("the appliance restarts", disturbances::appliance_restarts),
    ("the leader is killed", disturbances::leader_is_killed),
    ("the API server restarts and every watch expires", disturbances::apiserver_restarts),
    ("a wrong certificate, then the right one", disturbances::wrong_certificate),
    ("a wrong token, then the right one", disturbances::wrong_token),
    ("etcd is restored from a backup", disturbances::etcd_is_restored),
    ("the bridge is uninstalled", quarrels::uninstall),
];

#[test]
fn services_on_a_cluster() -> Result<()> {
    let mut cluster = Cluster::start(&Options::new("kube_services").dual().with_bridge()?)?;
    cluster.start_appliance()?;
    let appliances = vec![APPLIANCE_URL.to_owned(), DEAD.to_owned()];
    // Longer than an appliance is tried (3 s) and waited for (2 s) before it is said; usual is a quarter of an hour.
    let more = vec![("SLUICE_UNREACHABLE_HOLD".to_owned(), "7".to_owned())];
    let took = cluster.install_bridge(&Install { appliances, more, ..Install::default() })?;
    tell(&format!("cluster: {:?}; both replicas of the bridge after {took:.1?}", cluster.took));
    let addresses = ["203.0.113.0/25", "2001:db8:113::100-2001:db8:113::1ff"];
    cluster.create_pool("main", &json!({ "addresses": addresses }))?;
    cluster.start_backends(APP, 2)?;
    let mut failed = Vec::new();
    for (name, case) in CASES {
        let start = Instant::now();
        let result = case(&mut cluster);
        let took = start.elapsed();
        match result {
            Ok(()) => tell(&format!("{:6.1} s  {name}", took.as_secs_f64())),
            Err(error) => {
                tell(&format!("{:6.1} s  {name}: FAILED: {error:#}", took.as_secs_f64()));
                failed.push(*name);
            }
        }
    }
    ensure!(failed.is_empty(), "{} of {} cases failed: {failed:?}", failed.len(), CASES.len());
    Ok(())
}

/// With a dead appliance beside it, a Service has its address within this: ten times the goal, for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);
