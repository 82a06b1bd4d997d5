//! The transition table: every state with every input (RFC 4271 §8.2.2), no wildcard.

use super::connection::{Fsm, Role};
use super::event::{Input, Output, Reason, Writes};
use super::open;
use super::state::State;
use super::timers::Timer;
use crate::wire::notification::{Notification, cease, code, fsm};
use crate::wire::{Action, Family, Message, Negotiated, Open, RefreshSubtype, Update};
use std::time::Instant;

impl Fsm {
    pub(super) fn step(&mut self, state: State, input: Input, now: Instant) -> State {
        use Input as I;
        use State as S;
        match (state, input) {
            // Idle refuses everything but a start.
            (S::Idle, I::Start) => self.start(now),
            (
                S::Idle,
                I::Stop(_)
                | I::Expired(_)
                | I::Connected(_)
                | I::Disconnected(_)
                | I::CollisionLost
                | I::Message(_)
                | I::Malformed(_)
                | I::Writes(_),
            ) => S::Idle,

            // Connect and Active: no transport yet, so nobody to tell anything.
            (S::Connect, I::Connected(families)) | (S::Active, I::Connected(families)) => {
                self.send_open(&families, now)
            }
            // Dialling takes too long: start over (§8.2.2, Connect, event 9).
            (S::Connect, I::Expired(Timer::ConnectRetry)) => {
                self.emit(Output::Close);
                self.dial(now)
            }
            (S::Connect | S::Active, I::Stop(_)) => self.drop_silently(now, Reason::Stopped),
            (S::Connect | S::Active, I::CollisionLost) => {
                self.drop_silently(now, Reason::Collision)
            }
            (S::Connect | S::Active, I::Disconnected(why)) => {
                self.drop_silently(now, Reason::Transport(why))
            }
            // Without a transport these are echoes of the one before; §8.2.2 says Idle, which would only lose time.
            (
                S::Connect,
                I::Start
                | I::Expired(Timer::Hold | Timer::Keepalive | Timer::SendHold)
                | I::Message(_)
                | I::Malformed(_)
                | I::Writes(_),
            ) => S::Connect,
            (
                S::Active,
                I::Start | I::Expired(_) | I::Message(_) | I::Malformed(_) | I::Writes(_),
            ) => S::Active,

            // OpenSent: only the peer's OPEN leads on.
            (S::OpenSent(ours), I::Message(Message::Open(theirs))) => {
                self.check_open(&ours, &theirs, now)
            }
            (S::OpenSent(_), I::Message(Message::Notification(n))) => {
                self.drop_silently(now, Reason::Received(n))
            }
            (
                S::OpenSent(_),
                I::Message(
                    message @ (Message::KeepAlive | Message::Update(_) | Message::RouteRefresh(_)),
                ),
            ) => self.unexpected(fsm::OPEN_SENT, &message, now),
            (S::OpenSent(_), I::Expired(Timer::Hold)) => self.hold_expired(now),
            (S::OpenSent(_), I::Stop(n)) => self.refuse(now, n, ""),
            (S::OpenSent(_), I::CollisionLost) => self.collision_lost(now),
            (S::OpenSent(_), I::Malformed(e)) => self.refuse(now, e.notification, e.reason),
            (S::OpenSent(_), I::Disconnected(why)) => {
                self.drop_silently(now, Reason::Transport(why))
            }
            // The other timers do not run here, a second transport is not this connection's, and the open hold timer
            // covers a peer that takes nothing.
            (
                S::OpenSent(ours),
                I::Start
                | I::Connected(_)
                | I::Expired(Timer::ConnectRetry | Timer::Keepalive | Timer::SendHold)
                | I::Writes(_),
            ) => S::OpenSent(ours),

            // OpenConfirm: waits for the KEEPALIVE that acknowledges our OPEN.
            (S::OpenConfirm(session), I::Message(Message::KeepAlive)) => {
                self.establish(session, now)
            }
            (S::OpenConfirm(_), I::Message(Message::Notification(n))) => {
                self.drop_silently(now, Reason::Received(n))
            }
            (
                S::OpenConfirm(_),
                I::Message(
                    message @ (Message::Open(_) | Message::Update(_) | Message::RouteRefresh(_)),
                ),
            ) => self.unexpected(fsm::OPEN_CONFIRM, &message, now),
            (S::OpenConfirm(session), I::Expired(Timer::Keepalive)) => {
                self.send_keepalive(now);
                S::OpenConfirm(session)
            }
            (S::OpenConfirm(_), I::Expired(Timer::Hold)) => self.hold_expired(now),
            (S::OpenConfirm(_), I::Expired(Timer::SendHold)) => self.send_hold_expired(now),
            (S::OpenConfirm(_), I::Stop(n)) => self.refuse(now, n, ""),
            (S::OpenConfirm(_), I::CollisionLost) => self.collision_lost(now),
            (S::OpenConfirm(_), I::Malformed(e)) => self.refuse(now, e.notification, e.reason),
            (S::OpenConfirm(_), I::Disconnected(why)) => {
                self.drop_silently(now, Reason::Transport(why))
            }
            (S::OpenConfirm(session), I::Writes(writes)) => {
                self.watch_writes(writes, now);
                S::OpenConfirm(session)
            }
            (
                S::OpenConfirm(session),
                I::Start | I::Connected(_) | I::Expired(Timer::ConnectRetry),
            ) => S::OpenConfirm(session),

            // Established.
            (S::Established(session), I::Message(Message::Update(update))) => {
                self.take_update(session, update, now)
            }
            (S::Established(session), I::Message(Message::KeepAlive)) => {
                self.restart_hold(now);
                S::Established(session)
            }
            (S::Established(session), I::Message(Message::RouteRefresh(refresh))) => {
                self.restart_hold(now);
                self.take_refresh(&session, refresh.family, refresh.subtype);
                S::Established(session)
            }
            (S::Established(_), I::Message(Message::Notification(n))) => {
                self.drop_silently(now, Reason::Received(n))
            }
            (S::Established(_), I::Message(message @ Message::Open(_))) => {
                self.unexpected(fsm::ESTABLISHED, &message, now)
            }
            (S::Established(session), I::Expired(Timer::Keepalive)) => {
                self.send_keepalive(now);
                S::Established(session)
            }
            (S::Established(_), I::Expired(Timer::Hold)) => self.hold_expired(now),
            (S::Established(_), I::Expired(Timer::SendHold)) => self.send_hold_expired(now),
            (S::Established(_), I::Stop(n)) => self.refuse(now, n, ""),
            (S::Established(_), I::Malformed(e)) => self.refuse(now, e.notification, e.reason),
            (S::Established(_), I::Disconnected(why)) => {
                self.drop_silently(now, Reason::Transport(why))
            }
            (S::Established(session), I::Writes(writes)) => {
                self.watch_writes(writes, now);
                S::Established(session)
            }
            // A session only loses against a newer connection of a peer that restarted (RFC 4724 §5): the routes are
            // to survive, so no NOTIFICATION.
            (S::Established(_), I::CollisionLost) => self.drop_silently(now, Reason::Collision),
            (
                S::Established(session),
                I::Start | I::Connected(_) | I::Expired(Timer::ConnectRetry),
            ) => S::Established(session),
        }
    }

