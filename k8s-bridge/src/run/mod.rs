//! The bridge as a process: one list of everything that can wake it, and one loop (wait, feed, flush).

mod bridge;
mod fight;
mod record;
mod release;
mod remind;
mod services;
mod wishes;

use crate::http::Health;
use crate::index;
use crate::lease::{self, Fence, Keeper, machine::Standing};
use crate::metrics::Metrics;
use crate::push::client::Appliance;
use crate::push::credentials::Files;
use crate::push::task::{self, News};
use crate::push::wish::Wish;
use crate::status::say::Sayer;
use crate::status::writer::{Writer, Wrote};
use crate::watch::{Watched, Watcher, history};
use anyhow::Context as _;
use bridge::{Bridge, Parts};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Items that wait between the watches and the loop: a list of thousands comes in pieces.
const WATCH_QUEUE: usize = 1_024;
/// Items taken in before the loop looks at what follows from them.
const BATCH: usize = 1_024;
/// How often time itself is looked at: what is overdue, and statuses that are written once a second.
const TICK: Duration = Duration::from_millis(500);
/// How long the cluster is asked for its identity before the process gives up and is started anew.
const IDENTITY_TRIES: u32 = 20;

/// Everything the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the index. An empty source is replaced by one made of the cluster's identity.
    pub index: index::Settings,
    /// URLs of the appliances.
    pub appliances: Vec<String>,
    /// How they are talked to.
    pub files: Files,
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// Where the Lease is.
    pub namespace: String,
    /// The Lease.
    pub lease: lease::Settings,
    /// Our pod, for events.
    pub pod: String,
    /// How long an appliance that cannot be reached counts as serving what is to go.
    pub hold: Duration,
}

// === impl Settings ===

impl Settings {
    /// A source that has no name is named after its owner, the cluster.
    pub(crate) fn name_source(&mut self, owner: &str) {
        if self.index.source.is_empty() {
            self.index.source = format!("k8s-{}", owner.chars().take(8).collect::<String>());
        }
    }
}

/// Everything that wakes the loop.
enum Event {
    Watched(Watched),
    /// Resource versions are lower than they were.
    WentBack,
    Standing(Standing),
    News(usize, News),
    Wrote(Box<Wrote>),
    Tick,
    Stop,
}

/// Runs until a signal to end, or until something fails that only a new start mends.
///
/// # Errors
/// The API server cannot be used, or the port for health and metrics is taken.
pub async fn run(mut settings: Settings, client: Client) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let health = Arc::new(Health::default());
    let listener = tokio::net::TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    tokio::spawn(crate::http::serve(listener, Arc::clone(&health), Arc::clone(&metrics)));

    let owner = identity(&client, &health, &metrics).await?;
    settings.name_source(&owner);
    tracing::info!(owner, source = settings.index.source, "cluster");

    let fence = Fence::default();
    let mut keeper = Keeper::start(
        client.clone(),
        &settings.namespace,
        settings.lease.clone(),
        fence.clone(),
        Arc::clone(&metrics),
    );

    let (wish, wanted) = watch::channel(Wish::unknown(owner));
    let (news_in, mut news) = mpsc::channel(64);
    for (number, url) in settings.appliances.iter().enumerate() {
        let appliance =
            Appliance::new(url, &settings.index.source, settings.files.clone(), fence.clone());
        tokio::spawn(task::run(
            number,
            Arc::new(appliance),
            wanted.clone(),
            news_in.clone(),
            Arc::clone(&metrics),
        ));
    }
    drop((wanted, news_in));

    let (watched_in, mut watched) = mpsc::channel(WATCH_QUEUE);
    let (wrote_in, mut wrote) = mpsc::channel(WATCH_QUEUE);
    let class = &settings.index.class;
    let writer = Writer::new(client.clone(), class, wrote_in, fence.clone(), Arc::clone(&metrics));
    let history = Arc::new(history::History::default());
    let watcher = Watcher {
        client: client.clone(),
        tell: watched_in,
        metrics: Arc::clone(&metrics),
        history: Arc::clone(&history),
    };
    let (back_in, mut back) = mpsc::channel(1);
    tokio::spawn(history::follow(client.clone(), history, back_in, Arc::clone(&metrics)));
    let sayer = Sayer::start(client.clone(), settings.pod.clone(), Arc::clone(&metrics));
    let mut bridge =
        Bridge::new(Parts { settings, client, watcher, writer, sayer, wish, metrics, health });

    let mut stop = std::pin::pin!(signal());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            biased;
            () = &mut stop => Event::Stop,
            changed = keeper.standing.changed() => match changed {
                Ok(()) => Event::Standing(keeper.standing.borrow_and_update().clone()),
                Err(_) => anyhow::bail!("the task that keeps the Lease has ended"),
            },
            Some(wrote) = wrote.recv() => Event::Wrote(Box::new(wrote)),
            Some((number, news)) = news.recv() => Event::News(number, news),
            Some(()) = back.recv() => Event::WentBack,
            Some(item) = watched.recv() => Event::Watched(item),
            _ = tick.tick() => Event::Tick,
        };
        let is_watched = matches!(event, Event::Watched(_));
        if bridge.feed(event).is_break() {
            break;
        }
        if is_watched {
            for _ in 1..BATCH {
                let Ok(item) = watched.try_recv() else { break };
                if bridge.feed(Event::Watched(item)).is_break() {
                    break;
                }
            }
        }
        bridge.flush();
    }
    // The loop acts no more, so the Lease may go to another replica.
    drop(bridge);
    keeper.give_away().await;
    Ok(())
}

/// What tells this cluster from any other: the UID of a namespace that every cluster has and nobody can remove.
pub(crate) async fn identity(
    client: &Client,
    health: &Health,
    metrics: &Metrics,
) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut tries = 0;
    loop {
        health.beat();
        let answer = namespaces.get_metadata("kube-system").await;
        metrics.api("get", "Namespace", answer.as_ref().err());
        match answer {
            Ok(namespace) => return namespace.metadata.uid.context("kube-system has no UID"),
            Err(error) if tries < IDENTITY_TRIES => {
                tracing::warn!("API server: {}", crate::push::client::chain(&error));
                tokio::time::sleep(Duration::from_secs(1)).await;
                tries += 1;
            }
            Err(error) => return Err(error).context("cannot read namespace kube-system"),
        }
    }
}

/// Comes when the process is to end.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received; end the process with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
