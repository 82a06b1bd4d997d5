//! TLS in front of the API: finished handshakes are handed out, so that a slow client holds up nobody.

use super::access::{Access, Caller};
use super::{App, problem};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::serve::{IncomingStream, Listener};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A client that needs longer for its handshake has none.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way; further connections wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 256;
/// A pause after the system refused a connection, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(100);
/// What programs and browsers are asked for. A browser that keeps the password cannot be made to write by other pages:
/// every method that does is one it asks about first (CORS), and we never say yes.
const CHALLENGE: &str = "Bearer, Basic realm=\"Sluice: any user name, a token as the password\"";

/// Connections whose handshake is done.
pub(super) struct Handshakes {
    address: SocketAddr,
    done: mpsc::Receiver<(TlsStream<TcpStream>, Client)>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    address: SocketAddr,
    has_certificate: bool,
}

// === impl Handshakes ===

impl Handshakes {
    /// Begins to accept. Each handshake takes the certificate that is in force when it begins.
    pub(super) fn new(
        listener: TcpListener,
        access: watch::Receiver<Arc<Access>>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, done) = mpsc::channel(MAX_HANDSHAKES);
        tokio::spawn(accept(listener, access, sender));
        Ok(Handshakes { address, done })
    }
}

async fn accept(
    listener: TcpListener,
    access: watch::Receiver<Arc<Access>>,
    done: mpsc::Sender<(TlsStream<TcpStream>, Client)>,
) {
    let room = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let accepted = tokio::select! {
            () = done.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the API");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (acceptor, done) = (TlsAcceptor::from(Arc::clone(&access.borrow().tls)), done.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "no delay cannot be set");
            }
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let has_certificate = certificates.is_some_and(|all| !all.is_empty());
                    // Closed only when the API ends.
                    drop(done.send((stream, Client { address, has_certificate })).await);
                }
                Ok(Err(error)) => tracing::info!(%address, %error, "a TLS handshake failed"),
                Err(_) => tracing::info!(%address, "a TLS handshake took too long"),
            }
        });
    }
}

impl Listener for Handshakes {
    type Io = TlsStream<TcpStream>;
    type Addr = Client;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.done.recv().await {
            Some(accepted) => accepted,
            // The listener's task has ended, as it only does with the API.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Client { address: self.address, has_certificate: false })
    }
}

impl Connected<IncomingStream<'_, Handshakes>> for Client {
    fn connect_info(stream: IncomingStream<'_, Handshakes>) -> Self {
        *stream.remote_addr()
    }
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
        ([(header::WWW_AUTHENTICATE, CHALLENGE)], answer).into_response()
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
