//! The end in order: first the routers move on, then the data plane goes.

use super::appliance::Appliance;
use super::logging::notify;
use crate::reconcile::{Look, RoutePort as _};
use sd_notify::NotifyState;
use sluice_bgp::PeerState;
use sluice_model::{Desired, Health, Reserved};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// A peer that takes nothing must not keep the process; its hold timer does the rest.
const BGP_WITHIN: Duration = Duration::from_secs(3);

/// Withdraws, waits for the routers, and removes everything of ours from the kernel.
pub(super) async fn shutdown(mut appliance: Appliance, reason: &str) -> anyhow::Result<()> {
    tracing::info!(reason, "ending");
    notify(&[NotifyState::Stopping]);
    let told = appliance.peers.iter().any(|peer| peer.state == PeerState::Established);
    let routes = &mut appliance.reconciler.routes;
    routes.announce(&BTreeMap::new());
    if timeout(BGP_WITHIN, routes.shutdown(reason)).await.is_err() {
        tracing::warn!("a BGP peer did not take our farewell");
    }
    // Packets that are on their way, and those of routers that have not moved yet, are still balanced.
    let grace = appliance.config.bgp.as_ref().map_or(Duration::ZERO, |bgp| bgp.shutdown_grace);
    if told && !grace.is_zero() {
        tracing::info!(?grace, "withdrawn; waiting for the routers to move on");
        tokio::time::sleep(grace).await;
    }
    appliance.stop.cancel();
    tear_down(&mut appliance).await;
    tracing::info!("ended");
    Ok(())
}

/// Takes everything of ours out of the kernel. VIPs leave the host before the data plane is detached: the kernel's own
/// stack must never answer for them.
pub(super) async fn tear_down(appliance: &mut Appliance) {
    if let Some(sweep) = appliance.sweep.take() {
        sweep.abort();
    }
    appliance.checks.set_targets(&Default::default());
    let nothing = Desired::empty(appliance.merged.desired.generation());
    let reconciler = &mut appliance.reconciler;
    let (health, reserved) = (Health::default(), Reserved::default());
    reconciler.pass(&nothing, &health, &reserved, Look::World, Instant::now()).await;
    // Without VIPs no rule of ours is needed.
    if let Err(error) = appliance.netlink.vips().await {
        tracing::error!("cannot see whether VIPs are left: {error:#}");
    }
    for problem in appliance.reconciler.problems() {
        tracing::error!("left behind: {problem}");
    }
    if let Err(error) = appliance.data_plane.remove().await {
        tracing::error!("cannot remove the data plane: {error:#}");
    }
}
