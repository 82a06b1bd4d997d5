//! REST API, metrics, event streams and the status page, all read from one watched snapshot.
//!
//! Nothing here changes anything but what sources wish (`sources`), which goes into the ledger. The plain listener is
//! loopback's; from outside there is TLS only, with a token or a client certificate (`tls`, `access`). Nothing is fetched
//! from elsewhere; the page works on a box without the internet.

use axum::Router;
use axum::http::Uri;
use axum::routing::get;
use sluice_api::Snapshot;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

mod access;
mod assets;
mod changes;
mod connections;
#[cfg(test)]
mod demo_snapshot;
mod events;
mod guard;
mod limits;
mod metrics;
mod page;
mod pool;
mod problem;
mod rest;
mod room;
mod sources;
#[cfg(test)]
mod tests;
mod tls;
pub(crate) mod welcome;

pub(crate) use access::Access;
pub(crate) use connections::Connections;
pub(crate) use sources::Sources;

use connections::Server;
use limits::Limits;

/// Event streams (API and pages together) that may be open at once; one more is answered with 503.
const MAX_EVENT_STREAMS: usize = 64;

/// How long open answers may take after shutdown began; event streams end at once.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct App {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    sources: Sources,
    /// One permit per open event stream.
    streams: Arc<Semaphore>,
    connections: Arc<Connections>,
    bodies: room::Bodies,
    shutdown: CancellationToken,
}

// === impl App ===

impl App {
    /// Serves what these channels show, until `shutdown`.
    pub(crate) fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        sources: Sources,
        shutdown: CancellationToken,
    ) -> Self {
        App {
            snapshots,
            sources,
            streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
            connections: Arc::default(),
            bodies: room::Bodies::default(),
            shutdown,
        }
    }

    /// Counts its connections where others can read it.
    pub(crate) fn counting(self, connections: Arc<Connections>) -> Self {
        App { connections, ..self }
    }

    /// Serves those who are on this machine: whoever can open a connection to loopback here may read everything, and
    /// write to sources as the bridge would.
    ///
    /// # Errors
    /// When the listener fails.
    pub(crate) async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let router = routes(self.clone())
            .layer(axum::middleware::from_fn_with_state(self.bodies.clone(), room::enter))
            .layer(axum::Extension(access::Caller::Local))
            .layer(axum::middleware::from_fn(guard::guard));
        let (shutdown, server) = (self.shutdown.clone(), self.server(router, Limits::loopback()));
        until(&shutdown, server.serve(listener, || None)).await
    }

    /// Serves everybody who has a token or a certificate.
    ///
    /// # Errors
    /// When the listener fails.
    pub(crate) async fn serve_tls(
        self,
        listener: TcpListener,
        access: watch::Receiver<Arc<Access>>,
    ) -> std::io::Result<()> {
        let state = (self.clone(), access.clone());
        let router = routes(self.clone())
            .layer(axum::middleware::from_fn_with_state(self.bodies.clone(), room::enter))
            .layer(axum::middleware::from_fn_with_state(state, tls::guard))
            .layer(axum::middleware::from_fn(guard::headers));
        let (shutdown, server) = (self.shutdown.clone(), self.server(router, Limits::outside()));
        // Each handshake takes the certificate that is in force when it begins.
        let tls = || Some(TlsAcceptor::from(Arc::clone(&access.borrow().tls)));
        until(&shutdown, server.serve(listener, tls)).await
    }

    fn server(self, router: Router, limits: Limits) -> Server {
        Server { router, limits, counts: self.connections, shutdown: self.shutdown }
    }
}

/// A client that neither reads nor closes must not hold the process.
async fn until(
    shutdown: &CancellationToken,
    server: impl Future<Output = std::io::Result<()>>,
) -> std::io::Result<()> {
    let grace_is_over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        result = server => result,
        () = grace_is_over => Ok(()),
    }
}

fn routes(app: App) -> Router {
    Router::new()
        .merge(rest::routes())
        .merge(sources::routes())
        .route("/", get(page::document))
        .route("/page/events", get(events::page))
        .route("/assets/{name}", get(assets::asset))
        .route("/api/v1/events", get(events::api))
        .route("/metrics", get(metrics::metrics))
        .fallback(|uri: Uri| async move { problem::not_found(&uri) })
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(app)
}

impl App {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    fn open_streams(&self) -> usize {
        MAX_EVENT_STREAMS.saturating_sub(self.streams.available_permits())
    }
}
