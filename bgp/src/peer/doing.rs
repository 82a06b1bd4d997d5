//! What the state machine wants done: connections closed, messages and routes written, the status shown, the end.

use super::{PeerTask, Stop};
use crate::connection::broken;
use crate::dial;
use crate::hops::Hops;
use crate::next_hop;
use crate::session::{Session, WRITE_LIMIT};
use crate::status::{PeerError, PeerState};
use sluice_bgp_core::fsm::{Down, Input, Output, Reason, Role, StateName};
use sluice_bgp_core::wire::{Capability, Message, Negotiated};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// How often [`WRITE_LIMIT`] octets are made and written in one turn, if the peer takes them as fast.
const WRITES: u32 = 4;

/// Connections of one peer that say their last words; whoever opens more than that hears none.
const LINGERING_MAX: usize = 4;

// === impl PeerTask ===

impl PeerTask {
    /// Does what the state machine wants and writes what can be written, as far as a turn goes.
    pub(super) fn act(&mut self) {
        self.can_write = true;
        for _ in 0..WRITES {
            self.perform();
            self.write_routes();
            let mut acted = false;
            for role in Role::ALL {
                acted |= self.flush(role);
            }
            if !acted {
                self.can_write = false;
                break;
            }
        }
        self.perform();
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
        session.answer(Instant::now());
        let connection = match session.role {
            Role::Dial => &mut self.dialled,
            Role::Accept => &mut self.accepted,
            Role::AcceptBeside => &mut self.beside,
        };
        if let Some(connection) = connection
            && session.rib_out.is_pending()
        {
            let written = session.rib_out.write(&mut connection.outgoing, WRITE_LIMIT);
            self.status.status().messages_out += written;
        }
    }

    pub(super) fn perform(&mut self) {
        while let Some((role, output)) = self.fsm.poll_output() {
            match output {
                Output::Dial => {
                    self.on_link = next_hop::is_on_link(self.config.address);
                    let dialling = dial::dial(self.config.clone(), self.hops());
                    self.dialling = Some(Box::pin(dialling));
                }
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
                        session.refreshes.ask(family);
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
            Ok(()) => self.status.status().messages_out += 1,
            Err(error) => tracing::error!(peer = %self.config.address, %error, "message not sent"),
        }
    }

    fn close(&mut self, role: Role) {
        if role == Role::Dial {
            self.dialling = None;
        }
        let Some(mut connection) = self.slot(role).take() else {
            return;
        };
        if connection.outgoing.is_empty() {
            return;
        }
        if self.lingering.len() < LINGERING_MAX {
            self.lingering.spawn(connection.linger(self.tuning.linger));
        } else {
            // An error is a peer that is gone and needs no words.
            drop(connection.flush());
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
        let names = |all: &[Capability]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let status = self.status.status();
        status.since = SystemTime::now();
        status.local_address = Some(local);
        status.router_id = Some(negotiated.peer_router_id);
        status.hold_time = Some(negotiated.hold_time.duration().unwrap_or_default());
        status.capabilities = names(&negotiated.peer_capabilities);
        status.capabilities_sent = names(&negotiated.local_capabilities);
        status.capabilities_agreed = names(&negotiated.capabilities());
        status.families = negotiated.families.iter().map(ToString::to_string).collect();
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
        if down.is_no_fault() {
            return;
        }
        let (reason, uptime) = (&down.reason, down.uptime);
        let at = SystemTime::now();
        let error = PeerError { at, text: reason.to_string() };
        let status = self.status.status();
        status.last_error = Some(error.text.clone());
        match reason {
            Reason::Received(_) => status.errors.received = Some(error.clone()),
            Reason::Sent { .. } => status.errors.sent = Some(error.clone()),
            Reason::Transport(_) => status.errors.transport = Some(error.clone()),
            Reason::Collision | Reason::Stopped => {}
        }
        match uptime {
            None => tracing::debug!(%peer, %reason, "BGP connection failed"),
            Some(uptime) => {
                tracing::warn!(%peer, %reason, ?uptime, "BGP session lost");
                status.since = at;
                status.flaps += 1;
                status.errors.lost = Some(error);
            }
        }
    }

    /// The parts of the status that follow from everything else.
    fn publish(&mut self) {
        let state = state_of(self.fsm.state());
        let session = self.session.as_ref();
        let mut problems = session.map(Session::problems).unwrap_or_default();
        problems.extend(Hops::problem(&self.config, self.internal, self.on_link));
        let status = self.status.status();
        status.state = state;
        match session {
            Some(session) => {
                status.announced = session.rib_out.announced() as u64;
                status.received = session.rib_in.len() as u64;
            }
            None => status.clear_session(),
        }
        status.problems = problems;
        self.status.publish(Instant::now());
    }

    // Ending.

    pub(super) async fn stop(mut self, stop: Stop) {
        let limit = self.tuning.linger;
        if stop.withdraw && tokio::time::timeout(limit, self.withdraw_all()).await.is_err() {
            tracing::warn!(peer = %self.config.address, "the peer did not take all withdrawals in time");
        }
        self.fsm.stop(stop.notification, Instant::now());
        self.act();
        while self.lingering.join_next().await.is_some() {}
        drop(stop.done);
    }

    async fn withdraw_all(&mut self) {
        if let Some(session) = &mut self.session {
            session.rib_out.set(Arc::default());
        }
        loop {
            self.act();
            let Some(session) = &self.session else {
                return;
            };
            let connection = match session.role {
                Role::Dial => self.dialled.as_ref(),
                Role::Accept => self.accepted.as_ref(),
                Role::AcceptBeside => self.beside.as_ref(),
            };
            match connection {
                _ if self.can_write => tokio::task::yield_now().await,
                Some(c) if session.rib_out.is_pending() || !c.outgoing.is_empty() => {
                    if c.writable().await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
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
