//! HTTP to one appliance: connections are kept, files are read again when they change.

use super::credentials::{Contents, Files};
use super::machine::{Ask, Failure};
use super::wish::Wish;
use crate::lease::Fence;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sluice_api::SourceReport;
use std::error::Error as StdError;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// An appliance that takes longer for a change is taken for dead.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The appliance answers a poll after 25 s at the latest.
const POLL_TIMEOUT: Duration = Duration::from_secs(35);
/// A TCP connection in one network is there in milliseconds, or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A report of 100,000 services is smaller.
const MAX_ANSWER: usize = 64 << 20;
/// Words of an unexpected answer that are worth repeating.
const MAX_DETAIL: usize = 300;
/// How old what was read from the files may be.
const FILES_AGE: Duration = Duration::from_secs(5);

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client of one appliance.
pub struct Appliance {
    /// `https://HOST:PORT`, for logs and metrics.
    url: String,
    path: String,
    files: Files,
    fence: Fence,
    session: Mutex<Option<Session>>,
}

#[derive(Clone)]
struct Session {
    contents: Contents,
    read_at: Instant,
    http: Http,
}

// === impl Appliance ===

impl Appliance {
    /// A client for the source `source` of the appliance at `url`. Nothing is connected or read yet.
    #[must_use]
    pub fn new(url: &str, source: &str, files: Files, fence: Fence) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        let path = format!("/api/v1/sources/{source}");
        Appliance { url, path, files, fence, session: Mutex::default() }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes the request and reads the answer. Dropping the future gives the request up.
    ///
    /// # Errors
    /// Why there is no report, see [`Failure`].
    pub async fn ask(
        &self,
        ask: Ask,
        wish: &watch::Receiver<Wish>,
    ) -> Result<SourceReport, Failure> {
        let (method, query, body) = prepare(ask, wish)?;
        let limit = if matches!(ask, Ask::Poll(_)) { POLL_TIMEOUT } else { TIMEOUT };
        let (status, body) = self.send(method, &query, body, limit).await?;
        let answer = judge(ask, status, &body);
        if matches!(answer, Err(Failure::Unauthorized(_))) {
            // Perhaps the token was replaced a moment ago.
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer
    }

    async fn send(
        &self,
        method: Method,
        query: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Failure> {
        if !self.fence.may_act() {
            return Err(Failure::Fenced);
        }
        let session = self.session()?;
        let uri: Uri = format!("{}{}{query}", self.url, self.path)
            .parse()
            .map_err(|e| Failure::Credentials(format!("{} is no URL: {e}", self.url)))?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(USER_AGENT, concat!("sluice-bridge/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json");
        if let Some(value) = session.contents.authorization() {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| Failure::Credentials(format!("the request cannot be made: {e}")))?;
        let answer = tokio::time::timeout(limit, exchange(&session.http, request));
        answer
            .await
            .map_err(|_| Failure::Unreachable(format!("no answer in {} s", limit.as_secs())))?
    }

    /// Takes the source with all that it wants from the appliance, if it is `owner`'s. None there is no failure.
    ///
    /// # Errors
    /// As [`Appliance::ask`].
    pub async fn forget(&self, owner: &str) -> Result<(), Failure> {
        let (_nothing_wanted, wish) = watch::channel(Wish::unknown(owner.to_owned()));
        let report = self.ask(Ask::Look, &wish).await?;
        if report.owner.is_empty() {
            return Ok(());
        }
        if report.owner != owner {
            return Err(Failure::OtherOwner(report.owner));
        }
        let (status, body) = self.send(Method::DELETE, "", Bytes::new(), TIMEOUT).await?;
        match status {
            StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::NOT_FOUND => Ok(()),
            _ => judge(Ask::Put, status, &body).map(drop),
        }
    }

    fn session(&self) -> Result<Session, Failure> {
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = slot.as_ref().filter(|s| s.read_at.elapsed() < FILES_AGE) {
            return Ok(session.clone());
        }
        // Small files on a memory file system: a task of their own would take longer.
        let contents = self.files.read().map_err(|e| Failure::Credentials(chain(&e)))?;
        if let Some(session) = slot.as_mut().filter(|s| s.contents == contents) {
            session.read_at = Instant::now();
            return Ok(session.clone());
        }
        let http = connect(&contents, self.url.starts_with("https:"))?;
        let session = Session { contents, read_at: Instant::now(), http };
        *slot = Some(session.clone());
        Ok(session)
    }
}

fn connect(contents: &Contents, is_tls: bool) -> Result<Http, Failure> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(Duration::from_secs(5)));
    let tls = if is_tls {
        contents.tls().map_err(|e| Failure::Credentials(chain(&e)))?
    } else {
        // Never used, but the connector's type wants one.
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Failure::Tls(e.to_string()))?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
    };
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(60));
    Ok(builder.build(connector.wrap_connector(tcp)))
}

