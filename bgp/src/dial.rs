//! Sockets: one that dials a peer, one that listens.

use crate::config::PeerConfig;
use crate::hops::Hops;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait to be accepted; peers are few.
const BACKLOG: i32 = 128;

/// Dials the peer. Dropping the future gives the dial up.
pub(crate) async fn dial(config: PeerConfig, hops: Hops) -> io::Result<TcpStream> {
    let socket = match config.address {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(local) = config.local_address {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    hops.limit_sent(&socket, config.address)?;
    socket.connect(SocketAddr::new(config.address, config.port)).await
}

/// Listens on exactly this address: `[::]` does not take IPv4 as well, so that both can be given.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The connections of a process before may still be in TIME_WAIT; two listeners are refused all the same.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // What answers a SYN does not know the peer yet, and one with TTL security takes nothing less (RFC 5082).
    if address.is_ipv4() {
        socket.set_ttl_v4(255)?
    } else {
        socket.set_unicast_hops_v6(255)?
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
