//! The handle: starts, changes and stops the tasks of listeners and peers.

use crate::config::{PeerConfig, SpeakerConfig, Tuning};
use crate::dial;
use crate::error::{ConfigureError, ListenError, StartError};
use crate::listener::{self, Listener, Route, Routing};
use crate::peer::{Command, PeerTask, Stop};
use crate::runtime::{AbortOnDrop, Sessions};
use crate::status::{Board, PeerStatus, StatusWriter};
use ipnet::IpNet;
use sluice_bgp_core::rib::Announced;
use sluice_bgp_core::wire::Notification;
use sluice_bgp_core::wire::notification::{cease, code};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

/// Commands that may wait for a peer's task; it takes them at once.
const COMMAND_QUEUE: usize = 8;

/// Handle to the speaker's tasks, which run on a thread of their own. Dropping it closes all sockets without a word, as a crash would: peers with graceful
/// restart keep our routes.
pub struct Speaker {
    inner: Mutex<Inner>,
    routes: watch::Sender<Arc<Announced>>,
    board: Board,
    refused: Arc<AtomicU64>,
    /// Last, so that everything on it has been told to end.
    sessions: Sessions,
}

struct Inner {
    config: SpeakerConfig,
    tuning: Tuning,
    listeners: BTreeMap<SocketAddr, ListenerTask>,
    peers: BTreeMap<IpAddr, PeerHandle>,
    routing: watch::Sender<Routing>,
}

struct ListenerTask {
    local: SocketAddr,
    task: AbortOnDrop,
}

struct PeerHandle {
    config: PeerConfig,
    commands: mpsc::Sender<Command>,
    /// Ends the task when dropped.
    _task: AbortOnDrop,
}

// === impl Speaker ===

impl Speaker {
    /// Binds the listeners and starts a task per peer. `initial` is complete: its End-of-RIB follows at once.
    /// `restarted` says that forwarding state survived (RFC 4724 R and F bits on the first session of each peer).
    pub async fn start(
        config: SpeakerConfig,
        initial: Announced,
        restarted: bool,
    ) -> Result<Self, StartError> {
        Self::start_tuned(config, initial, restarted, Tuning::default()).await
    }

    /// [`Speaker::start`] with other times than the RFCs suggest.
    pub async fn start_tuned(
        config: SpeakerConfig,
        initial: Announced,
        restarted: bool,
        tuning: Tuning,
    ) -> Result<Self, StartError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(StartError::Config(problems));
        }
        let sessions = Sessions::start().map_err(StartError::Thread)?;
        let sockets = bind_all(&sessions, &config.listen, config.listen.len())?;
        let inner = Inner {
            config: SpeakerConfig { listen: Vec::new(), peers: Vec::new(), ..config.clone() },
            tuning,
            listeners: BTreeMap::new(),
            peers: BTreeMap::new(),
            routing: watch::Sender::new(Arc::default()),
        };
        let speaker = Self {
            inner: Mutex::new(inner),
            routes: watch::Sender::new(Arc::new(normalised(initial))),
            board: watch::Sender::new(Vec::new()),
            refused: Arc::default(),
            sessions,
        };
        let mut inner = speaker.inner.lock().await;
        speaker.apply(&mut inner, config, sockets, restarted).await;
        drop(inner);
        Ok(speaker)
    }

    /// Peers that did not change keep their session; a bad configuration changes nothing.
    pub async fn configure(&self, config: SpeakerConfig) -> Result<(), ConfigureError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(ConfigureError::Config(problems));
        }
        let mut inner = self.inner.lock().await;
        let sockets = inner.rebind(self, &config.listen).await?;
        self.apply(&mut inner, config, sockets, false).await;
        Ok(())
    }

    /// The whole set; the latest wins, each peer is sent the difference. Host bits of prefixes are cleared.
    pub fn announce(&self, routes: Announced) {
        let routes = normalised(routes);
        self.routes.send_if_modified(|current| {
            let changed = **current != routes;
            if changed {
                *current = Arc::new(routes);
            }
            changed
        });
    }

    /// What was given last.
    pub fn announced(&self) -> Announced {
        (**self.routes.borrow()).clone()
    }

    /// All peers in the order configured; changes at each event.
    pub fn peers(&self) -> watch::Receiver<Vec<PeerStatus>> {
        self.board.subscribe()
    }

    /// Where connections are accepted, with the ports that the kernel chose for those given as 0.
    pub async fn listening(&self) -> Vec<SocketAddr> {
        self.inner.lock().await.listeners.values().map(|l| l.local).collect()
    }

    /// Connections closed because nobody there is a peer.
    pub fn refused_connections(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Withdraws everything, sends Cease/administrative shutdown with `reason` (RFC 9003) and ends. Takes at most twice
    /// [`Tuning::linger`], even if peers hang.
    pub async fn shutdown(self, reason: &str) {
        let mut inner = self.inner.lock().await;
        inner.unlisten(&[]).await;
        let peers = std::mem::take(&mut inner.peers);
        let notification = Notification::shutdown(cease::ADMIN_SHUTDOWN, reason);
        stop_all(peers.into_values().map(|peer| (peer, notification.clone())), true).await;
    }

    /// Makes the running tasks those of `config`, which is valid and whose missing listeners are bound.
    async fn apply(
        &self,
        inner: &mut Inner,
        config: SpeakerConfig,
        sockets: Vec<(SocketAddr, TcpListener)>,
        restarted: bool,
    ) {
        inner.unlisten(&config.listen).await;
        let same_identity = inner.config.identity() == config.identity();
        let wanted = |address: &IpAddr| config.peers.iter().find(|p| p.address == *address);
        let (kept, ended): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut inner.peers)
            .into_iter()
            .partition(|(address, peer)| same_identity && wanted(address) == Some(&peer.config));
        inner.peers = kept;
        let ended = ended.into_iter().map(|(address, peer)| {
            // RFC 4486 §4.
            let subcode = match wanted(&address) {
                Some(_) => cease::CONFIG_CHANGE,
                None => cease::DECONFIGURED,
            };
            (peer, Notification::new(code::CEASE, subcode))
        });
        stop_all(ended, false).await;
        self.board.send_modify(|board| *board = new_board(board, &config, &inner.peers));
        for peer in &config.peers {
            if !inner.peers.contains_key(&peer.address) {
                self.start_peer(inner, &config, peer, restarted);
            }
        }
        inner.config = config;
        inner.publish_routing();
        for (address, socket) in sockets {
            self.start_listener(inner, address, socket);
        }
    }

    fn start_peer(
        &self,
        inner: &mut Inner,
        config: &SpeakerConfig,
        peer: &PeerConfig,
        restarted: bool,
    ) {
        let Some(mut fsm) = config.fsm(peer, &inner.tuning) else {
            tracing::error!(peer = %peer.address, "peer not started: its configuration was not checked");
            return;
        };
        fsm.restarted = restarted;
        fsm.seed = seed();
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let line = PeerStatus::new(peer.address, peer.asn);
        let status = StatusWriter::new(self.board.clone(), line, inner.tuning.counts_every);
        let routes = self.routes.subscribe();
        let task = PeerTask::new(peer.clone(), fsm, inner.tuning, receiver, routes, status);
        let handle =
            PeerHandle { config: peer.clone(), commands, _task: self.sessions.spawn(task.run()) };
        inner.peers.insert(peer.address, handle);
    }

    fn start_listener(&self, inner: &mut Inner, address: SocketAddr, socket: TcpListener) {
        let local = socket.local_addr().unwrap_or(address);
        let listener =
            Listener { socket, routing: inner.routing.subscribe(), refused: self.refused.clone() };
        let task = self.sessions.spawn(listener.run());
        inner.listeners.insert(address, ListenerTask { local, task });
    }
}

