//! `/api/v1/sources`: where bridges say what they want, and learn what became of it.

use super::App;
use super::access::Caller;
use super::problem::{self, Refused};
use crate::ledger::{Accepted, SharedLedger, Submission, SubmitError};
use crate::sources::{Refusal, SaidChange, SaidState, check_source};
use crate::status::SourceReports;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use sluice_api::{CONTRACT, SourceReport};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A complete state of 10,000 services with 100 backends each is smaller.
pub(super) const MAX_BODY: usize = 64 << 20;
/// A poll is answered after this at the latest: shorter than what proxies and load balancers think of idle connections.
const POLL: Duration = Duration::from_secs(25);
/// How long an accepted wish is waited for to show in a report. It shows after one pass of the planner.
const SEEN: Duration = Duration::from_secs(2);

/// What the handlers need.
#[derive(Clone)]
pub(crate) struct Sources {
    /// Who takes wishes.
    pub(crate) ledger: SharedLedger,
    /// What became of them.
    pub(crate) reports: watch::Receiver<Arc<SourceReports>>,
}

#[derive(Deserialize)]
struct Poll {
    revision: Option<u64>,
}

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/sources/{source}", get(report).put(put).patch(patch).delete(forget))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .route("/api/v1/held", get(held).delete(let_go))
}

async fn report(
    State(app): State<App>,
    Path(source): Path<String>,
    Query(poll): Query<Poll>,
    uri: Uri,
) -> Response {
    let mut reports = app.sources.reports.clone();
    let is_news = |reports: &Arc<SourceReports>| {
        let report = reports.get(&source);
        poll.revision.is_none() || report.is_none_or(|known| Some(known.revision) != poll.revision)
    };
    let found = tokio::select! {
        found = tokio::time::timeout(POLL, reports.wait_for(is_news)) => {
            found.ok().and_then(Result::ok).map(|reports| Arc::clone(&reports))
        }
        () = app.shutdown.cancelled() => None,
    };
    let found = found.unwrap_or_else(|| Arc::clone(&app.sources.reports.borrow()));
    match found.get(&source) {
        Some(report) => Json(report.as_ref()).into_response(),
        None => unknown(&source, &uri),
    }
}

async fn put(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(source): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let state = match read(&caller, &source, &headers, &body, SaidState::read) {
        Ok(state) => state,
        Err(refused) => return refused.answer(&uri),
    };
    let wish = Submission::Put { source: source.clone(), state };
    submit(app, source, uri, wish).await
}

async fn patch(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(source): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let change = match read(&caller, &source, &headers, &body, SaidChange::read) {
        Ok(change) => change,
        Err(refused) => return refused.answer(&uri),
    };
    let wish = Submission::Patch { source: source.clone(), change };
    submit(app, source, uri, wish).await
}

async fn forget(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(source): Path<String>,
    uri: Uri,
) -> Response {
    if let Err(refused) = may_write(&caller, &source) {
        return refused.answer(&uri);
    }
    let wish = Submission::Forget { source: source.clone() };
    match app.sources.ledger.submit(wish).await {
        Ok(Accepted::New) => StatusCode::NO_CONTENT.into_response(),
        Ok(Accepted::Known) => unknown(&source, &uri),
        Err(error) => refused(error).answer(&uri),
    }
}

async fn held(State(app): State<App>) -> Response {
    Json(app.sources.ledger.held()).into_response()
}

/// What was held since the ledger was lost is nobody's own, so only who may do everything decides about it.
async fn let_go(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Response {
    if caller != Caller::Local {
        let detail = "only who is on the appliance may end the wait for sources";
        return problem::answer(StatusCode::FORBIDDEN, &uri, detail);
    }
    match app.sources.ledger.submit(Submission::Settle).await {
        Ok(Accepted::New) => StatusCode::NO_CONTENT.into_response(),
        Ok(Accepted::Known) => {
            problem::answer(StatusCode::NOT_FOUND, &uri, "nothing is held: the ledger is in order")
        }
        Err(error) => refused(error).answer(&uri),
    }
}

/// The body, from who may send it.
fn read<T>(
    caller: &Caller,
    source: &str,
    headers: &HeaderMap,
    body: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, Refused> {
    may_write(caller, source)?;
    // A page from elsewhere cannot send this type without asking first, and nobody here would permit it.
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if kind != "application/json" {
        let detail = "send Content-Type: application/json";
        return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    decode(body).map_err(|why| {
        let detail = format!("the body does not fit contract {CONTRACT}: {why}");
        Refused::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })
}

fn may_write(caller: &Caller, source: &str) -> Result<(), Refused> {
    check_source(source).map_err(|why| Refused::new(StatusCode::BAD_REQUEST, why))?;
    if caller.may_write(source) {
        return Ok(());
    }
    let detail =
        format!("this token may not write to source {source}; see [[api.tls.token]] sources");
    Err(Refused::new(StatusCode::FORBIDDEN, detail))
}

/// Submits a wish, and answers with the report that shows it.
async fn submit(app: App, source: String, uri: Uri, wish: Submission) -> Response {
    if let Err(error) = app.sources.ledger.submit(wish).await {
        return refused(error).answer(&uri);
    }
    let generation = app.sources.ledger.generation(&source);
    let mut reports = app.sources.reports.clone();
    let shows = |reports: &Arc<SourceReports>| {
        reports.get(&source).is_some_and(|report| Some(report.generation) >= generation)
    };
    let seen = tokio::time::timeout(SEEN, reports.wait_for(shows)).await;
    match seen.ok().and_then(Result::ok).and_then(|reports| reports.get(&source).cloned()) {
        Some(report) => Json(report.as_ref()).into_response(),
        // It is kept and will be followed; what became of it shows later.
        None => Json(SourceReport {
            source,
            contract: CONTRACT,
            generation: generation.unwrap_or_default(),
            ..SourceReport::default()
        })
        .into_response(),
    }
}

fn refused(error: SubmitError) -> Refused {
    let status = match &error {
        SubmitError::Refused(Refusal::Invalid(_)) => StatusCode::UNPROCESSABLE_ENTITY,
        SubmitError::Refused(_) => StatusCode::CONFLICT,
        SubmitError::Write { .. } => StatusCode::INSUFFICIENT_STORAGE,
        SubmitError::Ended => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refused::new(status, format!("{:#}", anyhow::Error::new(error)))
}

fn unknown(source: &str, uri: &Uri) -> Response {
    let detail = format!("there is no source {source:?}; GET /api/v1/sources lists them");
    problem::answer(StatusCode::NOT_FOUND, uri, detail)
}
