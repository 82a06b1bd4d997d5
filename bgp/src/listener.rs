//! Accepts connections and hands them to their peer's task; strangers are closed at once.

use crate::error::ListenError;
use crate::log_limit::LogLimit;
use crate::peer::Command;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// How long to wait when the process is out of file descriptors: accepting fails until one is closed.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections accepted before sessions have their turn. A stranger's costs some ten microseconds.
const TURN: u32 = 16;

/// Who may connect from where.
pub(crate) type Routing = Arc<BTreeMap<IpAddr, Route>>;

/// A peer as the listener sees it.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) commands: mpsc::Sender<Command>,
    /// If configured, the peer must have connected to this address.
    pub(crate) local_address: Option<IpAddr>,
}

/// One per listening address.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) routing: watch::Receiver<Routing>,
    pub(crate) refused: Arc<AtomicU64>,
}

// === impl Listener ===

impl Listener {
    /// Until dropped.
    pub(crate) async fn run(self) {
        let (mut refusals, mut failures) = (LogLimit::default(), LogLimit::default());
        let mut turn = 0;
        loop {
            match self.socket.accept().await {
                Ok((stream, from)) => {
                    self.hand_over(stream, from.ip().to_canonical(), &mut refusals)
                }
                Err(error) => {
                    if let Some(left_out) = failures.pass(Instant::now()) {
                        tracing::warn!(%error, left_out, "cannot accept a BGP connection");
                    }
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
            turn += 1;
            if turn == TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn hand_over(&self, stream: TcpStream, from: IpAddr, refusals: &mut LogLimit) {
        let route = self.routing.borrow().get(&from).cloned();
        let refusal = match &route {
            None => Some("it is not a configured peer"),
            Some(route) if !is_at(&stream, route.local_address) => {
                Some("it connected to another address than the configured local one")
            }
            // A full queue means that the peer's task has connections enough to refuse.
            Some(route) => match route.commands.try_send(Command::Accepted(stream)) {
                Ok(()) => None,
                Err(_) => Some("its task is busy or has ended"),
            },
        };
        if let Some(why) = refusal {
            self.refused.fetch_add(1, Ordering::Relaxed);
            if let Some(left_out) = refusals.pass(Instant::now()) {
                tracing::warn!(%from, why, left_out, "BGP connection refused");
            }
        }
    }
}

/// Listens on all of them, or on none; `wanted` is how many addresses there are in all, with those listened on already.
///
/// A host with IPv6 switched off is reached over IPv4 alone, so `[::]`, which is among the defaults, loses nobody there. An
/// address that somebody gave is wanted, and so is the last one that is left.
pub(crate) fn bind_all<T>(
    addresses: &[SocketAddr],
    wanted: usize,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<Vec<(SocketAddr, T)>, ListenError> {
    let mut bound = Vec::new();
    for &address in addresses {
        match bind(address) {
            Ok(socket) => bound.push((address, socket)),
            Err(source) if is_without_ipv6(address, &source) && wanted > 1 => {
                tracing::warn!(%address, "this host has no IPv6: BGP listens on IPv4 only");
            }
            Err(source) => return Err(ListenError { address, source }),
        }
    }
    Ok(bound)
}

fn is_without_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    // The first without the protocol (`ipv6.disable=1`), the other without addresses (`disable_ipv6`).
    let switched_off = [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL].map(|errno| Some(errno as i32));
    address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && switched_off.contains(&error.raw_os_error())
}

fn is_at(stream: &TcpStream, wanted: Option<IpAddr>) -> bool {
    match wanted {
        None => true,
        Some(wanted) => stream.local_addr().is_ok_and(|local| local.ip().to_canonical() == wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_ipv6_is_listened_on_over_ipv4() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let without_ipv6 = |errno: Errno| {
            move |address: SocketAddr| match address {
                SocketAddr::V4(_) => Ok(()),
                SocketAddr::V6(_) => Err(io::Error::from(errno)),
            }
        };
        let bind_of = |wanted, list: &[&str], errno| {
            let list: Vec<_> = list.iter().map(|text| at(text)).collect();
            let bound = bind_all(&list, wanted, without_ipv6(errno));
            bound.map(|all| {
                all.into_iter().map(|(address, ())| address.to_string()).collect::<Vec<_>>()
            })
        };
        let bind = |list: &[&str], errno| bind_of(list.len(), list, errno);
        for errno in [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL] {
            let bound = bind(&["0.0.0.0:179", "[::]:179"], errno);
            assert_eq!(bound.unwrap(), ["0.0.0.0:179"], "{errno}");
            let named = bind(&["0.0.0.0:179", "[2001:db8::1]:179"], errno);
            assert_eq!(named.unwrap_err().address, at("[2001:db8::1]:179"), "{errno}");
            assert!(bind(&["[::]:179"], errno).is_err(), "nobody could come at all");
            assert_eq!(bind_of(2, &["[::]:179"], errno).unwrap(), [""; 0], "a reload");
        }
        let other = bind(&["0.0.0.0:179", "[::]:179"], Errno::EADDRINUSE);
        assert_eq!(other.unwrap_err().address, at("[::]:179"));
    }
}
