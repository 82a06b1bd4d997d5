//! Who makes a request under TLS: a token or a client certificate, asked for in each one.

use super::access::{Access, Caller};
use super::{App, problem};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// What programs and browsers are asked for. A browser that keeps the password cannot be made to write by other pages:
/// every method that does is one it asks about first (CORS), and we never say yes.
const CHALLENGE: &str = "Bearer, Basic realm=\"Sluice: any user name, a token as the password\"";

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) has_certificate: bool,
}

/// The token in an `Authorization` header: of programs as it is, of browsers as the password of any user (RFC 7617).
fn secret(authorization: &str) -> Option<String> {
    let (scheme, value) = authorization.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// Lets in who has a token or a certificate; whoever loses it in the middle of a request loses the request.
pub(super) async fn guard(
    State((app, access)): State<(App, watch::Receiver<Arc<Access>>)>,
    ConnectInfo(client): ConnectInfo<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    let uri = request.uri().clone();
    let mut access = access;
    access.mark_unchanged();
    let secret = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(secret);
    let who = |access: &Access| match &secret {
        Some(secret) => access.bearer(secret),
        None => client.has_certificate.then_some(Caller::Certificate),
    };
    let refused = || {
        let detail =
            "a token ([[api.tls.token]]) or a client certificate ([api.tls] client-ca) is needed";
        let answer = problem::answer(StatusCode::UNAUTHORIZED, &uri, detail);
        // Who has no credentials keeps no connection; a browser that asks its user for them opens another one.
        let headers = [
            (header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE)),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ];
        (headers, answer).into_response()
    };
    let Some(caller) = who(&access.borrow()) else {
        tracing::warn!(address = %client.address, path = uri.path(), "refused: no valid token or certificate");
        return refused();
    };
    request.extensions_mut().insert(caller);
    let answer = next.run(request);
    tokio::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            () = app.shutdown.cancelled() => return answer.await,
            changed = access.changed() => {
                if changed.is_err() {
                    return answer.await;
                }
                if who(&access.borrow_and_update()).is_none() {
                    return refused();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::secret;

    #[test]
    fn tokens_of_programs_and_browsers() {
        for (authorization, expected) in [
            ("Bearer correct-horse", Some("correct-horse")),
            ("bearer  correct-horse ", Some("correct-horse")),
            // admin:correct:horse; a password may hold colons, a user name may not.
            ("Basic YWRtaW46Y29ycmVjdDpob3JzZQ==", Some("correct:horse")),
            ("basic OmNvcnJlY3QtaG9yc2U=", Some("correct-horse")),
            ("Basic bm9jb2xvbg==", None),
            ("Basic *", None),
            ("Digest username=x", None),
            ("correct-horse", None),
        ] {
            assert_eq!(secret(authorization).as_deref(), expected, "{authorization}");
        }
    }
}