// === impl Inner ===

impl Inner {
    /// Binds what is missing. An address that overlaps with one that goes (0.0.0.0 and 10.0.0.1 of one port) can only be
    /// bound after that; should it fail even then, the old one is bound again.
    async fn rebind(
        &mut self,
        speaker: &Speaker,
        wanted: &[SocketAddr],
    ) -> Result<Vec<(SocketAddr, TcpListener)>, ListenError> {
        let missing: Vec<_> =
            wanted.iter().copied().filter(|a| !self.listeners.contains_key(a)).collect();
        let first = match bind_all(&speaker.sessions, &missing, wanted.len()) {
            Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => None,
            other => Some(other),
        };
        if let Some(result) = first {
            return result;
        }
        let gone = self.unlisten(wanted).await;
        bind_all(&speaker.sessions, &missing, wanted.len()).inspect_err(|_| {
            for address in gone {
                match speaker.sessions.within(|| dial::listen(address)) {
                    Ok(socket) => speaker.start_listener(self, address, socket),
                    Err(error) => {
                        tracing::error!(%address, %error, "the address we listened on is lost")
                    }
                }
            }
        })
    }

    /// Stops listening where it is not wanted any more; returns where that was.
    async fn unlisten(&mut self, wanted: &[SocketAddr]) -> Vec<SocketAddr> {
        let (kept, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.listeners).into_iter().partition(|(a, _)| wanted.contains(a));
        self.listeners = kept;
        let gone = ended.keys().copied().collect();
        for listener in ended.into_values() {
            listener.task.end().await;
        }
        gone
    }

    fn publish_routing(&self) {
        let route = |peer: &PeerHandle| Route {
            commands: peer.commands.clone(),
            local_address: peer.config.local_address,
        };
        let routing = self.peers.iter().map(|(address, peer)| (*address, route(peer))).collect();
        self.routing.send_replace(Arc::new(routing));
    }
}

fn bind_all(
    sessions: &Sessions,
    addresses: &[SocketAddr],
    wanted: usize,
) -> Result<Vec<(SocketAddr, TcpListener)>, ListenError> {
    sessions.within(|| listener::bind_all(addresses, wanted, dial::listen))
}

/// All at once, for each takes its time to say goodbye; the time is bounded by the tasks.
async fn stop_all(peers: impl Iterator<Item = (PeerHandle, Notification)>, withdraw: bool) {
    let mut waiting = Vec::new();
    for (peer, notification) in peers {
        let (done, finished) = oneshot::channel();
        if peer.commands.send(Command::Stop(Stop { notification, withdraw, done })).await.is_ok() {
            waiting.push((peer, finished));
        }
    }
    for (peer, finished) in waiting {
        // An error is a task that ended without a word: stopped as well.
        drop(finished.await);
        drop(peer);
    }
}

/// Peers that go on keep their line.
fn new_board(
    board: &[PeerStatus],
    config: &SpeakerConfig,
    kept: &BTreeMap<IpAddr, PeerHandle>,
) -> Vec<PeerStatus> {
    let line = |peer: &PeerConfig| {
        let old = board.iter().find(|s| s.address == peer.address);
        match old {
            Some(old) if kept.contains_key(&peer.address) => old.clone(),
            _ => PeerStatus::new(peer.address, peer.asn),
        }
    };
    config.peers.iter().map(line).collect()
}

/// Two notations of one prefix are one route.
fn normalised(routes: Announced) -> Announced {
    let is_normal = |prefix: &IpNet| *prefix == prefix.trunc();
    if routes.keys().all(is_normal) {
        return routes;
    }
    routes.into_iter().map(|(prefix, route)| (prefix.trunc(), route)).collect()
}

/// For jitter only: std seeds its hashers from the system.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
