//! Accepts connections, plain or TLS, and serves them within the limits: the one way into every listener.

use super::limits::{HANDSHAKE, HEAD, IDLE, Limits, UNPROVED, UNREAD};
use super::pool::{Full, Pool};
use super::tls::Client;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A pause after the system refused a connection, for want of descriptors or memory as a rule: asking at once again
/// would spin.
const PAUSE: Duration = Duration::from_millis(100);
/// An operator who looks within this time still sees that a limit was reached.
const SHOWN: Duration = Duration::from_secs(60);

/// How connections end that did not end by themselves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    /// It had to leave for another one.
    Displaced,
    /// It did not show who it is in time.
    Late,
    /// It showed who it is, and every place is at work.
    Full,
    /// The system would not give it to us.
    NotAccepted,
}

// === impl Ended ===

impl Ended {
    pub(super) const ALL: [Ended; 4] =
        [Ended::Displaced, Ended::Late, Ended::Full, Ended::NotAccepted];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Ended::Displaced => "displaced",
            Ended::Late => "late",
            Ended::Full => "full",
            Ended::NotAccepted => "not_accepted",
        }
    }
}

/// What is counted of all listeners.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    ended: [AtomicU64; Ended::ALL.len()],
    limit_reached: Mutex<Option<(Instant, Ended)>>,
}

// === impl Connections ===

impl Connections {
    fn count(&self, ended: Ended) {
        if let Some(counter) = self.ended.get(ended as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        // Somebody who says nothing reaches no limit.
        if !matches!(ended, Ended::Late) {
            let mut reached = self.limit_reached.lock().unwrap_or_else(PoisonError::into_inner);
            *reached = Some((Instant::now(), ended));
        }
    }

    pub(super) fn ended(&self, ended: Ended) -> u64 {
        self.ended.get(ended as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// What an operator should know now.
    pub(crate) fn problem(&self) -> Option<String> {
        let reached = *self.limit_reached.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, ended) = reached.filter(|(at, _)| at.elapsed() < SHOWN)?;
        let what = match ended {
            Ended::Displaced => {
                "connections without credentials are more than there is room for; the oldest are closed"
            }
            Ended::Full => {
                "callers with credentials are more than there is room for; close event streams or raise the limit of descriptors"
            }
            Ended::NotAccepted | Ended::Late => "the system refuses connections; see the log",
        };
        Some(format!("API: {what} (sluice_http_connections_ended_total)"))
    }
}

/// One connection's place in the pool; given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Held>);

#[derive(Debug)]
struct Held {
    id: u64,
    pool: Arc<Mutex<Pool<CancellationToken>>>,
    counts: Arc<Connections>,
}

/// A request under way. Dropped when its answer is sent.
#[derive(Debug)]
pub(super) struct Work(Place);

// === impl Place ===

impl Place {
    /// The caller has shown who it is: from now on it is at work in the room of those who have.
    pub(super) fn begin(&self) -> Result<Work, Full> {
        match lock(&self.0.pool).begin(self.0.id) {
            Ok(leaves) => {
                if let Some(leaves) = leaves {
                    self.0.counts.count(Ended::Displaced);
                    leaves.cancel();
                }
                Ok(Work(self.clone()))
            }
            Err(full) => {
                self.0.counts.count(Ended::Full);
                Err(full)
            }
        }
    }

    /// Ends when the time to show who it is is over without that.
    async fn late(&self) {
        tokio::time::sleep(UNPROVED).await;
        if lock(&self.0.pool).is_proved(self.0.id) {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.pool).remove(self.id);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Held { id, pool, .. } = &*self.0.0;
        lock(pool).end(*id);
    }
}

fn lock(
    pool: &Mutex<Pool<CancellationToken>>,
) -> std::sync::MutexGuard<'_, Pool<CancellationToken>> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What makes a listener.
pub(super) struct Server {
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) counts: Arc<Connections>,
    pub(super) shutdown: CancellationToken,
}

// === impl Server ===

impl Server {
    /// Serves until shutdown, and then until open answers are sent. `tls` is asked for each connection.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        tls: impl Fn() -> Option<TlsAcceptor>,
    ) -> io::Result<()> {
        let pool = Arc::new(Mutex::new(Pool::new(self.limits)));
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                // The client has left before its turn: nothing is wrong here.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    self.counts.count(Ended::NotAccepted);
                    tracing::warn!(%error, "cannot accept a connection to the API");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let leave = CancellationToken::new();
            let (id, leaves) = lock(&pool).admit(address.ip().into(), leave.clone());
            let held = Held { id, pool: Arc::clone(&pool), counts: Arc::clone(&self.counts) };
            if let Some(leaves) = leaves {
                self.counts.count(Ended::Displaced);
                leaves.cancel();
            }
            let connection = Connection {
                place: Place(Arc::new(held)),
                router: self.router.clone(),
                shutdown: self.shutdown.clone(),
                address,
            };
            let (tls, counts) = (tls(), Arc::clone(&self.counts));
            tasks.spawn(async move {
                let place = connection.place.clone();
                tokio::select! {
                    () = connection.serve(stream, tls) => {}
                    () = leave.cancelled() => {}
                    () = place.late() => counts.count(Ended::Late),
                }
            });
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

struct Connection {
    place: Place,
    router: Router,
    shutdown: CancellationToken,
    address: SocketAddr,
}

// === impl Connection ===

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let address = self.address;
        prepare(&stream);
        let Some(tls) = tls else {
            return self.speak(stream, false).await;
        };
        match timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let has_certificate = certificates.is_some_and(|all| !all.is_empty());
                self.speak(stream, has_certificate).await;
            }
            Ok(Err(error)) => tracing::info!(%address, %error, "a TLS handshake failed"),
            Err(_) => tracing::info!(%address, "a TLS handshake took too long"),
        }
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin, has_certificate: bool) {
        let Connection { place, router, shutdown, address } = self;
        let router = TowerToHyperService::new(router);
        let client = Client { address, has_certificate };
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(client));
            request.extensions_mut().insert(place.clone());
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_header_size(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "a connection to the API ended");
        }
    }
}

/// Small answers at once, and no waiting for a reader who is gone.
fn prepare(stream: &TcpStream) {
    let unread = u32::try_from(UNREAD.as_millis()).unwrap_or(u32::MAX);
    let set = stream.set_nodelay(true).map_err(|error| error.to_string()).and_then(|()| {
        let keepalive = setsockopt(stream, sockopt::KeepAlive, &true);
        keepalive
            .and_then(|()| setsockopt(stream, sockopt::TcpUserTimeout, &unread))
            .map_err(|error| error.to_string())
    });
    if let Err(error) = set {
        tracing::debug!(error, "a connection keeps the system's options");
    }
}
