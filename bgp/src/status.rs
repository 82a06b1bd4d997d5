//! What is known of each peer, published at each change.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};
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
    /// What keeps this peer from getting all routes, in words, with what to do.
    pub problems: Vec<String>,
}

/// Where all peers' tasks write.
pub(crate) type Board = watch::Sender<Vec<PeerStatus>>;

/// One peer's line on the board.
#[derive(Clone)]
pub(crate) struct StatusWriter {
    board: Board,
    address: IpAddr,
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
            families: Vec::new(),
            announced: 0,
            received: 0,
            messages_in: 0,
            messages_out: 0,
            flaps: 0,
            last_error: None,
            problems: Vec::new(),
        }
    }

    /// What only a session has.
    pub(crate) fn clear_session(&mut self) {
        self.local_address = None;
        self.router_id = None;
        self.hold_time = None;
        self.capabilities.clear();
        self.families.clear();
        self.announced = 0;
        self.received = 0;
    }
}

// === impl StatusWriter ===

impl StatusWriter {
    pub(crate) fn new(board: Board, address: IpAddr) -> Self {
        Self { board, address }
    }

    /// Readers are woken only if something is different afterwards.
    pub(crate) fn update(&self, change: impl FnOnce(&mut PeerStatus)) {
        self.board.send_if_modified(|peers| {
            let Some(status) = peers.iter_mut().find(|p| p.address == self.address) else {
                return false;
            };
            let before = status.clone();
            change(status);
            *status != before
        });
    }
}
