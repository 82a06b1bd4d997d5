//! What happens to Services while parts of the whole go and return.

use anyhow::{Context as _, Result, ensure};
use sluice_tests::kube::Cluster;
use sluice_tests::kube::bridge::Install;
use sluice_tests::kube::services::{SOON, ingress, path, plain};
use sluice_tests::lab::client::Transport;
use sluice_tests::lab::until;

use crate::APP;

pub(crate) fn appliance_restarts(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("kept", APP, 80))?;
    let ip = cluster.wait_address("kept")?;
    cluster.appliance.stop()?;
    // Made while nobody can serve it.
    cluster.create_service(&plain("meanwhile", APP, 80))?;
    cluster.appliance.start_ready()?;
    cluster.wait_routed(&[ip])?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    let second = cluster.wait_address("meanwhile")?;
    cluster.wait_answer(Transport::Http, second, 80)?;
    cluster.delete_service("meanwhile")?;
    cluster.delete_service("kept").map(drop)
}

pub(crate) fn leader_is_killed(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("outlives", APP, 80))?;
    let ip = cluster.wait_address("outlives")?;
    let leader = cluster.leader()?;
    let pod = leader.split('_').next().context("a pod's name")?;
    cluster.kill_bridge(pod)?;
    cluster.create_service(&plain("afterwards", APP, 80))?;
    let second = cluster.wait_address("afterwards")?;
    cluster.wait_answer(Transport::Http, second, 80)?;
    assert_eq!(cluster.wait_address("outlives")?, ip, "addresses do not change");
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.wait_bridge()?;
    cluster.delete_service("afterwards")?;
    cluster.delete_service("outlives").map(drop)
}

pub(crate) fn apiserver_restarts(cluster: &mut Cluster) -> Result<()> {
    cluster.create_service(&plain("through", APP, 80))?;
    let ip = cluster.wait_address("through")?;
    cluster.control.kill_apiserver()?;
    // Without an API server everything that is there goes on.
    cluster.wait_answer(Transport::Http, ip, 80)?;
    cluster.control.start_apiserver()?;
    cluster.create_service(&plain("later", APP, 80))?;
    let second = cluster.wait_address("later")?;
    cluster.wait_answer(Transport::Http, second, 80)?;
    assert_eq!(cluster.wait_address("through")?, ip, "addresses do not change");
    cluster.delete_service("later")?;
    cluster.delete_service("through").map(drop)
}

pub(crate) fn wrong_token(cluster: &mut Cluster) -> Result<()> {
    cluster.apply_bridge(&Install { token: "a stranger's".into(), ..Install::default() })?;
    cluster.wait_bridge()?;
    cluster.create_service(&plain("unserved", APP, 80))?;
    // The client of what is there notices nothing, and the new one is told why it waits.
    let ip = cluster.wait_address(APP)?;
    cluster.wait_answer(Transport::Http, ip, 80)?;
    until("an event that says why", SOON, || {
        let all = cluster.events("unserved")?;
        ensure!(
            all.iter().any(|said| said.kind == "Warning" && said.message.contains("401")),
            "{all:?}"
        );
        Ok(())
    })?;
    assert!(ingress(&cluster.api().object(&path("unserved"))?).is_empty(), "nobody serves it");
    cluster.apply_bridge(&Install::default())?;
    cluster.wait_bridge()?;
    let second = cluster.wait_address("unserved")?;
    cluster.wait_answer(Transport::Http, second, 80)?;
    cluster.delete_service("unserved").map(drop)
}
