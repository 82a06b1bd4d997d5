//! One configured peer: its dialled and its accepted connections, which of them survives, and when to dial again.

use super::config::Config;
use super::connection::{Fsm, Role};
use super::event::{Down, Input, Output, Reason};
use super::open::RestartFlags;
use super::state::{State, StateName};
use super::timers::{Admission, Backoff, Jitter};
use crate::wire::notification::Notification;
use crate::wire::{Asn, Message, Negotiated, Open};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a connection that would lose a collision waits, with all else settled, for the OPEN on the one that would win.
/// Both are on the way at once in a simultaneous open; what is only a TCP connection delays the session by this.
const COLLISION_GRACE: Duration = Duration::from_secs(1);

/// The state machine of a peer.
#[derive(Clone, Debug)]
pub struct Peer {
    config: Arc<Config>,
    dialled: Fsm,
    accepted: Fsm,
    beside: Fsm,
    admission: Admission,
    running: bool,
    /// When to dial; nothing is planned while a connection is beyond OpenSent.
    retry_at: Option<Instant>,
    /// A connection whose KEEPALIVE is there, and until when it waits for another one's OPEN.
    waits: Option<(Role, Instant)>,
    /// A peer that made us end a connection by its own fault is refused until then (Idle of RFC 4271 §8.2.2).
    refuse_until: Option<Instant>,
    backoff: Backoff,
    jitter: Jitter,
    outputs: VecDeque<(Role, Output)>,
}

// === impl Peer ===

impl Peer {
    /// Stopped; see [`Peer::start`].
    pub fn new(config: Config) -> Self {
        let flags = RestartFlags::first(config.restarted);
        let mut jitter = config.jitter();
        let config = Arc::new(config);
        let fsm = |role, seed| Fsm::new(config.clone(), role, flags, Jitter::new(seed));
        let dialled = fsm(Role::Dial, jitter.draw());
        let accepted = fsm(Role::Accept, jitter.draw());
        let beside = fsm(Role::AcceptBeside, jitter.draw());
        Self {
            config,
            dialled,
            accepted,
            beside,
            admission: Admission::default(),
            running: false,
            retry_at: None,
            waits: None,
            refuse_until: None,
            backoff: Backoff::new(),
            jitter,
            outputs: VecDeque::new(),
        }
    }

    /// Begins; the first dial is due at once.
    pub fn start(&mut self, now: Instant) {
        self.running = true;
        if !self.config.passive {
            self.dialled.handle(Input::Start, now);
        }
        self.settle(now);
    }

    /// Ends all connections with this NOTIFICATION, for good.
    pub fn stop(&mut self, notification: Notification, now: Instant) {
        self.running = false;
        for role in Role::ALL {
            self.fsm(role).handle(Input::Stop(notification.clone()), now);
        }
        self.settle(now);
    }

    /// The peer has connected: which of its connections this is, or `None` to close it. Take the outputs (an older
    /// connection may end for it), then hand in [`Input::Connected`] for that role.
    ///
    /// Nothing that got as far as an OPEN ends here: anybody at the peer's address can open a connection, so it has to
    /// say first who it is (RFC 4271 §8.2.2, Established, events 16 and 17).
    pub fn admit(&mut self, now: Instant) -> Option<Role> {
        if !self.running || self.refuse_until.is_some_and(|until| now < until) {
            return None;
        }
        // Its OPEN would be refused as well.
        if self.established().is_some_and(|role| !self.has_restarted(role, now)) {
            return None;
        }
        let role = self.free_role()?;
        if !self.admission.take(now) {
            return None;
        }
        self.fsm(role).handle(Input::CollisionLost, now);
        self.fsm(role).handle(Input::Start, now);
        self.settle(now);
        Some(role)
    }

    /// An idle one; otherwise the peer has given up the one that waits for an OPEN, or it would not open another.
    fn free_role(&self) -> Option<Role> {
        let roles = [Role::Accept, Role::AcceptBeside];
        let is_idle = |role: &Role| self.connection(*role).name() == StateName::Idle;
        let has_no_open = |role: &Role| self.connection(*role).name() <= StateName::OpenSent;
        roles.into_iter().find(is_idle).or_else(|| roles.into_iter().find(has_no_open))
    }

