//! Errors as `application/problem+json` (RFC 9457), and what decides that an answer would not be acceptable.

use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use sluice_api::Problem;

/// Why a request is not carried out.
pub(super) struct Refused {
    status: StatusCode,
    detail: String,
}

// === impl Refused ===

impl Refused {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Refused { status, detail: detail.into() }
    }

    /// As an answer to the request of this URI.
    pub(super) fn answer(self, uri: &Uri) -> Response {
        answer(self.status, uri, self.detail)
    }
}

/// An error answer with this `detail`.
pub(super) fn answer(status: StatusCode, uri: &Uri, detail: impl Into<String>) -> Response {
    with_reasons(status, uri, detail, Vec::new())
}

/// An error answer that lists several reasons.
pub(super) fn with_reasons(
    status: StatusCode,
    uri: &Uri,
    detail: impl Into<String>,
    reasons: Vec<String>,
) -> Response {
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail: Some(detail.into()),
        instance: Some(uri.path().to_owned()),
        reasons,
    };
    // Tuple parts apply after the body's own headers, so this type replaces Json's.
    (status, [(header::CONTENT_TYPE, "application/problem+json")], axum::Json(problem))
        .into_response()
}

pub(super) fn not_found(uri: &Uri) -> Response {
    answer(
        StatusCode::NOT_FOUND,
        uri,
        "there is nothing here; /api/v1/openapi.json lists every path",
    )
}

/// Nearly every route answers GET and HEAD only; the framework adds `Allow`.
pub(super) async fn method_not_allowed(uri: Uri) -> Response {
    answer(
        StatusCode::METHOD_NOT_ALLOWED,
        &uri,
        "use GET; configuration changes go through the file and SIGHUP, and bridges PUT and PATCH /api/v1/sources/NAME",
    )
}

/// The refusal, when the client's `Accept` excludes `offered` (RFC 9110 §12.5.1).
pub(super) fn refusal(headers: &HeaderMap, uri: &Uri, offered: &'static str) -> Option<Response> {
    if accepts(headers, offered) {
        return None;
    }
    let detail = format!("this resource is only available as {offered}");
    Some(answer(StatusCode::NOT_ACCEPTABLE, uri, detail))
}

/// No `Accept` accepts everything; otherwise the most specific range that matches decides, and `q=0` excludes.
fn accepts(headers: &HeaderMap, offered: &str) -> bool {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .peekable();
    if ranges.peek().is_none() {
        return true;
    }
    let (family, _) = offered.split_once('/').unwrap_or((offered, ""));
    let mut best: Option<(u8, bool)> = None;
    for range in ranges {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let specificity = match name.split_once('/') {
            _ if name.eq_ignore_ascii_case(offered) => 3,
            Some((kind, "*")) if kind.eq_ignore_ascii_case(family) => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        let wanted = !parts.any(|part| {
            part.strip_prefix("q=").is_some_and(|q| q.trim().parse().is_ok_and(|q: f32| q <= 0.0))
        });
        if best.is_none_or(|(known, _)| specificity > known) {
            best = Some((specificity, wanted));
        }
    }
    best.is_some_and(|(_, wanted)| wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_understood() {
        for (accept, accepted) in [
            ("application/json", true),
            ("APPLICATION/JSON", true),
            ("*/*", true),
            ("application/*", true),
            ("text/html", false),
            ("text/html, application/json;q=0.5", true),
            ("application/json;q=0, */*", false),
            ("*/*;q=0", false),
            ("text/*, */*;q=0.1", true),
            ("", true),
            (";;;,", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(accepts(&headers, "application/json"), accepted, "{accept:?}");
        }
        assert!(accepts(&HeaderMap::new(), "application/json"));
    }
}
