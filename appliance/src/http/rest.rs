//! `/api/v1/*` as JSON, `/healthz` and `/readyz`.

use super::{App, problem};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use sluice_api::Snapshot;

const JSON: &str = "application/json";

pub(super) fn routes() -> Router<App> {
    let api = Router::new()
        .route("/api/v1/snapshot", part(json))
        .route("/api/v1/status", part(|snapshot| json(&snapshot.status)))
        .route("/api/v1/services", part(|snapshot| json(&snapshot.services)))
        .route("/api/v1/services/{name}", get(service))
        .route("/api/v1/backends", part(backends))
        .route("/api/v1/vips", part(|snapshot| json(&snapshot.vips)))
        .route("/api/v1/bgp/peers", part(|snapshot| json(&snapshot.peers)))
        .route("/api/v1/bgp/routes", part(|snapshot| json(&snapshot.routes)))
        .route("/api/v1/drops", part(|snapshot| json(&snapshot.drops)))
        .route("/api/v1/sources", part(|snapshot| json(&snapshot.sources)))
        .route("/api/v1/history", part(|snapshot| json(&snapshot.history)))
        .route("/api/v1/openapi.json", get(openapi))
        .layer(axum::middleware::from_fn(negotiate));
    Router::new().merge(api).route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

async fn negotiate(headers: HeaderMap, request: Request, next: Next) -> Response {
    match problem::refusal(&headers, request.uri(), JSON) {
        None => next.run(request).await,
        Some(refusal) => refusal,
    }
}

/// A route that shows a part of the current snapshot.
fn part(select: fn(&Snapshot) -> Response) -> axum::routing::MethodRouter<App> {
    get(move |State(app): State<App>| async move { select(&app.snapshot()) })
}

fn json<T: Serialize>(value: &T) -> Response {
    Json(value).into_response()
}

fn backends(snapshot: &Snapshot) -> Response {
    let all: Vec<_> = snapshot.services.iter().flat_map(|service| &service.backends).collect();
    json(&all)
}

async fn service(State(app): State<App>, Path(name): Path<String>, uri: Uri) -> Response {
    match app.snapshot().services.iter().find(|service| service.name == name) {
        Some(service) => json(service),
        None => {
            let detail = format!("there is no service {name:?}; GET /api/v1/services lists them");
            problem::answer(StatusCode::NOT_FOUND, &uri, detail)
        }
    }
}

async fn openapi(uri: Uri) -> Response {
    match sluice_api::openapi_json() {
        Ok(text) => ([(header::CONTENT_TYPE, JSON)], text).into_response(),
        Err(error) => problem::answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            &uri,
            format!("the description cannot be written: {error}"),
        ),
    }
}

/// The process lives and its event loop runs; says nothing about the data plane.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready when everything that is configured is at work.
async fn readyz(State(app): State<App>, uri: Uri) -> Response {
    let snapshot = app.snapshot();
    if snapshot.status.ready {
        return "ready\n".into_response();
    }
    let mut reasons = snapshot.status.problems.clone();
    if reasons.is_empty() {
        reasons.push("the first state is not programmed yet".to_owned());
    }
    let detail = reasons.join("; ");
    problem::with_reasons(StatusCode::SERVICE_UNAVAILABLE, &uri, detail, reasons)
}