fn prepare(ask: Ask, wish: &watch::Receiver<Wish>) -> Result<(Method, String, Bytes), Failure> {
    let json = |body: serde_json::Result<Vec<u8>>| {
        body.map(Bytes::from).map_err(|e| Failure::Credentials(format!("no JSON: {e}")))
    };
    let gone = || Failure::Conflict("nothing is wanted any longer".to_owned());
    Ok(match ask {
        Ask::Look => (Method::GET, String::new(), Bytes::new()),
        Ask::Poll(revision) => (Method::GET, format!("?revision={revision}"), Bytes::new()),
        Ask::Put => {
            let state = wish.borrow().state().ok_or_else(gone)?;
            (Method::PUT, String::new(), json(serde_json::to_vec(&state))?)
        }
        Ask::Patch(base) => {
            // What changed is no longer known: treated as if the appliance had refused the base.
            let change = wish.borrow().change(base).ok_or_else(gone)?;
            (Method::PATCH, String::new(), json(serde_json::to_vec(&change))?)
        }
    })
}

async fn exchange(
    http: &Http,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Failure> {
    let answer = http.request(request).await.map_err(|e| unreachable(&e))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|e| Failure::Unreachable(chain(e.as_ref())))?;
    Ok((status, body.to_bytes()))
}

fn judge(ask: Ask, status: StatusCode, body: &[u8]) -> Result<SourceReport, Failure> {
    let detail = || {
        let problem: Option<sluice_api::Problem> = serde_json::from_slice(body).ok();
        let text = problem.map_or_else(
            || String::from_utf8_lossy(body).into_owned(),
            |p| p.detail.unwrap_or(p.title),
        );
        text.chars().take(MAX_DETAIL).collect::<String>()
    };
    match status {
        StatusCode::OK | StatusCode::CREATED => serde_json::from_slice(body).map_err(|e| {
            Failure::Answer { status: status.as_u16(), detail: format!("no report: {e}") }
        }),
        // Nobody has written to the source yet.
        StatusCode::NOT_FOUND if ask == Ask::Look => Ok(SourceReport::default()),
        StatusCode::NOT_FOUND | StatusCode::CONFLICT => Err(Failure::Conflict(detail())),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Failure::Unauthorized(status.as_u16()))
        }
        _ => Err(Failure::Answer { status: status.as_u16(), detail: detail() }),
    }
}

fn unreachable(error: &hyper_util::client::legacy::Error) -> Failure {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(one) = cause {
        let inner = one.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = one.downcast_ref::<rustls::Error>();
        if let Some(tls) = tls.or_else(|| inner.and_then(|e| e.downcast_ref())) {
            return Failure::Tls(tls.to_string());
        }
        cause = one.source();
    }
    Failure::Unreachable(chain(error))
}

/// An error with all its causes, for one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        // Some errors name their cause themselves.
        let why = one.to_string();
        if !text.ends_with(&why) {
            text = format!("{text}: {why}");
        }
        cause = one.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_api::ServiceState;

    /// A newer appliance has states, members and numbers that are not known here.
    #[test]
    fn a_report_is_read_whatever_a_newer_appliance_adds() {
        let body = br#"{"appliance": "a", "contract": 99, "source": "s", "owner": "me", "generation": 3, "revision": 1,
            "weather": {"sun": true}, "peers": [{"name": "tor", "state": "Dozing"}],
            "services": [
                {"name": "s/1", "generation": 3, "programmed": true, "announced": true, "state": {"half": 1}},
                {"name": "s/2", "generation": 3, "programmed": true, "announced": true, "state": "up", "load": 0.5}
            ]}"#;
        let report = judge(Ask::Put, StatusCode::OK, body).unwrap();
        let states: Vec<_> = report.services.iter().map(|s| s.state).collect();
        assert_eq!(states, [ServiceState::Unprogrammed, ServiceState::Up]);
        // What is not known counts as the default, and that takes nothing off the air.
        let mut reports = crate::status::reports::Reports::of(&["a".into()]);
        reports.set_link(0, super::super::machine::Link::Up, 3);
        reports.take(0, report);
        let verdict = reports.judge(&["s/1".to_owned(), "s/2".to_owned()], 3);
        assert_eq!(verdict, crate::status::reports::Verdict::Served(None));
    }
}
