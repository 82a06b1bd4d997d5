//! The OpenAPI description, generated from the types.
//!
//! The functions here only carry the annotations; the handlers live in the daemon, whose tests ask for every path
//! below and hold the answers against these schemas.

use crate::{
    Backend, BgpError, BgpErrorKind, BgpPeer, BgpRoute, BgpSpeaker, BgpState, Change, ChangeKind,
    Counters, Drop, Health, Held, Link, NextHopState, PeerReport, Problem, Protocol, RatePoint,
    Rates, Service, ServiceReport, ServiceState, Snapshot, SourceChange, SourceReport, SourceState,
    SourceSummary, Status, Traffic, Vip, WantedBackend, WantedHealth, WantedPeer, WantedRoute,
    WantedService, XdpMode,
};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice appliance",
        description = "What the appliance wants, what it programmed, and what it sees. Everything is read-only but what sources want.",
    ),
    tags(
        (name = "state", description = "Parts of one snapshot"),
        (name = "sources", description = "What bridges want, and what became of it"),
        (name = "process", description = "For supervisors and monitoring"),
    ),
    paths(
        snapshot, status, services, service, backends, vips, bgp_peers, bgp_routes, drops,
        history, sources, source_report, source_put, source_patch, source_delete, held, held_delete, events, description, healthz, readyz, metrics,
    ),
    components(schemas(
        Backend, BgpError, BgpErrorKind, BgpPeer, BgpRoute, BgpSpeaker, BgpState, Change, ChangeKind, Counters, Drop,
        Health, Held, Link, NextHopState, Problem, Protocol, RatePoint, Rates, Service, ServiceState,
        Snapshot, Status, Traffic, Vip, XdpMode, PeerReport, ServiceReport, SourceChange,
        SourceReport, SourceState, SourceSummary, WantedBackend, WantedHealth, WantedPeer,
        WantedRoute, WantedService,
    ))
)]
struct Description;

/// The OpenAPI 3.1 description of `/api/v1` as indented JSON, ending in a newline.
///
/// # Errors
/// When serialisation fails, which no input can cause.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    let mut text = Description::openapi().to_pretty_json()?;
    text.push('\n');
    Ok(text)
}

/// Everything at one moment.
#[utoipa::path(get, path = "/api/v1/snapshot", tag = "state",
    responses((status = 200, body = Snapshot)))]
#[expect(dead_code, reason = "carries an annotation")]
fn snapshot() {}

/// The appliance as a whole.
#[utoipa::path(get, path = "/api/v1/status", tag = "state",
    responses((status = 200, body = Status)))]
#[expect(dead_code, reason = "carries an annotation")]
fn status() {}

/// Every service with its backends.
#[utoipa::path(get, path = "/api/v1/services", tag = "state",
    responses((status = 200, body = Vec<Service>)))]
#[expect(dead_code, reason = "carries an annotation")]
fn services() {}

/// One service with its backends.
#[utoipa::path(get, path = "/api/v1/services/{name}", tag = "state",
    params(("name" = String, Path, description = "The service's name")),
    responses(
        (status = 200, body = Service),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
#[expect(dead_code, reason = "carries an annotation")]
fn service() {}

/// The backends of all services.
#[utoipa::path(get, path = "/api/v1/backends", tag = "state",
    responses((status = 200, body = Vec<Backend>)))]
#[expect(dead_code, reason = "carries an annotation")]
fn backends() {}

/// Every virtual IP.
#[utoipa::path(get, path = "/api/v1/vips", tag = "state",
    responses((status = 200, body = Vec<Vip>)))]
#[expect(dead_code, reason = "carries an annotation")]
fn vips() {}

/// BGP peers and their sessions.
#[utoipa::path(get, path = "/api/v1/bgp/peers", tag = "state",
    responses((status = 200, body = Vec<BgpPeer>)))]
#[expect(dead_code, reason = "carries an annotation")]
fn bgp_peers() {}

/// The announced set.
#[utoipa::path(get, path = "/api/v1/bgp/routes", tag = "state",
    responses((status = 200, body = Vec<BgpRoute>)))]
#[expect(dead_code, reason = "carries an annotation")]
fn bgp_routes() {}

/// Dropped packets by reason.
#[utoipa::path(get, path = "/api/v1/drops", tag = "state",
    responses((status = 200, body = Vec<Drop>)))]
#[expect(dead_code, reason = "carries an annotation")]
fn drops() {}

/// Rates of the last two minutes, a point a second, oldest first.
#[utoipa::path(get, path = "/api/v1/history", tag = "state",
    responses((status = 200, body = Vec<RatePoint>)))]
