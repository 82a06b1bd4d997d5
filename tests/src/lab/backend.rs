//! A backend: a real HTTP server and a real UDP echo that say who they are and whom they see.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::netns::Netns;
use super::process::{Proc, tool};
use super::wait::until;

/// Port of the HTTP server of a standard backend.
pub const HTTP_PORT: u16 = 8080;
/// A second HTTP server, for a second service: a client may use one port of its own towards two VIPs at once, and
/// behind both VIPs the same backend and port could not tell the connections apart.
pub const OTHER_HTTP_PORT: u16 = 8081;
/// Port of the UDP echo of a standard backend.
pub const UDP_PORT: u16 = 8053;

/// What a backend answers: its name and the client as it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Name of the backend.
    pub backend: String,
    /// Source of the connection or datagram, as seen by the backend.
    pub client: SocketAddr,
}

impl Seen {
    fn text(&self) -> String {
        format!("{} {}\n", self.backend, self.client)
    }

    /// Reads an answer back.
    pub fn parse(text: &str) -> Option<Self> {
        let (backend, client) = text.trim().split_once(' ')?;
        Some(Self { backend: backend.to_owned(), client: client.parse().ok()? })
    }
}

/// Serves forever: HTTP on `http`, UDP echo on `udp`, one thread each and one per connection.
///
/// # Errors
/// When a socket cannot be bound.
pub fn serve(name: &str, http: &[SocketAddr], udp: &[SocketAddr]) -> Result<()> {
    let mut threads = Vec::new();
    for at in http {
        let listener = TcpListener::bind(at).with_context(|| format!("listening on {at}"))?;
        let name = name.to_owned();
        threads.push(std::thread::spawn(move || accept(&name, &listener)));
    }
    for at in udp {
        let socket = UdpSocket::bind(at).with_context(|| format!("binding {at}"))?;
        let name = name.to_owned();
        threads.push(std::thread::spawn(move || echo(&name, &socket)));
    }
    println!("{name} serves HTTP on {http:?} and UDP on {udp:?}");
    for thread in threads {
        drop(thread.join());
    }
    Ok(())
}

fn accept(name: &str, listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        std::thread::spawn(move || {
            // A client that goes away early is its own business.
            drop(answer(&name, stream));
        });
    }
}

/// Answers requests on one connection until the client closes it or asks to.
fn answer(name: &str, mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    let client = canonical(stream.peer_addr()?);
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut close = false;
        let mut lines = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            lines += 1;
            close |= line.trim().eq_ignore_ascii_case("connection: close");
        }
        if lines == 0 {
            continue;
        }
        let body = Seen { backend: name.to_owned(), client }.text();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        if close {
            return Ok(());
        }
    }
}

fn echo(name: &str, socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    while let Ok((_, client)) = socket.recv_from(&mut buffer) {
        let seen = Seen { backend: name.to_owned(), client: canonical(client) };
        // A full socket buffer loses a datagram, as UDP does.
        drop(socket.send_to(seen.text().as_bytes(), client));
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Starts a backend process in a namespace, on the standard ports of both families, and waits until it listens.
///
/// # Errors
/// When it does not come up.
pub fn start(namespace: &Netns, name: &str) -> Result<Proc> {
    launch(namespace, name, &[HTTP_PORT, OTHER_HTTP_PORT], &[UDP_PORT])
}

/// Starts a backend with many HTTP servers.
///
/// # Errors
/// When it does not come up.
pub fn start_many(namespace: &Netns, name: &str, http: &[u16]) -> Result<Proc> {
    launch(namespace, name, http, &[])
}

fn launch(namespace: &Netns, name: &str, http: &[u16], udp: &[u16]) -> Result<Proc> {
    let mut command = Command::new(tool("sluice-lab")?);
    command.args(["backend", "--name", name]);
    for port in http {
        command.args(["--http", &format!("[::]:{port}")]);
    }
    for port in udp {
        command.args(["--udp", &format!("[::]:{port}")]);
    }
    let process = namespace.spawn(&format!("backend-{name}"), command)?;
    // Ports are opened in order: once the last one listens, all do.
    let last = http.last().copied().context("a backend without HTTP")?;
    until(&format!("backend {name} to listen"), Duration::from_secs(5), || {
        if let Some(status) = process.exited()? {
            anyhow::bail!("it ended with {status}: {}", process.tail(3));
        }
        let to = SocketAddr::from(([127, 0, 0, 1], last));
        namespace.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(200)))??;
        Ok(())
    })?;
    Ok(process)
}
