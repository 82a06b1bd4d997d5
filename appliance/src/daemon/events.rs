//! Everything that can wake the daemon, in one list.

use super::appliance::Appliance;
use crate::health::Reports;
use crate::sources::Merged;
use futures_util::FutureExt as _;
use sluice_bgp::PeerStatus;
use sluice_netlink::{Link, Resolution, Surroundings, Ways};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Counters are read and rates computed this often.
const TICK: Duration = Duration::from_secs(1);

/// Why the daemon woke. Watched values are read when the event is handled: the latest wins.
#[derive(Debug)]
pub(super) enum Event {
    /// The ledger has a new state.
    Desired(Arc<Merged>),
    /// A verdict or a reason changed.
    Health(Reports),
    /// A way to a backend changed.
    NextHops(Arc<BTreeMap<IpAddr, Resolution>>),
    /// A route, or a router that clients are reached by, changed.
    Ways(Arc<Ways>),
    /// An address of this host that is no VIP, or a next hop of its routes, came or went.
    Surroundings(Arc<Surroundings>),
    /// Ways to somewhere have changed: what the data plane has cached of them no longer holds.
    Routing,
    /// A link came, went or changed.
    Links(Arc<BTreeMap<u32, Link>>),
    /// A session changed.
    Peers(Vec<PeerStatus>),
    /// Read the configuration again.
    Reload,
    /// A second has passed.
    Tick,
    /// The state that was not shown yet may be shown.
    Show,
    /// End in order.
    Terminate(&'static str),
    /// A part has ended that should not have.
    Lost(&'static str),
}

/// Signals, listened to from the very start.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// The sources of events.
pub(super) struct Wakeups {
    signals: Signals,
    desired: watch::Receiver<Arc<Merged>>,
    health: watch::Receiver<Reports>,
    next_hops: watch::Receiver<Arc<BTreeMap<IpAddr, Resolution>>>,
    links: watch::Receiver<Arc<BTreeMap<u32, Link>>>,
    routing: watch::Receiver<u64>,
    surroundings: watch::Receiver<Arc<Surroundings>>,
    ways: watch::Receiver<Arc<Ways>>,
    peers: Option<watch::Receiver<Vec<PeerStatus>>>,
    tick: Interval,
}

// === impl Signals ===

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

// === impl Wakeups ===

impl Wakeups {
    pub(super) fn new(signals: Signals, appliance: &Appliance) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut wakeups = Wakeups {
            signals,
            desired: appliance.desired.clone(),
            health: appliance.checks.subscribe(),
            next_hops: appliance.netlink.resolutions(),
            links: appliance.netlink.links(),
            routing: appliance.netlink.routing_epoch(),
            surroundings: appliance.netlink.surroundings(),
            ways: appliance.netlink.ways(),
            peers: None,
            tick,
        };
        // What changed between the start and now counts as changed.
        wakeups.health.mark_changed();
        wakeups.next_hops.mark_changed();
        wakeups.links.mark_changed();
        wakeups.surroundings.mark_changed();
        wakeups.ways.mark_changed();
        wakeups.rewire(appliance);
        wakeups
    }

    /// Listens to the speaker that is there now.
    pub(super) fn rewire(&mut self, appliance: &Appliance) {
        self.peers = appliance.reconciler.routes.peers();
        if let Some(peers) = &mut self.peers {
            peers.mark_changed();
        }
    }

    /// An event that is there already.
    pub(super) fn ready(&mut self) -> Option<Event> {
        self.next(None).now_or_never()
    }

    /// The next event. Cancel-safe: nothing is taken before it is returned.
    pub(super) async fn next(&mut self, shows_at: Option<Instant>) -> Event {
        tokio::select! {
            // Signals first, so that no flood of changes keeps the daemon from ending.
            biased;
            _ = self.signals.terminate.recv() => Event::Terminate("SIGTERM"),
            _ = self.signals.interrupt.recv() => Event::Terminate("SIGINT"),
            _ = self.signals.hangup.recv() => Event::Reload,
            // Before the watched values: the tick feeds the service manager's watchdog.
            _ = self.tick.tick() => Event::Tick,
            read = latest(&mut self.health) => read.map_or(Event::Lost("health checks"), Event::Health),
            read = latest(&mut self.desired) => read.map_or(Event::Lost("the ledger"), Event::Desired),
            read = latest(&mut self.links) => read.map_or(Event::Lost("netlink"), Event::Links),
            read = latest(&mut self.next_hops) => read.map_or(Event::Lost("netlink"), Event::NextHops),
            read = latest(&mut self.ways) => read.map_or(Event::Lost("netlink"), Event::Ways),
            read = latest(&mut self.surroundings) => {
                read.map_or(Event::Lost("netlink"), Event::Surroundings)
            }
            read = latest(&mut self.routing) => read.map_or(Event::Lost("netlink"), |_| Event::Routing),
            read = peers(&mut self.peers) => read.map_or(Event::Lost("BGP"), Event::Peers),
            // Last: whatever else happens shows the state as well.
            () = at(shows_at) => Event::Show,
        }
    }
}

/// The next value that was not seen; `None` when there will be no more.
async fn latest<T: Clone>(watched: &mut watch::Receiver<T>) -> Option<T> {
    watched.changed().await.ok()?;
    Some(watched.borrow_and_update().clone())
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

async fn peers(watched: &mut Option<watch::Receiver<Vec<PeerStatus>>>) -> Option<Vec<PeerStatus>> {
    match watched {
        Some(watched) => latest(watched).await,
        None => std::future::pending().await,
    }
}
