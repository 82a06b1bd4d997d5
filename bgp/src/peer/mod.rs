//! One peer: one task, one loop. It waits for an event, feeds it to the state machine, and does what comes out.

use crate::config::{PeerConfig, Tuning};
use crate::connection::Connection;
use crate::dial;
use crate::next_hop::NextHops;
use crate::session::{Session, WRITE_LIMIT};
use crate::status::{PeerState, StatusWriter};
use sluice_bgp_core::fsm::{self, Down, Input, Output, Reason, Role, StateName};
use sluice_bgp_core::rib::Announced;
use sluice_bgp_core::wire::{Message, Negotiated, Notification};
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
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
    Ready(Role, io::Result<()>),
    /// A closed connection has said its last words.
    Lingered,
}

type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// The task's state.
pub(crate) struct PeerTask {
    config: PeerConfig,
    tuning: Tuning,
    fsm: fsm::Peer,
    commands: mpsc::Receiver<Command>,
    routes: watch::Receiver<Arc<Announced>>,
    status: StatusWriter,
    dialling: Option<Dialling>,
    dialled: Option<Connection>,
    accepted: Option<Connection>,
    session: Option<Session>,
    lingering: JoinSet<()>,
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
            fsm: fsm::Peer::new(fsm),
            commands,
            routes,
            status,
            dialling: None,
            dialled: None,
            accepted: None,
            session: None,
            lingering: JoinSet::new(),
        }
    }

    /// Until stopped or orphaned.
    pub(crate) async fn run(mut self) {
        self.fsm.start(Instant::now());
        self.pump();
        loop {
            match self.next_event().await {
                Event::Command(Command::Accepted(stream)) => self.accept(stream),
                Event::Command(Command::Stop(stop)) => return self.stop(stop).await,
                Event::Orphaned => return,
                Event::Deadline => self.tick().await,
                Event::Routes => self.take_routes(),
                Event::Dialled(result) => self.take_dialled(result),
                Event::Ready(role, Ok(())) => self.read(role),
                Event::Ready(role, Err(error)) => self.disconnected(role, &broken(&error)),
                Event::Lingered => {}
            }
            self.pump();
        }
    }

    /// Cancel-safe throughout. Timers come before the peer's bytes, so that a flood does not stop our keepalives.
    async fn next_event(&mut self) -> Event {
        let deadline = self.fsm.next_deadline();
        tokio::select! {
            biased;
            command = self.commands.recv() => command.map_or(Event::Orphaned, Event::Command),
            () = sleep_until(deadline) => Event::Deadline,
            changed = self.routes.changed(), if self.session.is_some() => {
                changed.map_or(Event::Orphaned, |()| Event::Routes)
            }
            result = poll_dialling(&mut self.dialling) => Event::Dialled(result),
            result = ready(self.dialled.as_ref()) => Event::Ready(Role::Dial, result),
            result = ready(self.accepted.as_ref()) => Event::Ready(Role::Accept, result),
            Some(_) = self.lingering.join_next() => Event::Lingered,
        }
    }

    // Feeding.

    fn accept(&mut self, stream: TcpStream) {
        if !self.fsm.admit(Instant::now()) {
            tracing::debug!(peer = %self.config.address, "connection refused: there is a session, or it failed just now");
            return;
        }
        // The connection of before, if any, goes first.
        self.perform();
        self.connected(Role::Accept, stream);
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
        let local = stream.set_nodelay(true).and_then(|()| stream.local_addr());
        match local {
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
        self.read(Role::Dial);
        self.read(Role::Accept);
        self.fsm.tick(Instant::now());
    }

    fn take_routes(&mut self) {
        let routes = self.routes.borrow_and_update().clone();
        if let Some(session) = &mut self.session {
            session.rib_out.set(routes);
        }
    }

    fn read(&mut self, role: Role) {
        let Some(connection) = self.slot(role) else {
            return;
        };
        let end = match connection.fill() {
            Ok(true) => None,
            Ok(false) if connection.has_partial_message() => {
                Some("the peer closed the connection in the middle of a message".to_owned())
            }
            Ok(false) => Some("the peer closed the connection".to_owned()),
            Err(error) => Some(broken(&error)),
        };
        let mut messages_in = 0;
        // The state machine may close the connection at any message.
        while let Some(connection) = self.slot(role) {
            match connection.next_message() {
                Ok(Some(message)) => {
                    messages_in += 1;
                    self.fsm.handle(role, Input::Message(message), Instant::now());
                }
                Ok(None) => break,
                Err(error) => self.fsm.handle(role, Input::Malformed(error), Instant::now()),
            }
            self.perform();
        }
        if messages_in > 0 {
            self.status.update(|status| status.messages_in += messages_in);
        }
        if let (Some(why), Some(_)) = (end, self.slot(role).as_ref()) {
            self.disconnected(role, &why);
        }
    }

    // Doing.

    /// Does what the state machine wants and writes what can be written, until both have nothing left.
    fn pump(&mut self) {
        loop {
            self.perform();
            self.write_routes();
            let mut acted = false;
            for role in [Role::Dial, Role::Accept] {
                acted |= self.flush(role);
            }
            if !acted {
                break;
            }
        }
        self.publish();
    }

    /// Whether the state machine was told something, or there is room for more routes.
    fn flush(&mut self, role: Role) -> bool {
        let Some(connection) = self.slot(role) else {
            return false;
        };
        match connection.flush() {
            Ok(None) => {
                let drained = connection.outgoing.is_empty();
                drained
                    && self
                        .session
                        .as_ref()
                        .is_some_and(|s| s.role == role && s.rib_out.is_pending())
            }
            Ok(Some(writes)) => {
                self.fsm.handle(role, Input::Writes(writes), Instant::now());
                true
            }
            Err(error) => {
                self.disconnected(role, &broken(&error));
                true
            }
        }
    }

    fn write_routes(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        let connection = match session.role {
            Role::Dial => &mut self.dialled,
            Role::Accept => &mut self.accepted,
        };
        if let Some(connection) = connection
            && session.rib_out.is_pending()
        {
            let written = session.rib_out.write(&mut connection.outgoing, WRITE_LIMIT);
            if written > 0 {
                self.status.update(|status| status.messages_out += written);
            }
        }
    }

    fn perform(&mut self) {
        while let Some((role, output)) = self.fsm.poll_output() {
            match output {
                Output::Dial => self.dialling = Some(Box::pin(dial::dial(self.config.clone()))),
                Output::Send(message) => self.send(role, &message),
                Output::Close => self.close(role),
                Output::Up(negotiated) => self.up(role, &negotiated),
                Output::Update(update) => {
                    if let Some(session) = &mut self.session {
                        session.rib_in.apply(&update);
                    }
                }
                Output::Refresh(family) => {
                    if let Some(session) = &mut self.session {
                        session.rib_out.refresh(family);
                    }
                }
                Output::Down(down) => self.down(role, &down),
            }
        }
    }

    fn send(&mut self, role: Role, message: &Message) {
        let Some(connection) = self.slot(role) else {
            return;
        };
        match connection.codec.encode(message, &mut connection.outgoing) {
            Ok(()) => self.status.update(|status| status.messages_out += 1),
            Err(error) => tracing::error!(peer = %self.config.address, %error, "message not sent"),
        }
    }

    fn close(&mut self, role: Role) {
        if role == Role::Dial {
            self.dialling = None;
        }
        let linger = self.tuning.linger;
        if let Some(connection) = self.slot(role).take()
            && !connection.outgoing.is_empty()
        {
            self.lingering.spawn(connection.linger(linger));
        }
    }

    fn up(&mut self, role: Role, negotiated: &Negotiated) {
        let routes = self.routes.borrow_and_update().clone();
        let Some(connection) = self.slot(role) else {
            return;
        };
        connection.codec = negotiated.codec();
        let local = connection.local;
        let session = Session::new(role, negotiated, connection, routes);
        self.status.update(|status| {
            status.since = SystemTime::now();
            status.local_address = Some(local);
            status.router_id = Some(negotiated.peer_router_id);
            status.hold_time = Some(negotiated.hold_time.duration().unwrap_or_default());
            status.capabilities =
                negotiated.peer_capabilities.iter().map(ToString::to_string).collect();
            status.families = negotiated.families.iter().map(ToString::to_string).collect();
        });
        tracing::info!(
            peer = %self.config.address, asn = %negotiated.peer_asn, %local, "BGP session established"
        );
        self.session = Some(session);
    }

    fn down(&mut self, role: Role, down: &Down) {
        let peer = self.config.address;
        if self.session.as_ref().is_some_and(|session| session.role == role) {
            self.session = None;
        }
        match (&down.reason, down.uptime) {
            // A collision is no error; the other connection goes on.
            (Reason::Collision | Reason::Stopped, None) => {}
            (reason, None) => {
                tracing::debug!(%peer, %reason, "BGP connection failed");
                self.status.update(|status| status.last_error = Some(reason.to_string()));
            }
            (reason, Some(uptime)) => {
                tracing::warn!(%peer, %reason, ?uptime, "BGP session lost");
                self.status.update(|status| {
                    status.since = SystemTime::now();
                    status.flaps += 1;
                    status.last_error = Some(reason.to_string());
                });
            }
        }
    }

    /// The parts of the status that follow from everything else.
    fn publish(&mut self) {
        let state = state_of(self.fsm.state());
        let session = self.session.as_ref();
        let problems = session.map(Session::problems).unwrap_or_default();
        self.status.update(|status| {
            status.state = state;
            match session {
                Some(session) => {
                    status.announced = session.rib_out.announced() as u64;
                    status.received = session.rib_in.len() as u64;
                }
                None => status.clear_session(),
            }
            status.problems = problems;
        });
    }

    // Ending.

    async fn stop(mut self, stop: Stop) {
        let limit = self.tuning.linger;
        if stop.withdraw && tokio::time::timeout(limit, self.withdraw_all()).await.is_err() {
            tracing::warn!(peer = %self.config.address, "the peer did not take all withdrawals in time");
        }
        self.fsm.stop(stop.notification, Instant::now());
        self.pump();
        while self.lingering.join_next().await.is_some() {}
        drop(stop.done);
    }

    async fn withdraw_all(&mut self) {
        if let Some(session) = &mut self.session {
            session.rib_out.set(Arc::default());
        }
        loop {
            self.pump();
            let Some(session) = &self.session else {
                return;
            };
            let connection = match session.role {
                Role::Dial => self.dialled.as_ref(),
                Role::Accept => self.accepted.as_ref(),
            };
            match connection {
                Some(c) if session.rib_out.is_pending() || !c.outgoing.is_empty() => {
                    if c.writable().await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    fn slot(&mut self, role: Role) -> &mut Option<Connection> {
        match role {
            Role::Dial => &mut self.dialled,
            Role::Accept => &mut self.accepted,
        }
    }
}

fn broken(error: &io::Error) -> String {
    format!("the connection broke: {error}")
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

async fn ready(connection: Option<&Connection>) -> io::Result<()> {
    match connection {
        Some(connection) => connection.ready().await,
        None => pending().await,
    }
}

async fn poll_dialling(dialling: &mut Option<Dialling>) -> io::Result<TcpStream> {
    match dialling {
        Some(dialling) => dialling.as_mut().await,
        None => pending().await,
    }
}

fn state_of(name: StateName) -> PeerState {
    match name {
        StateName::Idle => PeerState::Idle,
        StateName::Active => PeerState::Active,
        StateName::Connect => PeerState::Connect,
        StateName::OpenSent => PeerState::OpenSent,
        StateName::OpenConfirm => PeerState::OpenConfirm,
        StateName::Established => PeerState::Established,
    }
}
