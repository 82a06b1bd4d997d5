//! One peer: one task, one loop. It waits for an event, feeds it to the state machine, and does what comes out.
//!
//! Each event is a turn of bounded length, and after each the other tasks of the thread have theirs: what a peer sends
//! without end delays the others by a turn, and its own timers as well.

mod doing;

use crate::config::{PeerConfig, Tuning};
use crate::connection::{Connection, broken};
use crate::hops::Hops;
use crate::next_hop::{self, NextHops};
use crate::session::Session;
use crate::status::StatusWriter;
use sluice_bgp_core::fsm::{self, Input, Role};
use sluice_bgp_core::rib::Announced;
use sluice_bgp_core::wire::Notification;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// What others ask of a peer's task.
pub(crate) enum Command {
    /// The listener has a connection from the peer's address.
    Accepted(TcpStream),
    /// End for good.
    Stop(Stop),
}

/// How to end.
pub(crate) struct Stop {
    pub(crate) notification: Notification,
    /// Take all routes back first.
    pub(crate) withdraw: bool,
    /// Dropped when the connections are closed.
    pub(crate) done: oneshot::Sender<()>,
}

/// Everything that can wake a peer's task.
enum Event {
    Command(Command),
    /// Nobody can ask anything any more: the speaker was dropped.
    Orphaned,
    Deadline,
    Routes,
    Dialled(io::Result<TcpStream>),
    /// A connection has something to read, or room to write.
    Ready,
    /// The last turn left something that waits for nothing.
    More,
    /// A closed connection has said its last words.
    Lingered,
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The task's state.
pub(crate) struct PeerTask {
    config: PeerConfig,
    tuning: Tuning,
    fsm: fsm::Peer,
    /// The peer is in our own AS.
    internal: bool,
    /// The peer's address is on a network of ours, when it was last looked at: before each connection.
    on_link: bool,
    commands: mpsc::Receiver<Command>,
    routes: watch::Receiver<Arc<Announced>>,
    status: StatusWriter,
    dialling: Option<Dialling>,
    dialled: Option<Connection>,
    accepted: Option<Connection>,
    beside: Option<Connection>,
    session: Option<Session>,
    lingering: JoinSet<()>,
    /// There are routes and room for them.
    can_write: bool,
}

// === impl PeerTask ===

impl PeerTask {
    pub(crate) fn new(
        config: PeerConfig,
        fsm: fsm::Config,
        tuning: Tuning,
        commands: mpsc::Receiver<Command>,
        routes: watch::Receiver<Arc<Announced>>,
        status: StatusWriter,
    ) -> Self {
        Self {
            config,
            tuning,
            internal: fsm.internal(),
            on_link: true,
            fsm: fsm::Peer::new(fsm),
            commands,
            routes,
            status,
            dialling: None,
            dialled: None,
            accepted: None,
            beside: None,
            session: None,
            lingering: JoinSet::new(),
            can_write: false,
        }
    }

    /// Until stopped or orphaned.
    pub(crate) async fn run(mut self) {
        self.fsm.start(Instant::now());
        self.act();
        loop {
            match self.next_event().await {
                Event::Command(Command::Accepted(stream)) => self.accept(stream),
                Event::Command(Command::Stop(stop)) => return self.stop(stop).await,
                Event::Orphaned => return,
                Event::Deadline => self.tick().await,
                Event::Routes => self.take_routes(),
                Event::Dialled(result) => self.take_dialled(result),
                // All of them: one that always has something would hide the others.
                Event::Ready | Event::More => {
                    Role::ALL.into_iter().for_each(|role| self.read(role))
                }
                Event::Lingered => {}
            }
            self.act();
            // What is awaited above may be ready at once again and again, which tokio does not count.
            tokio::task::yield_now().await;
        }
    }

    /// Cancel-safe throughout. Timers come before the peer's bytes, so that a flood does not stop our keepalives; each of
    /// them moves on when it is handled, so that they do not stop anything either.
    async fn next_event(&mut self) -> Event {
        let deadline = self.next_deadline(Instant::now());
        let connections = [&self.dialled, &self.accepted, &self.beside];
        let has_more =
            self.can_write || connections.into_iter().flatten().any(Connection::has_unread);
        let [dialled, accepted, beside] = connections.map(Option::as_ref);
        tokio::select! {
            biased;
            () = reached(deadline) => Event::Deadline,
            command = self.commands.recv() => command.map_or(Event::Orphaned, Event::Command),
            changed = self.routes.changed(), if self.session.is_some() => {
                changed.map_or(Event::Orphaned, |()| Event::Routes)
            }
            result = poll_dialling(&mut self.dialling) => Event::Dialled(result),
            () = std::future::ready(()), if has_more => Event::More,
            () = ready(dialled) => Event::Ready,
            () = ready(accepted) => Event::Ready,
            () = ready(beside) => Event::Ready,
            Some(_) = self.lingering.join_next() => Event::Lingered,
        }
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let answer = self.session.as_ref().and_then(|session| session.answer_at(now));
        [self.fsm.next_deadline(), answer, self.status.due_at(now)].into_iter().flatten().min()
    }