    fn start(&mut self, now: Instant) -> State {
        match self.role {
            Role::Dial => self.dial(now),
            Role::Accept | Role::AcceptBeside => State::Active,
        }
    }

    fn send_open(&mut self, families: &[Family], now: Instant) -> State {
        if families.is_empty() {
            let why = "no next hop for any address family on this connection".to_owned();
            return self.drop_silently(now, Reason::Transport(why));
        }
        let open = open::ours(&self.config, families, self.flags);
        self.timers.stop_all();
        self.timers.set(Timer::Hold, now + self.config.open_hold);
        self.emit(Output::Send(Message::Open(open.clone())));
        State::OpenSent(open)
    }

    fn check_open(&mut self, ours: &Open, theirs: &Open, now: Instant) -> State {
        match open::negotiate(&self.config, ours, theirs) {
            Ok(negotiated) => {
                self.hold_time = negotiated.hold_time;
                self.send_keepalive(now);
                self.restart_hold(now);
                State::OpenConfirm(Box::new(negotiated))
            }
            Err(refusal) => self.refuse(now, refusal.notification, refusal.detail),
        }
    }

    fn establish(&mut self, negotiated: Box<Negotiated>, now: Instant) -> State {
        self.restart_hold(now);
        self.up_since = Some(now);
        self.emit(Output::Up(negotiated.clone()));
        State::Established(negotiated)
    }

    fn take_update(&mut self, session: Box<Negotiated>, mut update: Update, now: Instant) -> State {
        self.restart_hold(now);
        if let Some(at) = update.errors.iter().position(|e| e.action == Action::SessionReset) {
            let error = update.errors.swap_remove(at);
            return self.refuse(now, error.notification, error.reason);
        }
        self.emit(Output::Update(update));
        State::Established(session)
    }

    /// RFC 2918 §4 and RFC 7313 §5: only requests for a negotiated family are answered, the rest is ignored.
    fn take_refresh(&mut self, session: &Negotiated, family: Family, subtype: RefreshSubtype) {
        if subtype == RefreshSubtype::Request && session.has(family) {
            self.emit(Output::Refresh(family));
        }
    }

    /// RFC 6608 §3: the subcode names the state, the data is the type of the message.
    fn unexpected(&mut self, subcode: u8, message: &Message, now: Instant) -> State {
        let notification = Notification::with_data(code::FSM, subcode, [message.kind()]);
        self.refuse(now, notification, format!("message type {}", message.kind()))
    }

    fn hold_expired(&mut self, now: Instant) -> State {
        let notification = Notification::new(code::HOLD_TIMER, 0);
        self.refuse(now, notification, "the peer was silent for too long")
    }

    /// RFC 9687 §3.3: the NOTIFICATION will hardly get out, but the peer's operator should be able to see it.
    fn send_hold_expired(&mut self, now: Instant) -> State {
        let notification = Notification::new(code::SEND_HOLD_TIMER, 0);
        self.refuse(now, notification, "the peer does not take what we send")
    }

    fn collision_lost(&mut self, now: Instant) -> State {
        let notification = Notification::new(code::CEASE, cease::COLLISION);
        self.emit(Output::Send(Message::Notification(notification)));
        self.drop_silently(now, Reason::Collision)
    }

    fn watch_writes(&mut self, writes: Writes, now: Instant) {
        match writes {
            Writes::Blocked if self.timers.get(Timer::SendHold).is_some() => {}
            Writes::Blocked | Writes::Moving => {
                let at = now + self.send_hold();
                self.timers.set(Timer::SendHold, at);
            }
            Writes::Drained => self.timers.stop(Timer::SendHold),
        }
    }
}
