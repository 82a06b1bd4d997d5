//! What an authenticated request takes: a place among those at work, and memory for its body.

use super::connections::Place;
use super::limits::{BODIES, BODY};
use super::problem;
use super::sources::MAX_BODY;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Unit of the memory for bodies.
const KIB: usize = 1 << 10;

/// Memory for the bodies of all requests.
#[derive(Clone)]
pub(super) struct Bodies(Arc<Semaphore>);

// === impl Bodies ===

impl Default for Bodies {
    fn default() -> Self {
        Bodies(Arc::new(Semaphore::new(BODIES / KIB)))
    }
}

/// Runs a request whose caller is known. Its place is given back when the answer is sent to the end: an event stream is at
/// work as long as it lasts.
pub(super) async fn enter(
    State(bodies): State<Bodies>,
    Extension(place): Extension<Place>,
    request: Request,
    next: Next,
) -> Response {
    let uri = request.uri().clone();
    let Ok(work) = place.begin() else {
        let detail = "every connection for callers with credentials is at work; try again later";
        return problem::answer(StatusCode::SERVICE_UNAVAILABLE, &uri, detail);
    };
    let (head, body) = request.into_parts();
    let size = usize::try_from(body.size_hint().upper().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let units = size.min(MAX_BODY).div_ceil(KIB);
    let read = timeout(BODY, async {
        let room = bodies.0.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await;
        (to_bytes(body, MAX_BODY).await, room)
    });
    let (bytes, _room) = match read.await {
        Ok((Ok(bytes), room)) => (bytes, room),
        Ok((Err(error), _)) => return unreadable(&uri, &error),
        Err(_) => {
            let detail = format!("the body did not come within {} s", BODY.as_secs());
            return problem::answer(StatusCode::REQUEST_TIMEOUT, &uri, detail);
        }
    };
    let answer = next.run(Request::from_parts(head, Body::from(bytes))).await;
    answer.map(|body| {
        Body::new(body.map_err(move |error| {
            let _until_sent = &work;
            error
        }))
    })
}

fn unreadable(uri: &Uri, error: &axum::Error) -> Response {
    let detail = format!("the body cannot be read (at most {} MiB): {error}", MAX_BODY >> 20);
    problem::answer(StatusCode::PAYLOAD_TOO_LARGE, uri, detail)
}