    // Feeding.

    fn accept(&mut self, stream: TcpStream) {
        let Some(role) = self.fsm.admit(Instant::now()) else {
            let peer = self.config.address;
            tracing::debug!(%peer, "connection refused: there is a session, it failed just now, or it was one too many");
            return;
        };
        // The connection of before, if any, goes first.
        self.perform();
        self.on_link = next_hop::is_on_link(self.config.address);
        self.connected(role, stream);
    }

    fn take_dialled(&mut self, result: io::Result<TcpStream>) {
        self.dialling = None;
        match result {
            Ok(stream) => self.connected(Role::Dial, stream),
            Err(error) => {
                let (address, port) = (self.config.address, self.config.port);
                self.disconnected(
                    Role::Dial,
                    &format!("connect to {address} port {port}: {error}"),
                );
            }
        }
    }

    fn connected(&mut self, role: Role, stream: TcpStream) {
        // Every message is complete when it is written; waiting for more only delays it.
        let prepare = || {
            stream.set_nodelay(true)?;
            let (hops, peer) = (self.hops(), self.config.address);
            hops.limit_sent(&stream, peer)?;
            hops.limit_taken(&stream, peer)?;
            stream.local_addr()
        };
        match prepare() {
            Ok(local) => {
                let next_hops = NextHops::of(&self.config, local.ip().to_canonical());
                let families = next_hops.families();
                *self.slot(role) = Some(Connection::new(stream, local, next_hops));
                self.fsm.handle(role, Input::Connected(families), Instant::now());
            }
            Err(error) => self.disconnected(role, &broken(&error)),
        }
    }

    fn disconnected(&mut self, role: Role, why: &str) {
        *self.slot(role) = None;
        self.fsm.handle(role, Input::Disconnected(why.to_owned()), Instant::now());
    }

    /// What the peer has sent by now counts before a timer does: if this process was stopped or starved for longer than
    /// the hold time, the keepalives wait in the socket.
    async fn tick(&mut self) {
        // Lets the runtime look at the sockets again.
        tokio::task::yield_now().await;
        Role::ALL.into_iter().for_each(|role| self.read(role));
        self.fsm.tick(Instant::now());
    }

    fn take_routes(&mut self) {
        let routes = self.routes.borrow_and_update().clone();
        if let Some(session) = &mut self.session {
            session.rib_out.set(routes);
        }
    }

    /// One turn of a connection's messages.
    fn read(&mut self, role: Role) {
        if let Some(connection) = self.slot(role) {
            connection.begin_turn();
        }
        // The state machine may close the connection at any message.
        while let Some(connection) = self.slot(role) {
            match connection.next() {
                Ok(Some(message)) => {
                    self.status.status().messages_in += 1;
                    self.fsm.handle(role, Input::Message(message), Instant::now());
                }
                Ok(None) => match connection.end() {
                    Some(why) => self.disconnected(role, &why),
                    None => break,
                },
                Err(error) => self.fsm.handle(role, Input::Malformed(error), Instant::now()),
            }
            self.perform();
        }
    }

    fn hops(&self) -> Hops {
        Hops::of(&self.config, self.internal, self.on_link)
    }

    fn slot(&mut self, role: Role) -> &mut Option<Connection> {
        match role {
            Role::Dial => &mut self.dialled,
            Role::Accept => &mut self.accepted,
            Role::AcceptBeside => &mut self.beside,
        }
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        // Tokio's clock stands while its driver waits for its turn.
        Some(at) if at <= Instant::now() => {}
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// An error shows when it is read.
async fn ready(connection: Option<&Connection>) {
    match connection {
        Some(connection) => drop(connection.ready().await),
        None => pending().await,
    }
}

async fn poll_dialling(dialling: &mut Option<Dialling>) -> io::Result<TcpStream> {
    match dialling {
        Some(dialling) => dialling.as_mut().await,
        None => pending().await,
    }
}
