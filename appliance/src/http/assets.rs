//! The page's style sheet, script and icon, embedded in the binary.

use super::problem;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

/// One embedded file.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const ASSETS: [Asset; 3] = [
    Asset {
        name: "style.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("assets/style.css"),
    },
    Asset {
        name: "script.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("assets/script.js"),
    },
    Asset {
        name: "icon.svg",
        content_type: "image/svg+xml",
        content: include_str!("assets/icon.svg"),
    },
];

/// Names the build's assets as a whole; a page that was rendered with others loads itself anew.
pub(super) fn fingerprint() -> String {
    let hash = ASSETS.iter().fold(FNV_OFFSET, |hash, asset| fnv1a(hash, asset.content.as_bytes()));
    format!("{hash:016x}")
}

pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap, uri: Uri) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return problem::not_found(&uri);
    };
    let etag = format!("\"{:016x}\"", fnv1a(FNV_OFFSET, asset.content.as_bytes()));
    // Kept, but asked about each time: a restart with another version shows at once.
    let validators = [(header::CACHE_CONTROL, "no-cache".to_owned()), (header::ETAG, etag.clone())];
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|tag| tag.trim() == etag));
    if known {
        return (StatusCode::NOT_MODIFIED, validators).into_response();
    }
    (validators, [(header::CONTENT_TYPE, asset.content_type)], asset.content).into_response()
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: tells versions of our own files apart; nothing secret hangs on it.
const fn fnv1a(mut hash: u64, mut bytes: &[u8]) -> u64 {
    while let [first, rest @ ..] = bytes {
        hash = (hash ^ *first as u64).wrapping_mul(0x0000_0100_0000_01b3);
        bytes = rest;
    }
    hash
}
