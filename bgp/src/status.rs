//! What is known of each peer, published at each change.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Not started.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting: for the peer to dial, or to dial again.
    Active,
    /// Connected, our OPEN is out.
    OpenSent,
    /// The OPENs fit together.
    OpenConfirm,
    /// Routes flow.
    Established,
}

/// What is known of one peer; published at each change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// As configured.
    pub address: IpAddr,
    /// As configured.
    pub asn: u32,
    /// Of the further of its connections.
    pub state: PeerState,
    /// Wall clock of the last change of `state` into or out of Established.
    pub since: SystemTime,
    /// Our end of the session.
    pub local_address: Option<SocketAddr>,
    /// The peer's BGP identifier, while Established.
    pub router_id: Option<Ipv4Addr>,
    /// As negotiated, while Established; zero if the session never expires.
    pub hold_time: Option<Duration>,
    /// What the peer sent, while Established; names as in the RFCs' titles: "multiprotocol ipv4-unicast", "4-octet AS".
    pub capabilities: Vec<String>,
    /// What we sent, while Established.
    pub capabilities_sent: Vec<String>,
    /// What both know and therefore holds, while Established.
    pub capabilities_agreed: Vec<String>,
    /// Families of which routes are exchanged, while Established: "ipv4-unicast", "ipv6-unicast".
    pub families: Vec<String>,
    /// Prefixes we have announced to this peer and not withdrawn.
    pub announced: u64,
    /// Prefixes the peer announced to us (counted, never installed).
    pub received: u64,
    /// Messages of all types, since the peer was configured.
    pub messages_in: u64,
    /// Messages of all types, since the peer was configured.
    pub messages_out: u64,
    /// How often an Established session was lost.
    pub flaps: u64,
    /// The last reason the session went down, or did not come up, in words, with code and subcode.
    pub last_error: Option<String>,
    /// The last one of each kind, which further attempts do not hide.
    pub errors: LastErrors,
    /// What keeps this peer from getting all routes, in words, with what to do.
    pub problems: Vec<String>,
}

/// Why connections with a peer ended, the last of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastErrors {
    /// Why a session that was Established was lost.
    pub lost: Option<PeerError>,
    /// The peer's last NOTIFICATION, with its operator's text.
    pub received: Option<PeerError>,
    /// Our last NOTIFICATION.
    pub sent: Option<PeerError>,
    /// The last connection that could not be made or broke.
    pub transport: Option<PeerError>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerError {
    /// Wall clock.
    pub at: SystemTime,
    /// In words, with code and subcode. What the peer wrote is escaped.
    pub text: String,
}

/// Where all peers' tasks write.
pub(crate) type Board = watch::Sender<Vec<PeerStatus>>;

/// One peer's line on the board, and what it will be.
pub(crate) struct StatusWriter {
    board: Board,
    status: PeerStatus,
    shown: PeerStatus,
    shown_at: Option<Instant>,
    counts_every: Duration,
}

// === impl PeerStatus ===

impl PeerStatus {
    pub(crate) fn new(address: IpAddr, asn: u32) -> Self {
        Self {
            address,
            asn,
            state: PeerState::Idle,
            since: SystemTime::now(),
            local_address: None,
            router_id: None,
            hold_time: None,
            capabilities: Vec::new(),
            capabilities_sent: Vec::new(),
            capabilities_agreed: Vec::new(),
            families: Vec::new(),
            announced: 0,
            received: 0,
            messages_in: 0,
            messages_out: 0,
            flaps: 0,
            last_error: None,
            errors: LastErrors::default(),
            problems: Vec::new(),
        }
    }

    /// Why there is no session, in words: why it was lost, and what became of the attempts since.
    pub fn why_down(&self) -> Option<String> {
        let last = self.last_error.as_ref()?;
        match &self.errors.lost {
            Some(lost) if lost.text != *last => Some(format!("{}; since then: {last}", lost.text)),
            _ => Some(last.clone()),
        }
    }

    /// What is urgent: everything but counts and what counts are in.
    fn is_same_but_for_counts(&self, other: &Self) -> bool {
        let urgent =
            |status: &Self| (status.state, status.since, status.local_address, status.flaps);
        urgent(self) == urgent(other) && self.errors == other.errors
    }

    /// What only a session has.
    pub(crate) fn clear_session(&mut self) {
        self.local_address = None;
        self.router_id = None;
        self.hold_time = None;
        self.capabilities.clear();
        self.capabilities_sent.clear();
        self.capabilities_agreed.clear();
        self.families.clear();
        self.announced = 0;
        self.received = 0;
    }
}

// === impl StatusWriter ===

impl StatusWriter {
    pub(crate) fn new(board: Board, status: PeerStatus, counts_every: Duration) -> Self {
        Self { board, shown: status.clone(), status, shown_at: None, counts_every }
    }

    /// What is to be shown next.
    pub(crate) fn status(&mut self) -> &mut PeerStatus {
        &mut self.status
    }

    /// Shows what has changed, counts alone only now and then.
    pub(crate) fn publish(&mut self, now: Instant) {
        if self.due_at(now).is_none_or(|at| at > now) {
            return;
        }
        self.shown.clone_from(&self.status);
        self.shown_at = Some(now);
        self.board.send_if_modified(|peers| {
            let line = peers.iter_mut().find(|line| line.address == self.shown.address);
            line.map(|line| line.clone_from(&self.shown)).is_some()
        });
    }

    /// When there is something to show.
    pub(crate) fn due_at(&self, now: Instant) -> Option<Instant> {
        if self.status == self.shown {
            return None;
        }
        let waits = self.status.is_same_but_for_counts(&self.shown);
        Some(self.shown_at.filter(|_| waits).map_or(now, |at| at + self.counts_every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS_EVERY: Duration = Duration::from_secs(1);

    #[test]
    fn counts_wait_and_what_happens_does_not() {
        let now = Instant::now();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let status = PeerStatus::new(address, 64512);
        let board: Board = watch::Sender::new(vec![status.clone()]);
        let mut seen = board.subscribe();
        let mut changed = move || {
            let changed = seen.has_changed().unwrap();
            seen.mark_unchanged();
            changed
        };
        let mut writer = StatusWriter::new(board, status, COUNTS_EVERY);
        writer.publish(now);
        assert!(!changed(), "nothing to show");
        writer.status().messages_in = 1;
        writer.publish(now);
        assert!(changed(), "the first count is not late");
        writer.status().messages_in = 2;
        writer.publish(now);
        assert!(!changed());
        assert_eq!(writer.due_at(now), Some(now + COUNTS_EVERY));
        writer.status().state = PeerState::Established;
        writer.publish(now);
        assert!(changed(), "a session is news");
        writer.status().messages_in = 3;
        writer.publish(now + COUNTS_EVERY);
        assert!(changed());
        assert_eq!(writer.due_at(now), None);
    }

    #[test]
    fn the_loss_of_the_session_is_not_hidden_by_attempts() {
        let mut status = PeerStatus::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 64512);
        assert_eq!(status.why_down(), None);
        let error = |text: &str| Some(PeerError { at: SystemTime::UNIX_EPOCH, text: text.into() });
        status.last_error = Some("connect: refused".into());
        assert_eq!(status.why_down().as_deref(), Some("connect: refused"));
        status.errors.lost = error("received Cease: \"upgrade\"");
        let both = "received Cease: \"upgrade\"; since then: connect: refused";
        assert_eq!(status.why_down().as_deref(), Some(both));
    }
}
