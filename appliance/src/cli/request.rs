//! One request to the appliance's API.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use sluice_api::Problem;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long the appliance may take; it answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);

/// More than this is no answer of ours (10 000 services are about 30 MB).
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// Base address of an appliance's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Api {
    authority: String,
}

/// Why a request did not succeed. The texts carry what to do: they are the last thing the user sees.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error(
        "no answer from {api}: {reason}\n\
         Is the appliance running?  systemctl status sluice\n\
         Does it listen elsewhere?  see [api] listen in its configuration, then use --api URL or SLUICE_API"
    )]
    Unreachable { api: Api, reason: String },
    #[error("no answer from {api} within {} s; see the appliance's log", TIMEOUT.as_secs())]
    Late { api: Api },
    #[error("{detail}")]
    Refused { detail: String },
    #[error("cannot ask for {path}")]
    Unaskable {
        path: String,
        #[source]
        source: hyper::http::Error,
    },
    #[error("the answer to {path} is not understood; is the appliance of another version?")]
    Misread {
        path: String,
        #[source]
        source: serde_json::Error,
    },
}

// === impl Api ===

impl FromStr for Api {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| "not a URL; use http://ADDRESS:PORT")?;
        if uri.scheme_str() != Some("http") {
            return Err("only http:// is served; use http://ADDRESS:PORT");
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err("give the address only, without a path; use http://ADDRESS:PORT");
        }
        match uri.authority() {
            Some(authority) => Ok(Self { authority: authority.to_string() }),
            None => Err("the address is missing; use http://ADDRESS:PORT"),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl Api {
    /// The body of a successful answer.
    async fn get(&self, path: &str) -> Result<Bytes, RequestError> {
        self.send(Method::GET, path).await
    }

    /// A successful answer, understood.
    pub(super) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, RequestError> {
        let misread = |source| RequestError::Misread { path: path.to_owned(), source };
        serde_json::from_slice(&self.get(path).await?).map_err(misread)
    }

    /// Takes something away.
    pub(super) async fn delete(&self, path: &str) -> Result<(), RequestError> {
        self.send(Method::DELETE, path).await.map(drop)
    }

    async fn send(&self, method: Method, path: &str) -> Result<Bytes, RequestError> {
        tokio::time::timeout(TIMEOUT, self.exchange(method, path))
            .await
            .unwrap_or_else(|_| Err(RequestError::Late { api: self.clone() }))
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Bytes, RequestError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{self}{path}"))
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json, application/problem+json")
            .body(Empty::<Bytes>::new())
            .map_err(|source| RequestError::Unaskable { path: path.to_owned(), source })?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client.request(request).await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| self.unreachable(error.as_ref()))?
            .to_bytes();
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> RequestError {
        // The innermost cause is the system's own word ("Connection refused"); the layers above only say "error".
        let mut cause = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        RequestError::Unreachable { api: self.clone(), reason: cause.to_string() }
    }
}

fn refused(status: StatusCode, body: &[u8]) -> RequestError {
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let detail = problem
        .map(|problem| problem.detail.unwrap_or(problem.title))
        .unwrap_or_else(|| format!("the answer is {status}; is this the appliance's API?"));
    RequestError::Refused { detail }
}