#[expect(dead_code, reason = "carries an annotation")]
fn history() {}

/// Bridges in short.
#[utoipa::path(get, path = "/api/v1/sources", tag = "sources",
    responses((status = 200, body = Vec<SourceSummary>)))]
#[expect(dead_code, reason = "carries an annotation")]
fn sources() {}

/// What became of a source's wishes; with a revision, as soon as it is another one.
#[utoipa::path(get, path = "/api/v1/sources/{source}", tag = "sources",
    params(
        ("source" = String, Path, description = "The source's name"),
        ("revision" = Option<u64>, Query, description = "Wait up to 25 seconds for another one"),
    ),
    responses(
        (status = 200, body = SourceReport),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
#[expect(dead_code, reason = "carries an annotation")]
fn source_report() {}

/// Says everything a source wants.
#[utoipa::path(put, path = "/api/v1/sources/{source}", tag = "sources",
    params(("source" = String, Path, description = "The source's name")),
    request_body = SourceState,
    responses(
        (status = 200, body = SourceReport),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    ))]
#[expect(dead_code, reason = "carries an annotation")]
fn source_put() {}

/// Says what has changed since a generation.
#[utoipa::path(patch, path = "/api/v1/sources/{source}", tag = "sources",
    params(("source" = String, Path, description = "The source's name")),
    request_body = SourceChange,
    responses(
        (status = 200, body = SourceReport),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    ))]
#[expect(dead_code, reason = "carries an annotation")]
fn source_patch() {}

/// Forgets a source and everything it wants.
#[utoipa::path(delete, path = "/api/v1/sources/{source}", tag = "sources",
    params(("source" = String, Path, description = "The source's name")),
    responses(
        (status = 204, description = "Forgotten"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    ))]
#[expect(dead_code, reason = "carries an annotation")]
fn source_delete() {}

/// What is held after the ledger was lost.
#[utoipa::path(get, path = "/api/v1/held", tag = "sources", responses((status = 200, body = Held)))]
#[expect(dead_code, reason = "carries an annotation")]
fn held() {}

/// Ends the wait for sources after the ledger was lost: what the kernel carries and no source has claimed is removed.
#[utoipa::path(delete, path = "/api/v1/held", tag = "sources",
    responses(
        (status = 204, description = "Let go"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Nothing is waited for", body = Problem,
            content_type = "application/problem+json"),
    ))]
#[expect(dead_code, reason = "carries an annotation")]
fn held_delete() {}

/// Server-sent events.
///
/// On connect one `status` event (a `Status`), then `change` events (a `Change` each) and about once a second a
/// `rates` event (a `RatePoint`). Of changes that follow each other quickly the last wins.
#[utoipa::path(get, path = "/api/v1/events", tag = "state",
    responses(
        (status = 200, description = "A stream that ends when the client or the appliance does",
            body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many event streams are open", body = Problem,
            content_type = "application/problem+json"),
    ))]
#[expect(dead_code, reason = "carries an annotation")]
fn events() {}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "process",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)))]
#[expect(dead_code, reason = "carries an annotation")]
fn description() {}

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "process",
    responses((status = 200, body = String, content_type = "text/plain")))]
#[expect(dead_code, reason = "carries an annotation")]
fn healthz() {}

/// Everything that is configured is at work.
#[utoipa::path(get, path = "/readyz", tag = "process",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 503, description = "Not ready, with reasons", body = Problem,
            content_type = "application/problem+json"),
    ))]
#[expect(dead_code, reason = "carries an annotation")]
fn readyz() {}

/// Prometheus text exposition format 0.0.4.
#[utoipa::path(get, path = "/metrics", tag = "process",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4")))]
#[expect(dead_code, reason = "carries an annotation")]
fn metrics() {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `SLUICE_REGENERATE=1 cargo test -p sluice-api openapi` writes the file anew.
    #[test]
    fn openapi_json_is_current() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let wanted = openapi_json().unwrap();
        if std::env::var_os("SLUICE_REGENERATE").is_some() {
            std::fs::write(&file, &wanted).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == wanted,
            "{} has drifted from the types: run `SLUICE_REGENERATE=1 cargo test -p sluice-api openapi` and commit it",
            file.display()
        );
    }

    #[test]
    fn every_reference_resolves() {
        let text = openapi_json().unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut seen = 0;
        for part in text.split("\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(value.pointer(pointer).is_some(), "{pointer} is not described");
            seen += 1;
        }
        assert!(seen > 20, "only {seen} references: the schemas are not used");
    }
}
