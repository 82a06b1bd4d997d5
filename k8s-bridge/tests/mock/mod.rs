//! A mock of an appliance: it speaks the contract of `sluice_api::source`, programs everything at once, and does as it is
//! told otherwise.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use sluice_api::{
    ServiceReport, ServiceState, SourceChange, SourceReport, SourceState, WantedService,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the mock has, and how it behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inner {
    pub(crate) owner: String,
    pub(crate) generation: u64,
    pub(crate) services: BTreeMap<String, (u64, WantedService)>,
    /// Every change that came, in one line.
    pub(crate) log: Vec<String>,
    /// The token it wants.
    pub(crate) token: Option<String>,
    /// Nothing is programmed while this holds.
    pub(crate) is_lazy: bool,
}

/// A mock on a port of its own.
pub(crate) struct Mock {
    pub(crate) url: String,
    pub(crate) inner: Arc<Mutex<Inner>>,
    revision: watch::Sender<u64>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct App {
    inner: Arc<Mutex<Inner>>,
    revision: watch::Sender<u64>,
}

#[derive(Deserialize)]
struct Poll {
    revision: Option<u64>,
}

impl Mock {
    /// Starts one with what it has from before.
    pub(crate) async fn start(inner: Inner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, inner)
    }

    fn serve(listener: TcpListener, inner: Inner) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(inner));
        let revision = watch::Sender::new(1);
        let app = App { inner: Arc::clone(&inner), revision: revision.clone() };
        let router = Router::new()
            .route("/api/v1/sources/{source}", get(look).put(put).patch(patch))
            .with_state(app);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Mock { url, inner, revision, server }
    }

    /// Changes what it has or does, and says so to whoever polls.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.lock().unwrap());
        self.revision.send_modify(|r| *r += 1);
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Inner) -> T) -> T {
        read(&self.inner.lock().unwrap())
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl App {
    fn report(&self, source: String) -> SourceReport {
        let inner = self.inner.lock().unwrap();
        let done = !inner.is_lazy;
        let service = |(name, (generation, _)): (&String, &(u64, WantedService))| ServiceReport {
            name: name.clone(),
            generation: *generation,
            programmed: done,
            announced: done,
            state: if done { ServiceState::Up } else { ServiceState::Unprogrammed },
            ..ServiceReport::default()
        };
        SourceReport {
            appliance: "mock".into(),
            source,
            owner: inner.owner.clone(),
            generation: inner.generation,
            revision: *self.revision.borrow(),
            services: inner.services.iter().map(service).collect(),
            ..SourceReport::default()
        }
    }

    fn is_let_in(&self, headers: &HeaderMap) -> bool {
        let wanted =
            self.inner.lock().unwrap().token.clone().map(|token| format!("Bearer {token}"));
        wanted.is_none()
            || headers.get("authorization").and_then(|h| h.to_str().ok()) == wanted.as_deref()
    }
}

async fn look(
    State(app): State<App>,
    Path(source): Path<String>,
    Query(poll): Query<Poll>,
    headers: HeaderMap,
) -> Response {
    if !app.is_let_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if let Some(revision) = poll.revision {
        let mut changes = app.revision.subscribe();
        let changed = changes.wait_for(|now| *now != revision);
        tokio::time::timeout(Duration::from_secs(25), changed).await.ok();
    }
    if app.inner.lock().unwrap().owner.is_empty() {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(app.report(source)).into_response()
}

async fn put(
    State(app): State<App>,
    Path(source): Path<String>,
    headers: HeaderMap,
    Json(state): Json<SourceState>,
) -> Response {
    if !app.is_let_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    {
        let mut inner = app.inner.lock().unwrap();
        inner.log.push(format!("put {} of {}", state.services.len(), state.generation));
        let is_strange = !inner.owner.is_empty() && inner.owner != state.owner;
        if is_strange || state.generation < inner.generation {
            return StatusCode::CONFLICT.into_response();
        }
        let named = |s: WantedService| (s.name.clone(), (state.generation, s));
        inner.services = state.services.into_iter().map(named).collect();
        (inner.owner, inner.generation) = (state.owner, state.generation);
    }
    app.revision.send_modify(|r| *r += 1);
    Json(app.report(source)).into_response()
}

async fn patch(
    State(app): State<App>,
    Path(source): Path<String>,
    headers: HeaderMap,
    Json(change): Json<SourceChange>,
) -> Response {
    if !app.is_let_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    {
        let mut inner = app.inner.lock().unwrap();
        inner.log.push(format!("patch +{} -{}", change.upsert.len(), change.remove.len()));
        if inner.generation != change.base || inner.owner != change.owner {
            return StatusCode::CONFLICT.into_response();
        }
        inner.generation = change.generation;
        for service in change.upsert {
            inner.services.insert(service.name.clone(), (change.generation, service));
        }
        for name in change.remove {
            inner.services.remove(&name);
        }
    }
    app.revision.send_modify(|r| *r += 1);
    Json(app.report(source)).into_response()
}
