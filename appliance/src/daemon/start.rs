//! From a configuration to a running appliance, in the order that disturbs least what already carries traffic.

use super::appliance::Appliance;
use super::groups::Groups;
use super::links::{self, Attachments};
use super::nat64;
use super::outside::Outside;
use super::pace::Pace;
use super::recovery;
use super::runtimes::moved;
use super::shutdown;
use crate::config::Config;
use crate::health::{Checks, Reports};
use crate::http::{App, Sources};
use crate::ledger::{Ledger, SharedLedger};
use crate::ports::{Addresses, ClientWays, DataPlane, NextHops, Routes};
use crate::reconcile::{Look, Reconciler};
use crate::status::{Meter, PeerProblems};
use anyhow::{Context as _, bail};
use sluice_api::Snapshot;
use sluice_model::Health;
use sluice_netlink::Netlink;
use sluice_plan::Refused;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Neighbours on the same link answer in a few milliseconds; those that do not shall not hold up the others.
const NEXT_HOPS_WITHIN: Duration = Duration::from_millis(300);

/// Starts everything. What can fail without having touched anything comes first.
pub(super) async fn start(path: PathBuf, config: Config, api: Handle) -> anyhow::Result<Appliance> {
    let listen = config.api_listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} for the API (api.listen)"))?;
    let outside = match &config.api_tls {
        Some(tls) => Some(Outside::open(tls).await?),
        None => None,
    };
    let ledger = config.state_dir.join("desired.json");
    let mut ledger = Ledger::open(ledger, config.data_plane.nat64_source);
    ledger.limit(config.limits());
    let netlink = Netlink::start().await.context("cannot read links and addresses")?;
    let links = netlink.links().borrow().clone();
    let missing = links::missing(&config.data_plane.interfaces, &links);
    if !missing.is_empty() {
        bail!(links::missing_words(&missing, &links));
    }
    if let Some(source) = config.data_plane.nat64_source {
        nat64::warn(source);
    }
    let data_plane = DataPlane::open(options(&config)).await?;
    let adopted = data_plane.adopted();
    let addresses = Addresses(netlink.clone());
    let mut reconciler = Reconciler::new(data_plane.clone(), addresses, Routes::default());
    let found = reconciler.observe().await.context("cannot read back what is in place")?;
    ledger.begin(config.services.clone(), found, recovery::expected(&config));
    let now = Instant::now();
    let desired = ledger.subscribe();
    let ledger = SharedLedger::start(ledger).context("cannot start the ledger's writer")?;
    let merged = Arc::clone(&desired.borrow());
    let (outside_listener, outside) = outside.unzip();
    let mut appliance = Appliance {
        path,
        started_with: config.clone(),
        started: SystemTime::now(),
        merged,
        desired,
        outside,
        speaker: None,
        peer_problems: PeerProblems::new(),
        reports: watch::Sender::default(),
        report_revision: first_revision(),
        client_ways: ClientWays::new(netlink.ways().borrow().clone(), now),
        resolutions: netlink.resolutions().borrow().clone(),
        surroundings: netlink.surroundings().borrow().clone(),
        refused: Refused::default(),
        config,
        ledger,
        netlink,
        data_plane,
        reconciler,
        attachments: Attachments::default(),
        groups: Groups::default(),
        checks: Checks::new(),
        health: Health::default(),
        verdicts: Reports::new(),
        links,
        next_hops: NextHops::new(now),
        peers: Vec::new(),
        meter: Meter::default(),
        snapshots: watch::Sender::new(Arc::new(Snapshot::default())),
        pace: Pace::new(now),
        connections: Arc::default(),
        stop: CancellationToken::new(),
        heard: None,
        reload_problem: None,
        data_plane_problem: None,
        sweep: None,
        swept_at: now,
        looked_at: now,
        due: None,
    };
    if let Err(error) = bring_up(&mut appliance).await {
        // Nobody else would take down what only this start has put up; what was there before goes on without us.
        if !adopted {
            shutdown::tear_down(&mut appliance).await;
        }
        return Err(error);
    }
    serve_api(&appliance, &api, listener, outside_listener);
    Ok(appliance)
}

/// Attach, adopt, resolve, program, and only then talk to the routers, so that their first session already carries
/// everything that is served.
async fn bring_up(appliance: &mut Appliance) -> anyhow::Result<()> {
    let adopted = appliance.data_plane.adopted();
    tracing::info!(name = appliance.config.name, adopted, "data plane loaded");
    appliance.sync_links().await;
    appliance.reconciler.observe().await.context("cannot read back what is in place")?;
    // Before anything is programmed: whom we talk to is not to be taken for a VIP.
    let (speaker, problems) =
        appliance.wanted_speaker(&appliance.config, &appliance.merged.bridges);
    (appliance.speaker, appliance.peer_problems) = (speaker, problems);
    appliance.take_desired(Arc::clone(&appliance.merged));
    wait_for_next_hops(appliance).await?;
    appliance.give_next_hops().await;
    appliance.give_client_ways().await;
    appliance.due = None;
    appliance.pass(Look::Memory).await;
    let routes = &mut appliance.reconciler.routes;
    routes.configure(appliance.speaker.as_ref(), adopted).await.context("cannot start BGP")?;
    appliance.publish();
    Ok(())
}

async fn wait_for_next_hops(appliance: &mut Appliance) -> anyhow::Result<()> {
    let wanted = appliance.backend_addresses();
    let mut resolutions = appliance.netlink.resolutions();
    let decided = resolutions.wait_for(|known| NextHops::decided(&wanted, known));
    if let Ok(decided) = tokio::time::timeout(NEXT_HOPS_WITHIN, decided).await {
        decided.context("netlink ended unexpectedly")?;
    }
    appliance.resolutions = resolutions.borrow().clone();
    Ok(())
}

fn serve_api(
    appliance: &Appliance,
    runtime: &Handle,
    listener: TcpListener,
    outside: Option<TcpListener>,
) {
    let sources =
        Sources { ledger: appliance.ledger.clone(), reports: appliance.reports.subscribe() };
    let app = App::new(appliance.snapshots.subscribe(), sources, appliance.stop.clone())
        .counting(Arc::clone(&appliance.connections));
    if let (Some(outside), Some(listener)) = (&appliance.outside, outside) {
        outside.serve(runtime, listener, app.clone());
    }
    tracing::info!(listen = %appliance.config.api_listen, "API and status page");
    runtime.spawn(async move {
        // Packets are balanced and routes announced without the API too: it is no reason to end.
        let served = async { app.serve(moved(listener)?).await };
        if let Err(error) = served.await {
            tracing::error!(%error, "the API has ended");
        }
    });
}

/// Revisions of reports begin elsewhere after each start, so that nobody takes a new one for one seen before; small
/// enough for numbers of JSON (2^53). By chance and not by the clock, which may have been set back.
fn first_revision() -> u64 {
    let chance = std::hash::RandomState::new().build_hasher().finish();
    (chance >> 32) << 20
}

fn options(config: &Config) -> sluice_xdp::Options {
    sluice_xdp::Options {
        pin_dir: config.data_plane.pin_dir.clone(),
        max_flows: config.data_plane.max_flows,
        attach: config.data_plane.attach,
        nat64_source: config.data_plane.nat64_source,
    }
}