    /// What happened to one of the connections, at `now`. Afterwards take all outputs.
    pub fn handle(&mut self, role: Role, input: Input, now: Instant) {
        match input {
            Input::Message(Message::Open(open)) => self.handle_open(role, open, now),
            Input::Message(Message::KeepAlive) if self.is_to_wait(role) => {
                self.waits = Some((role, now + COLLISION_GRACE));
            }
            Input::Message(message) => {
                // The peer goes on, so it has chosen this one.
                let is_end = matches!(message, Message::Notification(_));
                if !is_end && self.waits.take_if(|(waiting, _)| *waiting == role).is_some() {
                    self.fsm(role).handle(Input::Message(Message::KeepAlive), now);
                }
                self.fsm(role).handle(Input::Message(message), now);
            }
            other => self.fsm(role).handle(other, now),
        }
        self.settle(now);
    }

    /// Whether the KEEPALIVE of this connection has to wait: if another one wins once its OPEN is there, the peer may
    /// decide so first, and a session would be lost that has only just come up.
    fn is_to_wait(&self, role: Role) -> bool {
        self.waits.is_none_or(|(waiting, _)| waiting != role) && self.winner_without_open(role)
    }

    fn winner_without_open(&self, role: Role) -> bool {
        let State::OpenConfirm(session) = self.connection(role) else { return false };
        let (id, asn) = (session.peer_router_id, session.peer_asn);
        others(role).any(|other| {
            let has_no_open =
                matches!(self.connection(other).name(), StateName::Connect | StateName::OpenSent);
            has_no_open && self.survivor(role, other, id, asn) == other
        })
    }

    /// The waiting connection goes on when its time is up, or the other one has ended.
    fn stop_waiting(&mut self, now: Instant) {
        let Some((role, until)) = self.waits else { return };
        if now >= until || !self.winner_without_open(role) {
            self.waits = None;
            if self.connection(role).name() == StateName::OpenConfirm {
                self.fsm(role).handle(Input::Message(Message::KeepAlive), now);
            }
        }
    }

    /// Handles the timers that have fired.
    pub fn tick(&mut self, now: Instant) {
        for role in Role::ALL {
            self.fsm(role).tick(now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.dialled.handle(Input::Start, now);
        }
        self.settle(now);
    }

    /// The next thing to do, and on which connection; `None` when there is none.
    pub fn poll_output(&mut self) -> Option<(Role, Output)> {
        self.outputs.pop_front()
    }

    /// When [`Peer::tick`] has to be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let timers = [&self.dialled, &self.accepted, &self.beside].map(Fsm::next_deadline);
        let waits = self.waits.map(|(_, until)| until);
        timers.into_iter().chain([self.retry_at, waits]).flatten().min()
    }

    /// The furthest of the connections; Active while it waits to dial or for the peer to dial.
    pub fn state(&self) -> StateName {
        let furthest = Role::ALL.map(|role| self.connection(role).name()).into_iter().max();
        match furthest {
            None | Some(StateName::Idle) if self.running => StateName::Active,
            furthest => furthest.unwrap_or(StateName::Idle),
        }
    }

    /// The state of one connection.
    pub fn connection(&self, role: Role) -> &State {
        match role {
            Role::Dial => self.dialled.state(),
            Role::Accept => self.accepted.state(),
            Role::AcceptBeside => self.beside.state(),
        }
    }

    /// Which connection carries the session.
    pub fn established(&self) -> Option<Role> {
        Role::ALL.into_iter().find(|role| self.connection(*role).name() == StateName::Established)
    }

