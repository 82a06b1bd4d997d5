//! What can go wrong, with what to do about it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One thing in a configuration that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// RFC 7607.
    #[error("the AS number is 0: use 1 to 4294967295")]
    Asn,
    /// RFC 6286 §2.1.
    #[error("the router id is 0.0.0.0: use an address of this machine")]
    RouterId,
    /// RFC 4724 §3.
    #[error(
        "a graceful restart time of {0:?} is too long: use at most 4095 s, or 0 s to turn it off"
    )]
    RestartTime(Duration),
    /// Addresses are identities.
    #[error("peer {0}: it is configured twice: remove one")]
    DuplicatePeer(IpAddr),
    /// RFC 7607.
    #[error("peer {0}: its AS number is 0: use 1 to 4294967295")]
    PeerAsn(IpAddr),
    /// Unspecified, multicast, or link-local without an interface.
    #[error(
        "peer {0}: the address is not that of one host: use a global or private unicast address"
    )]
    PeerAddress(IpAddr),
    /// Nothing listens on port 0.
    #[error("peer {0}: the port is 0: use 179 or where it listens")]
    PeerPort(IpAddr),
    /// RFC 4271 §4.2.
    #[error("peer {0}: a hold time of {1:?} is not possible: use 0 s, or 3 s to 65535 s")]
    HoldTime(IpAddr, Duration),
    /// Nothing arrives with a TTL of 0.
    #[error("peer {0}: multihop is 0: use the number of hops, 1 for a peer next door")]
    Multihop(IpAddr),
    /// Zero would be a busy loop.
    #[error("peer {0}: the connect-retry time is zero: use 1 s or more")]
    ConnectRetry(IpAddr),
    /// TCP does not cross families.
    #[error("peer {0}: the local address {1} is of the other family: use one like the peer's")]
    LocalAddress(IpAddr, IpAddr),
    /// No traffic can be sent there.
    #[error("peer {0}: {1} cannot be a next hop: use a unicast address of this machine")]
    NextHop(IpAddr, IpAddr),
}

/// The speaker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// All that is wrong with the configuration.
    #[error("{}", list(.0))]
    Config(Vec<ConfigProblem>),
    /// No thread for the sessions.
    #[error("cannot start the thread that BGP sessions run on")]
    Thread(#[source] io::Error),
    /// An address to listen on cannot be had.
    #[error("cannot listen for BGP on {address}: {}", hint(.source, .address))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The kernel's word.
        source: io::Error,
    },
}

/// The configuration was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// All that is wrong with it.
    #[error("{}", list(.0))]
    Config(Vec<ConfigProblem>),
    /// An address to listen on cannot be had.
    #[error("cannot listen for BGP on {address}: {}", hint(.source, .address))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The kernel's word.
        source: io::Error,
    },
}

/// An address that cannot be listened on, at whatever time that shows.
#[derive(Debug)]
pub(crate) struct ListenError {
    pub(crate) address: SocketAddr,
    pub(crate) source: io::Error,
}

// === impl StartError ===

impl From<ListenError> for StartError {
    fn from(ListenError { address, source }: ListenError) -> Self {
        Self::Listen { address, source }
    }
}

// === impl ConfigureError ===

impl From<ListenError> for ConfigureError {
    fn from(ListenError { address, source }: ListenError) -> Self {
        Self::Listen { address, source }
    }
}

fn list(problems: &[ConfigProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What to do about it; the kernel's own text is in the source.
fn hint(error: &io::Error, address: &SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another process has the port; find it with `ss -ltnp 'sport = :{}'` and stop it, or change the listen \
             addresses (none: only dial)",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has the address; add it or listen on another".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => "the system refuses".to_owned(),
    }
}
