//! The one task: waits for one [`Event`], feeds the tables and the tracker, flushes what changed.

use crate::address_table::AddressTable;
use crate::decode::{NeighKey, Route};
use crate::epoch::Epoch;
use crate::error::{RequestError, StartError};
use crate::kernel::{self, Dump, Routing};
use crate::ours::LOOPBACK_INDEX;
use crate::socket::{Message, Notifications, Requests};
use crate::surroundings::Follower;
use crate::tables::{Change, Tables};
use crate::track::Tracker;
use crate::types::{Link, Resolution, Surroundings, Way, Ways};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use nix::errno::Errno;
use rtnetlink::packet_core::NetlinkPayload;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pause before a question to the kernel that was not answered is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Notifications taken in one go before anything is published.
const BURST_MESSAGES: usize = 4096;

/// What a handle asks of the task.
pub(crate) enum Command {
    /// The whole set of destinations to keep resolved.
    Track(BTreeSet<IpAddr>),
}

/// Everything that can wake the task.
enum Event {
    Command(Command),
    HandlesGone,
    Notification(Message),
    /// A socket's task ended: nothing can be known or asked any more.
    SocketClosed,
    Dumped(Result<Dump, RequestError>),
    Routed(Vec<IpAddr>, Result<Vec<Route>, RequestError>),
    Probed(Vec<NeighKey>, Result<Vec<Result<(), Errno>>, RequestError>),
    /// All routes.
    Routing(Result<Routing, RequestError>),
    /// A pause is over: a probe or the epoch is due, or an unanswered question may be asked again.
    Deadline,
}

/// What the handles read.
pub(crate) struct Outputs {
    pub(crate) links: watch::Receiver<Arc<BTreeMap<u32, Link>>>,
    pub(crate) resolutions: watch::Receiver<Arc<BTreeMap<IpAddr, Resolution>>>,
    pub(crate) routing_epoch: watch::Receiver<u64>,
    pub(crate) surroundings: watch::Receiver<Arc<Surroundings>>,
    pub(crate) ways: watch::Receiver<Arc<Ways>>,
    pub(crate) addresses: watch::Receiver<AddressTable>,
}

pub(crate) struct Driver {
    commands: mpsc::UnboundedReceiver<Command>,
    notifications: Notifications,
    requests: Requests,
    /// The task that drives the requests' socket; it ends with this one.
    requests_task: JoinSet<()>,
    /// Questions under way; at most one of each kind.
    work: FuturesUnordered<BoxFuture<'static, Event>>,
    routing: bool,
    probing: bool,
    /// Notifications held back while a dump is read, to be applied on top of it.
    held_back: Option<Vec<Message>>,
    /// An unanswered question is not repeated before this.
    retry_at: Option<Instant>,
    /// Notifications were lost: a new subscription and a dump are wanted.
    lost: bool,
    tables: Tables,
    tracker: Tracker,
    epoch: Epoch,
    surroundings: Follower,
    links: watch::Sender<Arc<BTreeMap<u32, Link>>>,
    resolutions: watch::Sender<Arc<BTreeMap<IpAddr, Resolution>>>,
    ways: watch::Sender<Arc<Ways>>,
}

/// Opens the sockets, reads the first state and starts the task. It ends when `commands` closes.
pub(crate) async fn start(
    commands: mpsc::UnboundedReceiver<Command>,
) -> Result<(Requests, Outputs), StartError> {
    // Subscribed before the first read, so that nothing falls between the two.
    let notifications = Notifications::open().map_err(StartError::Open)?;
    let (requests, requests_task) = Requests::open().map_err(StartError::Open)?;
    let tables = Tables::new(kernel::dump(&requests).await.map_err(StartError::Read)?);
    // Before anything can be programmed: nobody is to take a router's address for a free one.
    let Routing { gateways, ways } = kernel::routing(&requests).await.map_err(StartError::Read)?;
    let others = tables.addresses.borrow().others();
    let mut driver = Driver {
        surroundings: Follower::new(others, gateways),
        commands,
        notifications,
        requests: requests.clone(),
        requests_task,
        work: FuturesUnordered::new(),
        routing: false,
        probing: false,
        held_back: None,
        retry_at: None,
        lost: false,
        tracker: Tracker::default(),
        epoch: Epoch::default(),
        links: watch::Sender::new(Arc::new(tables.links.clone())),
        resolutions: watch::Sender::default(),
        ways: watch::Sender::default(),
        tables,
    };
    driver.take_ways(ways);
    let outputs = Outputs {
        links: driver.links.subscribe(),
        resolutions: driver.resolutions.subscribe(),
        routing_epoch: driver.epoch.subscribe(),
        surroundings: driver.surroundings.subscribe(),
        ways: driver.ways.subscribe(),
        addresses: driver.tables.addresses.subscribe(),
    };
    driver.report_loopback();
    tokio::spawn(driver.run());
    Ok((requests, outputs))
}

