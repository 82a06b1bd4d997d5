//! Accepts connections and hands them to their peer's task; strangers are closed at once.

use crate::log_limit::LogLimit;
use crate::peer::Command;
use std::collections::BTreeMap;
use std::net::IpAddr;
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

fn is_at(stream: &TcpStream, wanted: Option<IpAddr>) -> bool {
    match wanted {
        None => true,
        Some(wanted) => stream.local_addr().is_ok_and(|local| local.ip().to_canonical() == wanted),
    }
}
