//! One connection: its state, its timers, and the outputs that wait to be taken.

use super::config::Config;
use super::event::{Down, Input, Output, Reason};
use super::open::RestartFlags;
use super::state::State;
use super::timers::{Jitter, Timer, Timers};
use crate::wire::notification::Notification;
use crate::wire::{HoldTime, Message};
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who opens the transport: names the connection, for a peer has at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We do.
    Dial,
    /// The peer does.
    Accept,
    /// The peer does, beside another connection that it opened: a restarted peer is tracked here until its OPEN.
    AcceptBeside,
}

// === impl Role ===

impl Role {
    /// Each once.
    pub const ALL: [Role; 3] = [Role::Dial, Role::Accept, Role::AcceptBeside];
}

/// The state machine of one connection.
#[derive(Clone, Debug)]
pub struct Fsm {
    pub(super) config: Arc<Config>,
    pub(super) role: Role,
    pub(super) flags: RestartFlags,
    pub(super) timers: Timers,
    pub(super) jitter: Jitter,
    /// After the negotiation: the proposed one until then.
    pub(super) hold_time: HoldTime,
    /// Since when the session is Established.
    pub(super) up_since: Option<Instant>,
    state: State,
    outputs: VecDeque<Output>,
}

// === impl Fsm ===

impl Fsm {
    /// In Idle.
    pub fn new(config: Arc<Config>, role: Role, flags: RestartFlags, jitter: Jitter) -> Self {
        let hold_time = config.hold_time;
        Self {
            config,
            role,
            flags,
            timers: Timers::default(),
            jitter,
            hold_time,
            up_since: None,
            state: State::Idle,
            outputs: VecDeque::new(),
        }
    }

    /// What happened, at `now`. Afterwards take all outputs.
    pub fn handle(&mut self, input: Input, now: Instant) {
        let state = mem::replace(&mut self.state, State::Idle);
        self.state = self.step(state, input, now);
    }

    /// Handles the timers that have fired.
    pub fn tick(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_expired(now) {
            self.handle(Input::Expired(timer), now);
        }
    }

    /// The next thing to do; `None` when there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Fsm::tick`] has to be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Where the connection is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// For the next OPEN.
    pub(super) fn set_flags(&mut self, flags: RestartFlags) {
        self.flags = flags;
    }

    // What transitions are made of.

    pub(super) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// The transport is to be dialled (again).
    pub(super) fn dial(&mut self, now: Instant) -> State {
        let patience = self.jitter.of(self.config.connect_retry);
        self.timers.set(Timer::ConnectRetry, now + patience);
        self.emit(Output::Dial);
        State::Connect
    }

    /// Ends without a word: nothing was sent that would need one, or nobody listens.
    pub(super) fn drop_silently(&mut self, now: Instant, reason: Reason) -> State {
        self.timers.stop_all();
        self.hold_time = self.config.hold_time;
        self.emit(Output::Close);
        let uptime = self.up_since.take().map(|since| now.saturating_duration_since(since));
        self.emit(Output::Down(Down { uptime, reason }));
        State::Idle
    }

    /// Ends with a NOTIFICATION.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        notification: Notification,
        detail: impl Into<String>,
    ) -> State {
        self.emit(Output::Send(Message::Notification(notification.clone())));
        let reason = Reason::Sent { notification, detail: detail.into() };
        self.drop_silently(now, reason)
    }

    pub(super) fn send_keepalive(&mut self, now: Instant) {
        self.emit(Output::Send(Message::KeepAlive));
        self.restart_keepalive(now);
    }

    /// RFC 4271 §4.4 and §10: a third of the hold time, with jitter; none when the session never expires.
    pub(super) fn restart_keepalive(&mut self, now: Instant) {
        if let Some(interval) = self.hold_time.keepalive() {
            let wait = self.jitter.of(interval);
            self.timers.set(Timer::Keepalive, now + wait);
        }
    }

    pub(super) fn restart_hold(&mut self, now: Instant) {
        match self.hold_time.duration() {
            Some(hold) => self.timers.set(Timer::Hold, now + hold),
            None => self.timers.stop(Timer::Hold),
        }
    }

    /// RFC 9687 §3.2: never less than twice the hold time.
    pub(super) fn send_hold(&self) -> Duration {
        let twice = self.hold_time.duration().map_or(Duration::ZERO, |hold| hold * 2);
        self.config.send_hold.max(twice)
    }
}
