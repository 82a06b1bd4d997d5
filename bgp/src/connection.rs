//! One TCP connection: bytes in both directions, bounded, without ever waiting.

use crate::next_hop::NextHops;
use bytes::{Buf, BytesMut};
use sluice_bgp_core::fsm::Writes;
use sluice_bgp_core::wire::{Codec, DecodeError, Frame, Message};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

/// Octets read at once, then other events have their turn.
const READ_CHUNK: usize = 64 * 1024;
/// A larger buffer is given back once it is written: whole tables are rare, peers are there all the time.
const IDLE_CAPACITY: usize = 64 * 1024;
/// Octets of a peer that we discard at the end of a connection while it takes our last words.
const DRAIN_MAX: usize = 1024 * 1024;

/// A connection of a peer.
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) local: SocketAddr,
    pub(crate) next_hops: NextHops,
    pub(crate) codec: Codec,
    incoming: BytesMut,
    pub(crate) outgoing: BytesMut,
    /// What the state machine was last told of our writes.
    blocked: bool,
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(stream: TcpStream, local: SocketAddr, next_hops: NextHops) -> Self {
        Self {
            stream,
            local,
            next_hops,
            codec: Codec::default(),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            blocked: false,
        }
    }

    /// Until there is something to read, or room to write if something waits. Cancel-safe: takes nothing.
    pub(crate) async fn ready(&self) -> io::Result<()> {
        let mut interest = Interest::READABLE;
        if !self.outgoing.is_empty() {
            interest |= Interest::WRITABLE;
        }
        self.stream.ready(interest).await.map(drop)
    }

    /// Until there is room to write. Cancel-safe.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Reads what is there, up to a bound. `Ok(false)` at the end of the stream.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        self.incoming.reserve(READ_CHUNK);
        match self.stream.try_read_buf(&mut self.incoming) {
            Ok(0) => Ok(false),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next message of what was read.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, DecodeError> {
        match Frame::split(&mut self.incoming)? {
            Some(frame) => self.codec.decode(&frame).map(Some),
            None => Ok(None),
        }
    }

    /// Whether a message was cut off by the end of the stream.
    pub(crate) fn has_partial_message(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Writes what the kernel takes. Returns what the send hold timer needs to know, if it has changed.
    pub(crate) fn flush(&mut self) -> io::Result<Option<Writes>> {
        let mut moved = false;
        while !self.outgoing.is_empty() {
            match self.stream.try_write(&self.outgoing) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.outgoing.advance(n);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let writes = if moved { Writes::Moving } else { Writes::Blocked };
                    let told = std::mem::replace(&mut self.blocked, true);
                    return Ok((moved || !told).then_some(writes));
                }
                Err(error) => return Err(error),
            }
        }
        if self.outgoing.capacity() > IDLE_CAPACITY {
            self.outgoing = BytesMut::new();
        }
        Ok(std::mem::take(&mut self.blocked).then_some(Writes::Drained))
    }

    /// Delivers the last words, then closes, all within `limit`.
    ///
    /// A close with unread input makes the kernel send a reset, and a reset makes the peer's kernel drop what it has
    /// not read yet: our NOTIFICATION. So we end our direction, and read until the peer ends its own.
    pub(crate) async fn linger(mut self, limit: Duration) {
        let last_words = async {
            self.stream.write_all(&self.outgoing).await?;
            self.stream.shutdown().await?;
            let mut discarded = 0;
            while discarded < DRAIN_MAX {
                self.incoming.clear();
                match self.stream.read_buf(&mut self.incoming).await? {
                    0 => break,
                    n => discarded += n,
                }
            }
            io::Result::Ok(())
        };
        match tokio::time::timeout(limit, last_words).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection ended before our last words"),
            Err(_) => tracing::debug!("the peer did not take our last words in time"),
        }
    }
}
