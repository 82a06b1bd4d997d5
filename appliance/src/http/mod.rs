//! REST API, metrics, event streams and the status page, all read from one watched snapshot.
//!
//! Nothing here changes anything: there are only GET routes. Nothing is fetched from elsewhere either; the page works
//! on a box without the internet.

use axum::Router;
use axum::http::Uri;
use axum::routing::get;
use sluice_api::Snapshot;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

mod assets;
mod changes;
#[cfg(test)]
mod demo_snapshot;
mod events;
mod guard;
mod metrics;
mod page;
mod problem;
mod rest;
#[cfg(test)]
mod tests;

/// Event streams (API and pages together) that may be open at once; one more is answered with 503.
const MAX_EVENT_STREAMS: usize = 64;

/// How long open answers may take after shutdown began; event streams end at once.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What every handler can reach.
#[derive(Clone)]
struct App {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// One permit per open event stream.
    streams: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// Serves until `shutdown`.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let app = router(snapshots, shutdown.clone());
    let server =
        axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let grace_is_over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        result = server => result,
        // A client that neither reads nor closes must not hold the process.
        () = grace_is_over => Ok(()),
    }
}

fn router(snapshots: watch::Receiver<Arc<Snapshot>>, shutdown: CancellationToken) -> Router {
    let app = App { snapshots, streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)), shutdown };
    Router::new()
        .merge(rest::routes())
        .route("/", get(page::document))
        .route("/page/events", get(events::page))
        .route("/assets/{name}", get(assets::asset))
        .route("/api/v1/events", get(events::api))
        .route("/metrics", get(metrics::metrics))
        .fallback(|uri: Uri| async move { problem::not_found(&uri) })
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(axum::middleware::from_fn(guard::guard))
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
