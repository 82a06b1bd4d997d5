//! The client's side: single requests with what came of them.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::backend::Seen;
use super::http;

/// Transport of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// An HTTP request over a new TCP connection.
    Http,
    /// One datagram and its echo, from a new socket.
    Udp,
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, by this backend that saw this client.
    Answered {
        /// What the backend said.
        seen: Seen,
        /// The client's own address and port.
        local: SocketAddr,
    },
    /// Actively refused: RST, or ICMP port unreachable.
    Refused,
    /// The connection was reset after it had been made.
    Reset,
    /// No answer in time.
    TimedOut,
    /// Anything else, in words.
    Failed(String),
}

/// One request: its outcome and how long that took.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What came of it.
    pub outcome: Outcome,
    /// From the first packet to the outcome.
    pub took: Duration,
}

impl Attempt {
    /// The backend that answered, if one did.
    pub fn backend(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Answered { seen, .. } => Some(&seen.backend),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { seen, .. } => write!(f, "answered by {}", seen.backend),
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::TimedOut => f.write_str("no answer"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Makes one request from the calling thread's namespace (see [`super::Netns::run`]).
pub fn request(transport: Transport, to: SocketAddr, timeout: Duration) -> Attempt {
    let start = Instant::now();
    let outcome = match transport {
        Transport::Http => get(to, timeout),
        Transport::Udp => echo(to, timeout),
    };
    let outcome = outcome.unwrap_or_else(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => Outcome::Reset,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::TimedOut,
        _ => Outcome::Failed(error.to_string()),
    });
    Attempt { outcome, took: start.elapsed() }
}

fn get(to: SocketAddr, timeout: Duration) -> io::Result<Outcome> {
    let mut stream = TcpStream::connect_timeout(&to, timeout)?;
    let local = stream.local_addr()?;
    let answer = http::get_over(&mut stream, "/", timeout)?;
    Ok(answered(&answer.body, local))
}

fn echo(to: SocketAddr, timeout: Duration) -> io::Result<Outcome> {
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(timeout))?;
    let local = socket.local_addr()?;
    socket.send(b"who are you?")?;
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer)?;
    Ok(answered(&String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()), local))
}

fn answered(text: &str, local: SocketAddr) -> Outcome {
    match Seen::parse(text) {
        Some(seen) => Outcome::Answered { seen, local },
        None => Outcome::Failed(format!("an answer that is no backend's: {text:?}")),
    }
}
