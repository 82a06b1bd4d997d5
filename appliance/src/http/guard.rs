//! What holds for every answer: security headers, no caching by default, and only hosts that are us.

use super::problem;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, uri::Authority};
use axum::middleware::Next;
use axum::response::Response;
use std::net::IpAddr;

/// No inline script or style, nothing from elsewhere, not embeddable.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Answers only requests meant for this host, and puts the common headers on every answer.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let response = if is_ours(request.uri(), request.headers()) {
        next.run(request).await
    } else {
        problem::answer(
            StatusCode::MISDIRECTED_REQUEST,
            request.uri(),
            "the Host header must be an IP address or localhost",
        )
    };
    with_headers(response)
}

/// The common headers alone, for listeners where every request shows who makes it.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    with_headers(next.run(request).await)
}

fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A page from elsewhere could name its own host and point it at 127.0.0.1 (DNS rebinding); it cannot make a browser
/// send an IP address or `localhost` as the host. HTTP/1.0 probes without any Host are let through: browsers send one.
fn is_ours(uri: &Uri, headers: &HeaderMap) -> bool {
    let host = match (uri.authority(), headers.get(header::HOST)) {
        (Some(authority), _) => authority.clone(),
        (None, None) => return true,
        (None, Some(value)) => match value.to_str().ok().and_then(|text| text.parse().ok()) {
            Some(authority) => authority,
            None => return false,
        },
    };
    is_address_or_localhost(&host)
}

fn is_address_or_localhost(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_ours() {
        for (host, ours) in [
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("localhost", true),
            ("LOCALHOST:80", true),
            ("10.0.0.2", true),
            ("rebound.example.com:8080", false),
            ("localhost.example.com", false),
            ("", false),
            ("a b", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            assert_eq!(is_ours(&Uri::from_static("/"), &headers), ours, "{host:?}");
        }
        assert!(is_ours(&Uri::from_static("/"), &HeaderMap::new()));
    }
}
