//! One question to one backend, on a connection of its own.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use sluice_model::{Probe, StatusRange, Target};
use std::io;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why a probe failed; its text is what operators read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// No connection.
    #[error("{}", connect_reason(.0))]
    Connect(#[source] io::Error),
    /// The question was not answered.
    #[error("closed the connection without an HTTP answer")]
    Http(#[source] hyper::Error),
    /// The question cannot be asked.
    #[error("cannot be asked: {0}")]
    Request(#[source] hyper::http::Error),
    /// The answer is a no.
    #[error("HTTP {got}, wanted {wanted}")]
    Status {
        /// What came.
        got: u16,
        /// What counts as success.
        wanted: StatusRange,
    },
    /// No answer in time.
    #[error("no answer within {}", crate::config::spelled(*.0))]
    Timeout(std::time::Duration),
}

/// Asks once. Cancel-safe: dropping it closes the connection.
pub(super) async fn ask(target: &Target) -> Result<(), ProbeError> {
    let limit = target.check.timeout;
    let asked = async {
        let stream = TcpStream::connect(target.address).await.map_err(ProbeError::Connect)?;
        match &target.check.probe {
            Probe::TcpConnect => Ok(()),
            Probe::HttpGet { path, host, status } => {
                let host = host.clone().unwrap_or_else(|| target.address.to_string());
                let got = get(stream, path, &host).await?;
                let success = status.contains(got);
                if success { Ok(()) } else { Err(ProbeError::Status { got, wanted: *status }) }
            }
        }
    };
    timeout(limit, asked).await.unwrap_or(Err(ProbeError::Timeout(limit)))
}

/// The status of a GET; the body is not waited for.
async fn get(stream: TcpStream, path: &str, host: &str) -> Result<u16, ProbeError> {
    let request = hyper::Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("sluice-health/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(ProbeError::Request)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(ProbeError::Http)?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    // Whichever ends first: when the connection does, the answer has come or never will.
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    answer.map(|answer| answer.status().as_u16()).map_err(ProbeError::Http)
}

fn connect_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "no route".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => format!("cannot connect: {error}"),
    }
}
