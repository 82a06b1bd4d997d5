//! Server-sent events: differences for programs, rendered fragments for the page.
//!
//! Every stream compares the newest snapshot with the one it sent last, so a slow reader skips states instead of
//! queueing them.

use super::page::{self, Fragments};
use super::{App, MAX_EVENT_STREAMS, assets, changes, problem};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use sluice_api::Snapshot;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// A comment is sent when nothing else was: proxies and clients notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What an event source waits before it connects again.
const RETRY: Duration = Duration::from_secs(2);

/// `/api/v1/events`: `status` once, then `change` and `rates`.
pub(super) async fn api(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Response {
    stream_of(&app, &headers, &uri, ApiEvents::default())
}

/// `/page/events`: the page's fragments that differ from those sent last.
pub(super) async fn page(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Response {
    stream_of(&app, &headers, &uri, PageEvents::default())
}

/// What makes events of successive snapshots.
trait Teller: Send + 'static {
    fn tell(&mut self, snapshot: &Arc<Snapshot>) -> Vec<Event>;
}

fn stream_of(app: &App, headers: &HeaderMap, uri: &Uri, teller: impl Teller) -> Response {
    if let Some(refusal) = problem::refusal(headers, uri, "text/event-stream") {
        return refusal;
    }
    let Ok(permit) = Arc::clone(&app.streams).try_acquire_owned() else {
        let detail = format!(
            "{MAX_EVENT_STREAMS} event streams are open already; close one, or poll /api/v1/status"
        );
        return problem::answer(StatusCode::SERVICE_UNAVAILABLE, uri, detail);
    };
    let events = tell_all(app.snapshots.clone(), permit, teller)
        .take_until(app.shutdown.clone().cancelled_owned())
        .map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// Ends when the daemon drops its sender; the permit goes back when the stream is dropped.
fn tell_all(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    permit: OwnedSemaphorePermit,
    teller: impl Teller,
) -> impl Stream<Item = Event> {
    // The first round sends what holds now.
    snapshots.mark_changed();
    stream::unfold((snapshots, permit, teller), |(mut snapshots, permit, mut teller)| async {
        snapshots.changed().await.ok()?;
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        Some((stream::iter(teller.tell(&snapshot)), (snapshots, permit, teller)))
    })
    .flatten()
}

#[derive(Default)]
struct ApiEvents {
    last: Option<Arc<Snapshot>>,
}

impl Teller for ApiEvents {
    fn tell(&mut self, snapshot: &Arc<Snapshot>) -> Vec<Event> {
        let mut events = Vec::new();
        match &self.last {
            None => {
                let first = Event::default().retry(RETRY).event("status");
                events.extend(with_json(first, &snapshot.status));
            }
            Some(last) => events.extend(
                changes::changes(last, snapshot)
                    .iter()
                    .filter_map(|change| with_json(Event::default().event("change"), change)),
            ),
        }
        let known = self.last.as_ref().and_then(|last| last.history.last()).map(|point| point.at);
        let point = snapshot.history.last().filter(|point| Some(point.at) != known);
        events.extend(point.and_then(|point| with_json(Event::default().event("rates"), point)));
        self.last = Some(Arc::clone(snapshot));
        events
    }
}

#[derive(Default)]
struct PageEvents {
    sent: Option<Fragments>,
}

impl Teller for PageEvents {
    fn tell(&mut self, snapshot: &Arc<Snapshot>) -> Vec<Event> {
        let mut events = Vec::new();
        let fragments = page::fragments(snapshot);
        if self.sent.is_none() {
            events.push(Event::default().retry(RETRY).event("assets").data(assets::fingerprint()));
        }
        let changed = fragments.differing_from(self.sent.as_ref());
        if !changed.is_empty() {
            events.extend(with_json(Event::default().event("fragments"), &changed));
        }
        self.sent = Some(fragments);
        events
    }
}

/// Our own types always serialise; should one not, the event is left out and said so.
fn with_json<T: Serialize>(event: Event, data: &T) -> Option<Event> {
    event
        .json_data(data)
        .inspect_err(|error| tracing::error!(%error, "event left out: its data cannot be written"))
        .ok()
}
