//! The little HTTP/1.1 the lab needs: one request, one answer, one connection, over std sockets.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Status and body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body as text.
    pub body: String,
}

/// GETs `path`, with one time-out for connecting and one for each read.
///
/// # Errors
/// As the socket says; `UnexpectedEof` when the connection closes before a whole answer.
pub fn get(to: SocketAddr, path: &str, timeout: Duration) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, timeout)?;
    get_over(&mut stream, path, timeout)
}

/// GETs `path` over an open connection; the server closes it after its answer.
///
/// # Errors
/// As [`get`].
pub fn get_over(stream: &mut TcpStream, path: &str, timeout: Duration) -> io::Result<Answer> {
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    let host = stream.peer_addr()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::with_capacity(512);
    stream.read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is cut short"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| {
        head.lines().filter_map(|line| line.split_once(':')).find_map(|(key, value)| {
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Some(Answer { status, body: unchunk(body)? });
    }
    if let Some(length) = header("content-length")
        && length.parse::<usize>().ok()? != body.len()
    {
        return None;
    }
    Some(Answer { status, body: body.to_owned() })
}

fn unchunk(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(rest.get(..size)?);
        body = rest.get(size + 2..)?;
    }
}