    /// What the session agreed on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.established().and_then(|role| self.connection(role).negotiated())
    }

    fn fsm(&mut self, role: Role) -> &mut Fsm {
        match role {
            Role::Dial => &mut self.dialled,
            Role::Accept => &mut self.accepted,
            Role::AcceptBeside => &mut self.beside,
        }
    }

    /// RFC 4724 §4.2: a peer with graceful restart that opens a session again has lost the one that we still see.
    fn has_restarted(&mut self, role: Role, now: Instant) -> bool {
        let graceful = self.negotiated().is_some_and(|n| n.graceful_restart.is_some());
        let since = self.fsm(role).up_since;
        graceful && since.is_some_and(|since| now >= since + self.config.simultaneous_open)
    }

    /// RFC 4271 §6.8: held against the connections whose OPEN is there already, since only that names the peer. One that
    /// still waits for its OPEN may never get one, and must not cost us this one.
    fn handle_open(&mut self, role: Role, open: Open, now: Instant) {
        let (peer_id, peer_asn) = (open.router_id, open.asn());
        for other in others(role) {
            let stays = match self.connection(other).name() {
                StateName::Established => !self.has_restarted(other, now),
                StateName::OpenConfirm => self.survivor(role, other, peer_id, peer_asn) == other,
                StateName::Idle | StateName::Connect | StateName::Active | StateName::OpenSent => {
                    false
                }
            };
            if stays {
                return self.fsm(role).handle(Input::CollisionLost, now);
            }
        }
        self.fsm(role).handle(Input::Message(Message::Open(open)), now);
        if self.connection(role).name() != StateName::OpenConfirm {
            return;
        }
        for other in others(role) {
            // What would win is waited for, since the peer may have decided for it already; of the others, what has no OPEN
            // may still get one.
            let waits = match self.connection(other).name() {
                StateName::Connect => self.survivor(role, other, peer_id, peer_asn) == other,
                StateName::OpenSent => true,
                StateName::Idle
                | StateName::Active
                | StateName::OpenConfirm
                | StateName::Established => false,
            };
            if !waits {
                self.fsm(other).handle(Input::CollisionLost, now);
            }
        }
    }

    /// The connection opened by the side with the higher identifier, then AS (RFC 6286 §2.3). Of two that the peer opened,
    /// the one it speaks on now.
    fn survivor(&self, role: Role, other: Role, peer_id: Ipv4Addr, peer_asn: Asn) -> Role {
        let ours = (u32::from(self.config.router_id), self.config.local_asn);
        let dialled_wins = ours > (u32::from(peer_id), peer_asn);
        match (role, other) {
            (Role::Dial, other) => {
                if dialled_wins {
                    Role::Dial
                } else {
                    other
                }
            }
            (role, Role::Dial) => {
                if dialled_wins {
                    Role::Dial
                } else {
                    role
                }
            }
            (role, _) => role,
        }
    }

    /// Gathers outputs, learns from ended connections, and plans the next dial.
    fn settle(&mut self, now: Instant) {
        self.stop_waiting(now);
        while let Some((role, output)) = self.next_of_all() {
            match &output {
                Output::Up(_) => self.came_up(role, now),
                Output::Down(down) => self.went_down(role, down, now),
                Output::Dial
                | Output::Send(_)
                | Output::Close
                | Output::Update(_)
                | Output::Refresh(_) => {}
            }
            self.outputs.push_back((role, output));
        }
        let dialled_idle = self.dialled.state().name() == StateName::Idle;
        let accepted = self.accepted.state().name().max(self.beside.state().name());
        let served = accepted >= StateName::OpenConfirm;
        if !self.running || self.config.passive || served || !dialled_idle {
            self.retry_at = None;
        } else if self.retry_at.is_none() {
            self.retry_at =
                Some(now + self.backoff.after_failure(self.config.connect_retry, &mut self.jitter));
        }
    }

    fn next_of_all(&mut self) -> Option<(Role, Output)> {
        Role::ALL.into_iter().find_map(|role| Some((role, self.fsm(role).poll_output()?)))
    }

    fn came_up(&mut self, role: Role, now: Instant) {
        self.refuse_until = None;
        for one in Role::ALL {
            self.fsm(one).set_flags(RestartFlags::later());
        }
        for other in others(role) {
            // Nothing to say to a connection that has not sent an OPEN of its own.
            self.fsm(other).handle(Input::CollisionLost, now);
        }
    }

    fn went_down(&mut self, role: Role, down: &Down, now: Instant) {
        if down.is_no_fault() {
            return;
        }
        let cap = self.config.connect_retry;
        match (&down.reason, down.uptime) {
            (Reason::Collision | Reason::Stopped, _) => {}
            (Reason::Transport(_) | Reason::Received(_) | Reason::Sent { .. }, Some(uptime)) => {
                let wait = self.backoff.after_session(uptime, cap, &mut self.jitter);
                self.retry_at = Some(now + wait);
            }
            (Reason::Transport(_), None) => {}
            // Somebody at the peer's address who is not the peer: the session shows that the peer is well.
            (Reason::Received(_) | Reason::Sent { .. }, None) if self.established().is_some() => {}
            (Reason::Received(_) | Reason::Sent { .. }, None) => {
                let wait = self.backoff.after_failure(cap, &mut self.jitter);
                self.refuse_until = Some(now + wait);
                if role == Role::Dial {
                    self.retry_at = Some(now + wait);
                }
            }
        }
    }
}

fn others(role: Role) -> impl Iterator<Item = Role> {
    Role::ALL.into_iter().filter(move |other| *other != role)
}