// === impl Driver ===

impl Driver {
    async fn run(mut self) {
        loop {
            let event = self.next_event().await;
            if self.feed(event).is_break() {
                return;
            }
            for _ in 0..BURST_MESSAGES {
                match self.notifications.messages.next().now_or_never() {
                    Some(Some(message)) => self.notified(message),
                    _ => break,
                }
            }
            self.flush();
            // Waiting for what is there already costs the runtime nothing and never yields: in a storm of notifications
            // nothing else on this thread would have its turn.
            tokio::task::yield_now().await;
        }
    }

    /// Cancel-safe: each branch loses nothing when another is taken.
    async fn next_event(&mut self) -> Event {
        let deadline = self.next_deadline();
        tokio::select! {
            command = self.commands.recv() => command.map_or(Event::HandlesGone, Event::Command),
            message = self.notifications.messages.next() => {
                message.map_or(Event::SocketClosed, Event::Notification)
            }
            Some(answer) = self.work.next(), if !self.work.is_empty() => answer,
            _ = self.requests_task.join_next() => Event::SocketClosed,
            () = sleep_until(deadline), if deadline.is_some() => Event::Deadline,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let probe = self.tracker.next_deadline().filter(|_| !self.probing);
        // While questions may not be asked, nothing but the end of that pause matters to them.
        let questions = self.retry_at.or(probe);
        let gateways = self.surroundings.deadline().filter(|_| self.retry_at.is_none());
        [questions, gateways, self.epoch.deadline()].into_iter().flatten().min()
    }

    fn feed(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Command(Command::Track(destinations)) => self.tracker.track(&destinations),
            Event::HandlesGone => return ControlFlow::Break(()),
            Event::Notification(message) => self.notified(message),
            Event::SocketClosed => {
                tracing::error!(
                    "netlink socket closed; links, routes and neighbours are not followed any more"
                );
                return ControlFlow::Break(());
            }
            Event::Dumped(dump) => self.dumped(dump),
            Event::Routed(destinations, answers) => self.routed(destinations, answers),
            Event::Probed(neighs, answers) => self.probed(&neighs, answers),
            Event::Routing(answer) => {
                let gateways = match answer {
                    Ok(Routing { gateways, ways }) => {
                        self.take_ways(ways);
                        Some(gateways)
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "cannot read the routes");
                        self.retry_later();
                        None
                    }
                };
                self.surroundings.answered(gateways, Instant::now());
            }
            Event::Deadline => {}
        }
        ControlFlow::Continue(())
    }

    fn notified(&mut self, message: Message) {
        match (&message.payload, &mut self.held_back) {
            (NetlinkPayload::Overrun(_), _) => {
                tracing::info!("netlink notifications were lost; reading the full state again");
                self.lost = true;
            }
            (_, Some(held_back)) => held_back.push(message),
            (_, None) => self.apply(&message),
        }
    }

    fn apply(&mut self, message: &Message) {
        let NetlinkPayload::InnerMessage(message) = &message.payload else { return };
        match self.tables.apply(message) {
            Change::Nothing => {}
            Change::Links => self.links_changed(),
            Change::Addresses => {
                self.surroundings.addresses_changed();
                self.tracker.invalidate_all();
                self.epoch.want();
            }
            Change::Rules => {
                self.surroundings.routes_changed();
                self.tracker.invalidate_all();
                self.epoch.want();
            }
            Change::Route { prefix, beyond } => {
                self.tracker.invalidate(&prefix);
                if beyond {
                    self.surroundings.routes_changed();
                    self.epoch.want();
                }
            }
            Change::Neigh { key, moved } => {
                self.tracker.neigh_changed(&key, self.tables.neighs.get(&key), Instant::now());
                if moved {
                    self.epoch.want();
                }
            }
        }
    }

    fn links_changed(&mut self) {
        let before = self.links.borrow().clone();
        for link in self.tables.links.values().filter(|link| link.up) {
            if before.get(&link.index).is_none_or(|link| !link.up) {
                self.tracker.link_up(link.index);
            }
        }
        // Routes of a link that goes down go without a word of their own.
        self.surroundings.routes_changed();
        self.tracker.invalidate_all();
        self.epoch.want();
    }

    fn dumped(&mut self, dump: Result<Dump, RequestError>) {
        let held_back = self.held_back.take().unwrap_or_default();
        match dump {
            Ok(dump) => {
                self.tables.replace(dump);
                self.surroundings.addresses_changed();
                self.tracker.neighs_replaced(&self.tables.neighs, Instant::now());
                self.links_changed();
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the full state"
                );
                self.lost = true;
                self.retry_later();
            }
        }
        for message in &held_back {
            self.apply(message);
        }
    }

    fn routed(&mut self, destinations: Vec<IpAddr>, answers: Result<Vec<Route>, RequestError>) {
        self.routing = false;
        match answers {
            Ok(routes) => {
                let answers = destinations.into_iter().zip(routes).collect();
                self.tracker.routed(answers, &self.tables.neighs, Instant::now());
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot ask for routes");
                self.tracker.not_routed(destinations);
                self.retry_later();
            }
        }
    }

    fn probed(
        &mut self,
        neighs: &[NeighKey],
        answers: Result<Vec<Result<(), Errno>>, RequestError>,
    ) {
        self.probing = false;
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot probe neighbours");
                return;
            }
        };
        let mut refused = 0u32;
        for ((link_index, gateway), answer) in neighs.iter().zip(answers) {
            match answer {
                Ok(()) => {}
                Err(Errno::ENOBUFS) => refused = refused.saturating_add(1),
                Err(errno) => tracing::debug!(link_index, %gateway, %errno, "neighbour not probed"),
            }
        }
        if refused > 0 {
            tracing::warn!(
                refused,
                "the kernel's neighbour table is full; raise net.ipv4.neigh.default.gc_thresh3 (ipv6 likewise)"
            );
        }
    }

    /// Publishes what changed and asks what is due.
    fn flush(&mut self) {
        let now = Instant::now();
        if self.links.send_if_modified(|links| {
            let changed = **links != self.tables.links;
            if changed {
                *links = Arc::new(self.tables.links.clone());
            }
            changed
        }) {
            self.report_loopback();
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.retry_at.is_none() {
            self.ask(now);
        }
        if let Some(resolutions) = self.tracker.take_resolutions(&self.tables.links) {
            self.resolutions.send_if_modified(|published| {
                let changed = **published != resolutions;
                if changed {
                    *published = Arc::new(resolutions);
                }
                changed
            });
            // Whatever moves them is seen by the tracker.
            self.publish_ways();
        }
        self.surroundings.flush(|| self.tables.addresses.borrow().others());
        self.epoch.flush(now);
    }

    fn ask(&mut self, now: Instant) {
        if self.lost && self.held_back.is_none() {
            match Notifications::open() {
                Ok(notifications) => self.notifications = notifications,
                Err(error) => {
                    tracing::warn!(%error, "cannot subscribe to the kernel's notifications again");
                    return self.retry_later();
                }
            }
            self.lost = false;
            self.held_back = Some(Vec::new());
            let requests = self.requests.clone();
            self.work.push(async move { Event::Dumped(kernel::dump(&requests).await) }.boxed());
        }
        if !self.routing {
            let destinations = self.tracker.take_dirty();
            if !destinations.is_empty() {
                self.routing = true;
                let requests = self.requests.clone();
                self.work.push(
                    async move {
                        let answers = kernel::routes(&requests, &destinations).await;
                        Event::Routed(destinations, answers)
                    }
                    .boxed(),
                );
            }
        }
        if self.surroundings.ask(now) {
            let requests = self.requests.clone();
            self.work.push(async move { Event::Routing(kernel::routing(&requests).await) }.boxed());
        }
        if !self.probing {
            let neighs = self.tracker.take_due(&self.tables.links, now);
            if !neighs.is_empty() {
                self.probing = true;
                let requests = self.requests.clone();
                self.work.push(
                    async move {
                        let answers = kernel::probe(&requests, &neighs).await;
                        Event::Probed(neighs, answers)
                    }
                    .boxed(),
                );
            }
        }
    }

    /// Has the routers of other ways resolved.
    fn take_ways(&mut self, read: Ways) {
        let routers = read.prefixes.values().filter_map(|way| match way {
            Way::Routers(routers) => Some(routers),
            Way::Unknown | Way::Local | Way::Link(_) => None,
        });
        let routers = routers.flatten().copied().collect();
        self.tracker.keep(routers, &self.tables.neighs, Instant::now());
        self.ways.send_if_modified(|ways| {
            let changed = ways.prefixes != read.prefixes || ways.unknown != read.unknown;
            if changed {
                let routers = self.tracker.routers(&self.tables.links);
                *ways = Arc::new(Ways { routers, ..read });
            }
            changed
        });
    }

    fn publish_ways(&self) {
        self.ways.send_if_modified(|ways| {
            let routers = self.tracker.routers(&self.tables.links);
            let changed = ways.routers != routers;
            if changed {
                *ways = Arc::new(Ways { routers, ..Ways::clone(ways) });
            }
            changed
        });
    }

    fn retry_later(&mut self) {
        self.retry_at = Some(Instant::now() + RETRY_PAUSE);
    }

    /// VIPs on a loopback that is down do not answer; bringing links up is the operator's business.
    fn report_loopback(&self) {
        if self.tables.links.get(&LOOPBACK_INDEX).is_none_or(|link| !link.up) {
            tracing::warn!("lo is down: local clients cannot reach VIPs; use 'ip link set lo up'");
        }
    }
}

/// Used behind a guard: never polled without a deadline.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
