//! SCTP in the one-to-one style (RFC 6458 section 4), which is used like TCP. Only where the kernel has it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::backend::Seen;
use super::client::Outcome;
use super::netns::Netns;

/// Serves until the process ends: says to each client who answers and whom it sees.
///
/// # Errors
/// When the kernel has no SCTP, or the address cannot be had.
pub fn serve(ns: &Netns, name: &str, at: SocketAddr) -> Result<()> {
    let listener = ns.run(|| listen(at))?.with_context(|| format!("listening on {at} for SCTP"))?;
    let name = name.to_owned();
    std::thread::spawn(move || {
        while let Ok((mut stream, client)) = listener.accept() {
            // Whoever goes before the answer is not interested in it.
            drop(stream.write_all(format!("{name} {client}\n").as_bytes()));
        }
    });
    Ok(())
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(at)?;
    socket.bind(&at.into())?;
    socket.listen(16)?;
    Ok(socket.into())
}

/// One association from the calling thread's namespace, and what came of it.
pub fn request(to: SocketAddr, timeout: Duration) -> Outcome {
    ask(to, timeout).unwrap_or_else(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => Outcome::Reset,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::TimedOut,
        _ => Outcome::Failed(error.to_string()),
    })
}

fn ask(to: SocketAddr, timeout: Duration) -> io::Result<Outcome> {
    let socket = socket(to)?;
    socket.connect_timeout(&to.into(), timeout)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(timeout))?;
    let local = stream.local_addr()?;
    let mut bytes = [0; 256];
    let length = stream.read(&mut bytes)?;
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    Ok(match Seen::parse(&text) {
        Some(seen) => Outcome::Answered { seen, local },
        None => Outcome::Failed(format!("an answer that is no backend's: {text:?}")),
    })
}

fn socket(at: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::SCTP))
}
