//! One TCP connection: bytes in both directions, bounded, without ever waiting.

use crate::next_hop::NextHops;
use bytes::{Buf, BufMut, BytesMut};
use sluice_bgp_core::fsm::Writes;
use sluice_bgp_core::wire::{Codec, DecodeError, Frame, Message};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

/// Octets read in one turn, then others have theirs: four of the longest messages, with 16,000 prefixes at most, which
/// is a few milliseconds.
const READ_CHUNK: usize = 16 * 1024;
/// Messages taken in one turn, for they may be short.
const READ_MESSAGES: u32 = 128;
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
    turn: Turn,
    /// What the state machine was last told of our writes.
    blocked: bool,
}

/// What one turn has taken of a connection.
#[derive(Debug, Default)]
struct Turn {
    messages: u32,
    /// The socket was read.
    filled: bool,
    /// Why nothing more will come.
    end: Option<End>,
    /// It was over before the messages were.
    cut_short: bool,
}

#[derive(Debug)]
enum End {
    Closed,
    Broken(io::Error),
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
            turn: Turn::default(),
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

    /// Begins a turn of [`Connection::next`].
    pub(crate) fn begin_turn(&mut self) {
        self.turn = Turn::default();
    }

    /// Whether the last turn left messages behind that need no further reading.
    pub(crate) fn has_unread(&self) -> bool {
        self.turn.cut_short
    }

    /// The next message: of what was read before, then of what the socket has, as far as the turn goes. An error is bytes
    /// that are no message.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, DecodeError> {
        if self.turn.messages == READ_MESSAGES {
            self.turn.cut_short = true;
            return Ok(None);
        }
        loop {
            if let Some(frame) = Frame::split(&mut self.incoming)? {
                self.turn.messages += 1;
                return self.codec.decode(&frame).map(Some);
            }
            if self.turn.filled {
                return Ok(None);
            }
            self.fill();
        }
    }

    /// After the last message of a turn: why no other will come.
    pub(crate) fn end(&self) -> Option<String> {
        match self.turn.end.as_ref().filter(|_| !self.turn.cut_short)? {
            End::Closed if !self.incoming.is_empty() => {
                Some("the peer closed the connection in the middle of a message".to_owned())
            }
            End::Closed => Some("the peer closed the connection".to_owned()),
            End::Broken(error) => Some(broken(error)),
        }
    }

    /// Reads what is there, up to a bound.
    fn fill(&mut self) {
        self.turn.filled = true;
        self.incoming.reserve(READ_CHUNK);
        let mut room = (&mut self.incoming).limit(READ_CHUNK);
        self.turn.end = match self.stream.try_read_buf(&mut room) {
            Ok(0) => Some(End::Closed),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(End::Broken(error)),
        };
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

pub(crate) fn broken(error: &io::Error) -> String {
    format!("the connection broke: {error}")
}
