//! `/healthz`, `/readyz` and `/metrics`.

use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// The loop ticks twice a second; one that has not for so long hangs.
const MAX_SILENCE: Duration = Duration::from_secs(30);

/// Whether the process is well.
#[derive(Debug)]
pub struct Health {
    beat: Mutex<Instant>,
    ready: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Health { beat: Mutex::new(Instant::now()), ready: AtomicBool::new(false) }
    }
}

// === impl Health ===

impl Health {
    /// The loop turns.
    pub fn beat(&self) {
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Every first list was read, and who leads is known.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn is_alive(&self, now: Instant) -> bool {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(beat) < MAX_SILENCE
    }
}

#[derive(Clone)]
struct App {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(page))
        .with_state(App { health, metrics });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("health and metrics are no longer served: {error}");
    }
}

async fn healthz(State(app): State<App>) -> impl IntoResponse {
    if app.health.is_alive(Instant::now()) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the event loop hangs\n")
    }
}

async fn readyz(State(app): State<App>) -> impl IntoResponse {
    if app.health.ready.load(Ordering::Relaxed) {
        let leads = app.metrics.state().is_leader;
        (StatusCode::OK, if leads { "leader\n" } else { "follower\n" })
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the first lists or the Lease are not read yet\n")
    }
}

async fn page(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_loop_is_not_alive() {
        let health = Health::default();
        let now = Instant::now();
        assert!(health.is_alive(now));
        assert!(!health.is_alive(now + MAX_SILENCE + Duration::from_secs(1)));
    }
}
