//! One configured peer: its dialled and its accepted connection, which of them survives, and when to dial again.

use super::config::Config;
use super::connection::{Fsm, Role};
use super::event::{Down, Input, Output, Reason};
use super::open::RestartFlags;
use super::state::{State, StateName};
use super::timers::{Backoff, Jitter};
use crate::wire::notification::{Notification, cease, code};
use crate::wire::{Asn, Message, Negotiated, Open};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A second connection so soon after the session came up is the loser of a simultaneous open whose SYN was slow; later
/// it is a peer that restarted (RFC 4724 §5).
const SIMULTANEOUS_OPEN: Duration = Duration::from_secs(5);

/// The state machine of a peer.
#[derive(Clone, Debug)]
pub struct Peer {
    config: Arc<Config>,
    dialled: Fsm,
    accepted: Fsm,
    running: bool,
    /// When to dial; nothing is planned while a connection is beyond OpenSent.
    retry_at: Option<Instant>,
    /// A peer that made us end a connection by its own fault is refused until then (Idle of RFC 4271 §8.2.2).
    refuse_until: Option<Instant>,
    backoff: Backoff,
    jitter: Jitter,
    outputs: VecDeque<(Role, Output)>,
}

/// Cease/Connection Collision Resolution (RFC 4486 §4).
const COLLISION: (u8, u8) = (code::CEASE, cease::COLLISION);

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
        Self {
            config,
            dialled,
            accepted,
            running: false,
            retry_at: None,
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

    /// Ends both connections with this NOTIFICATION, for good.
    pub fn stop(&mut self, notification: Notification, now: Instant) {
        self.running = false;
        self.dialled.handle(Input::Stop(notification.clone()), now);
        self.accepted.handle(Input::Stop(notification), now);
        self.settle(now);
    }

    /// The peer has connected: whether to take it. If so, take the outputs (the accepted connection of before ends),
    /// then hand in [`Input::Connected`] for [`Role::Accept`]; if not, close it.
    pub fn admit(&mut self, now: Instant) -> bool {
        if !self.running || self.refuse_until.is_some_and(|until| now < until) {
            return false;
        }
        if let Some(role) = self.established() {
            if !self.has_restarted(role, now) {
                return false;
            }
            self.fsm(role).handle(Input::CollisionLost, now);
        }
        // The peer gave up its earlier connection, or it would not open another.
        self.accepted.handle(Input::CollisionLost, now);
        self.accepted.handle(Input::Start, now);
        self.settle(now);
        true
    }

    /// What happened to one of the connections, at `now`. Afterwards take all outputs.
    pub fn handle(&mut self, role: Role, input: Input, now: Instant) {
        match input {
            Input::Message(Message::Open(open)) => self.handle_open(role, open, now),
            other => self.fsm(role).handle(other, now),
        }
        self.settle(now);
    }

    /// Handles the timers that have fired.
    pub fn tick(&mut self, now: Instant) {
        self.dialled.tick(now);
        self.accepted.tick(now);
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
        let deadlines =
            [self.dialled.next_deadline(), self.accepted.next_deadline(), self.retry_at];
        deadlines.into_iter().flatten().min()
    }

    /// The further one of both connections; Active while it waits to dial or for the peer to dial.
    pub fn state(&self) -> StateName {
        let further = self.dialled.state().name().max(self.accepted.state().name());
        match further {
            StateName::Idle if self.running => StateName::Active,
            _ => further,
        }
    }

    /// The state of one connection.
    pub fn connection(&self, role: Role) -> &State {
        match role {
            Role::Dial => self.dialled.state(),
            Role::Accept => self.accepted.state(),
        }
    }

    /// Which connection carries the session.
    pub fn established(&self) -> Option<Role> {
        [Role::Dial, Role::Accept]
            .into_iter()
            .find(|role| self.connection(*role).name() == StateName::Established)
    }

    /// What the session agreed on.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.established().and_then(|role| self.connection(role).negotiated())
    }

    fn fsm(&mut self, role: Role) -> &mut Fsm {
        match role {
            Role::Dial => &mut self.dialled,
            Role::Accept => &mut self.accepted,
        }
    }

    /// RFC 4724 §5: a peer with graceful restart that connects again has lost the session that we still see.
    fn has_restarted(&mut self, role: Role, now: Instant) -> bool {
        let graceful = self.negotiated().is_some_and(|n| n.graceful_restart.is_some());
        let since = self.fsm(role).up_since;
        graceful && since.is_some_and(|since| now >= since + SIMULTANEOUS_OPEN)
    }

    /// RFC 4271 §6.8. Decided as soon as one OPEN is there, for it names the peer of both connections.
    fn handle_open(&mut self, role: Role, open: Open, now: Instant) {
        let other = opposite(role);
        match self.connection(other).name() {
            StateName::Established => self.fsm(role).handle(Input::CollisionLost, now),
            StateName::OpenSent | StateName::OpenConfirm => {
                if self.survivor(open.router_id, open.asn()) == role {
                    self.fsm(other).handle(Input::CollisionLost, now);
                    self.fsm(role).handle(Input::Message(Message::Open(open)), now);
                } else {
                    self.fsm(role).handle(Input::CollisionLost, now);
                }
            }
            StateName::Idle | StateName::Connect | StateName::Active => {
                self.fsm(role).handle(Input::Message(Message::Open(open)), now);
                if self.connection(role).name() == StateName::OpenConfirm {
                    self.fsm(other).handle(Input::CollisionLost, now);
                }
            }
        }
    }

    /// The connection opened by the side with the higher identifier, then AS (RFC 6286 §2.3).
    fn survivor(&self, peer_id: Ipv4Addr, peer_asn: Asn) -> Role {
        let ours = (u32::from(self.config.router_id), self.config.local_asn);
        if ours > (u32::from(peer_id), peer_asn) { Role::Dial } else { Role::Accept }
    }

    /// Gathers outputs, learns from ended connections, and plans the next dial.
    fn settle(&mut self, now: Instant) {
        while let Some((role, output)) = self.next_of_both() {
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
        let served = self.accepted.state().name() >= StateName::OpenConfirm;
        if !self.running || self.config.passive || served || !dialled_idle {
            self.retry_at = None;
        } else if self.retry_at.is_none() {
            self.retry_at =
                Some(now + self.backoff.after_failure(self.config.connect_retry, &mut self.jitter));
        }
    }

    fn next_of_both(&mut self) -> Option<(Role, Output)> {
        let dialled = self.dialled.poll_output().map(|output| (Role::Dial, output));
        dialled.or_else(|| self.accepted.poll_output().map(|output| (Role::Accept, output)))
    }

    fn came_up(&mut self, role: Role, now: Instant) {
        self.refuse_until = None;
        self.dialled.set_flags(RestartFlags::later());
        self.accepted.set_flags(RestartFlags::later());
        // Nothing to say to a connection that has not sent an OPEN of its own.
        self.fsm(opposite(role)).handle(Input::CollisionLost, now);
    }

    fn went_down(&mut self, role: Role, down: &Down, now: Instant) {
        let cap = self.config.connect_retry;
        match (&down.reason, down.uptime) {
            (Reason::Collision | Reason::Stopped, _) => {}
            // The peer has resolved the collision before us: nobody's fault.
            (Reason::Received(n), None) if (n.code, n.subcode) == COLLISION => {}
            (Reason::Transport(_) | Reason::Received(_) | Reason::Sent { .. }, Some(uptime)) => {
                let wait = self.backoff.after_session(uptime, cap, &mut self.jitter);
                self.retry_at = Some(now + wait);
            }
            (Reason::Transport(_), None) => {}
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

fn opposite(role: Role) -> Role {
    match role {
        Role::Dial => Role::Accept,
        Role::Accept => Role::Dial,
    }
}
