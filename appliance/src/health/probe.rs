//! One question to one backend, on a connection of its own.

use super::machine::Outcome;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use sluice_model::{Probe, StatusRange, Target};
use std::io;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes that are read of an answer. The status line is all that counts; servers that send much before it (endless header
/// fields, one interim answer after the other) have not answered.
const MAX_ANSWER: u64 = 64 << 10;

/// Why a probe did not pass; its text is what operators read.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
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

// === impl ProbeError ===

impl ProbeError {
    /// Whose fault it is: the target's, or this machine's.
    fn outcome(&self) -> Outcome {
        let system = match self {
            ProbeError::Connect(error) => Some(error),
            ProbeError::Http(error) => system_error(error),
            ProbeError::Request(_) => return Outcome::NotMade(self.to_string()),
            ProbeError::Status { .. } | ProbeError::Timeout(_) => None,
        };
        match system.filter(|error| !is_targets(error)) {
            Some(error) => Outcome::NotMade(connect_reason(error)),
            None => Outcome::Failed(self.to_string()),
        }
    }
}

/// The system's error below one of hyper.
fn system_error(error: &hyper::Error) -> Option<&io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// True for what only the target, or a router on the way to it, can cause. A list of the others would never be complete,
/// and a backend taken out by mistake costs more than one that is asked again.
fn is_targets(error: &io::Error) -> bool {
    let Some(code) = error.raw_os_error() else { return true };
    matches!(
        Errno::from_raw(code),
        Errno::ECONNREFUSED
            | Errno::ECONNRESET
            | Errno::ECONNABORTED
            | Errno::EPIPE
            | Errno::ETIMEDOUT
            | Errno::EHOSTUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENONET
            // ICMP "protocol unreachable".
            | Errno::ENOPROTOOPT
    )
}

/// Asks once. Cancel-safe: dropping it closes the connection.
pub(super) async fn ask(target: &Target) -> Outcome {
    match answered(target).await {
        Ok(()) => Outcome::Passed,
        Err(error) => error.outcome(),
    }
}

async fn answered(target: &Target) -> Result<(), ProbeError> {
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
    let (read, write) = stream.into_split();
    let stream = tokio::io::join(read.take(MAX_ANSWER), write);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_failure_is_not_the_targets() {
        use Errno::*;
        for code in [
            EMFILE,
            ENFILE,
            ENOBUFS,
            ENOMEM,
            EADDRNOTAVAIL,
            EADDRINUSE,
            EACCES,
            EPERM,
            ENETDOWN,
            ENETUNREACH,
            EINVAL,
            EAGAIN,
        ] {
            let error = ProbeError::Connect(io::Error::from_raw_os_error(code as i32));
            assert!(matches!(error.outcome(), Outcome::NotMade(_)), "{code}");
        }
        for code in [ECONNREFUSED, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, EHOSTDOWN] {
            let error = ProbeError::Connect(io::Error::from_raw_os_error(code as i32));
            assert!(matches!(error.outcome(), Outcome::Failed(_)), "{code}");
        }
    }
}
