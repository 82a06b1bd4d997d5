//! The two `NETLINK_ROUTE` sockets: one for requests, one subscribed to the multicast groups.
//!
//! They are separate so that a burst of notifications can overrun only the second, where a fresh
//! socket and a dump repair the loss.

use crate::error::RequestError;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::proto::ConnectionHandle;
use rtnetlink::sys::{AsyncSocket as _, Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::{Handle, MulticastGroup};
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;
use tokio::task::JoinSet;

/// Messages sent in one datagram. The kernel answers all of them before the send returns, so their
/// answers (below 2 KiB each with the kernel's bookkeeping) must fit the default buffer of 208 KiB
/// in case a larger one is refused.
const BATCH_MESSAGES: usize = 64;

/// Receive buffer of both sockets: about 8,000 notifications while the process does not run.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// The kernel answers within the send call; only a lost answer takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A dump that changes mid-way is repeated this often, after a pause that doubles: within half a
/// second in all, in which a burst of changes has an end.
const DUMP_TRIES: u32 = 8;
const DUMP_PAUSE_MIN: Duration = Duration::from_millis(2);

/// A message to or from the kernel.
pub(crate) type Message = NetlinkMessage<RouteNetlinkMessage>;

/// The answer to one request: a message, only an acknowledgement (`None`), or the kernel's error.
pub(crate) type Answer = Result<Option<RouteNetlinkMessage>, Errno>;

/// Sends requests; clones share one socket.
#[derive(Clone)]
pub(crate) struct Requests {
    connection: ConnectionHandle<RouteNetlinkMessage>,
}

/// What arrives through the multicast groups.
pub(crate) struct Notifications {
    pub(crate) messages: BoxStream<'static, Message>,
    /// Only keeps the socket open: nothing is asked through it.
    _handle: Handle,
    /// The task that drives the socket, ended with this.
    _task: JoinSet<()>,
}

// === impl Requests ===

impl Requests {
    /// Opens the socket; the task that drives it is the one in the set.
    pub(crate) fn open() -> io::Result<(Self, JoinSet<()>)> {
        let mut task = JoinSet::new();
        let (mut connection, handle, _) =
            rtnetlink::proto::new_connection::<RouteNetlinkMessage>(NETLINK_ROUTE)?;
        // Each request of a batch is matched with its own answer by order, so none may be hidden.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_mut();
        // Strict checking makes the kernel refuse a filter it does not know instead of ignoring it.
        socket.set_netlink_get_strict_chk(true)?;
        enlarge(socket);
        task.spawn(connection);
        Ok((Self { connection: handle }, task))
    }

    /// Sends all requests, pipelined, and returns one answer per request in their order.
    ///
    /// Each asks for an acknowledgement, which the kernel sends last: an answer that cannot be decoded
    /// is then missing on its own and does not hold up the others.
    ///
    /// Dropping the future leaves it open which requests were carried out.
    pub(crate) async fn batch(
        &self,
        requests: Vec<(RouteNetlinkMessage, u16)>,
    ) -> Result<Vec<Answer>, RequestError> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut messages =
            requests.into_iter().map(|(message, flags)| message_of(message, flags | NLM_F_ACK));
        loop {
            let chunk: Vec<Message> = messages.by_ref().take(BATCH_MESSAGES).collect();
            if chunk.is_empty() {
                return Ok(answers);
            }
            let wanted = answers.len() + chunk.len();
            let mut stream = self
                .connection
                .request_batch(chunk, SocketAddr::new(0, 0))
                .map_err(|_| RequestError::Closed)?;
            let mut row = None;
            while answers.len() < wanted {
                let message = within(stream.next()).await?.ok_or(RequestError::Closed)?;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => row = Some(message),
                    NetlinkPayload::Error(error) => answers.push(match error.raw_code() {
                        0 => Ok(row.take()),
                        code => Err(Errno::from_raw(code.saturating_abs())),
                    }),
                    _ => {}
                }
            }
        }
    }

    /// Reads a whole table, again when it changed while it was read.
    pub(crate) async fn dump(
        &self,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, RequestError> {
        self.fold(request, Vec::push).await
    }

    /// As [`Requests::dump`], for tables that are too large to be kept: each row is taken in as it comes.
    pub(crate) async fn fold<T: Default>(
        &self,
        request: RouteNetlinkMessage,
        take: impl Fn(&mut T, RouteNetlinkMessage),
    ) -> Result<T, RequestError> {
        for doublings in 0..DUMP_TRIES {
            if let Some(rows) = self.fold_once(request.clone(), &take).await? {
                return Ok(rows);
            }
            tokio::time::sleep(DUMP_PAUSE_MIN.saturating_mul(1 << doublings)).await;
        }
        Err(RequestError::Interrupted { tries: DUMP_TRIES })
    }

    /// `None` when the kernel says that the table changed meanwhile (`NLM_F_DUMP_INTR`).
    async fn fold_once<T: Default>(
        &self,
        request: RouteNetlinkMessage,
        take: impl Fn(&mut T, RouteNetlinkMessage),
    ) -> Result<Option<T>, RequestError> {
        let message = message_of(request, NLM_F_DUMP);
        let mut stream = self
            .connection
            .request(message, SocketAddr::new(0, 0))
            .map_err(|_| RequestError::Closed)?;
        let mut rows = T::default();
        let mut interrupted = false;
        loop {
            let message = within(stream.next()).await?.ok_or(RequestError::Closed)?;
            interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(row) => take(&mut rows, row),
                NetlinkPayload::Error(error) if error.raw_code() != 0 => {
                    let errno = Errno::from_raw(error.raw_code().saturating_abs());
                    return Err(RequestError::Refused(errno));
                }
                NetlinkPayload::Done(done) if done.code != 0 => {
                    let errno = Errno::from_raw(done.code.saturating_abs());
                    return Err(RequestError::Refused(errno));
                }
                NetlinkPayload::Done(_) => return Ok((!interrupted).then_some(rows)),
                _ => {}
            }
        }
    }
}

// === impl Notifications ===

impl Notifications {
    /// Subscribes, with a socket and a task to drive it.
    ///
    /// After an overrun a new one is needed: the kernel drops everything that is sent to a congested
    /// socket until it has been read empty, but reports the loss only once, at its start.
    pub(crate) fn open() -> io::Result<Self> {
        let mut task = JoinSet::new();
        let (mut connection, handle, messages) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ])?;
        enlarge(connection.socket_mut().socket_mut());
        task.spawn(connection);
        let messages = messages.map(|(message, _)| message).boxed();
        Ok(Self { messages, _handle: handle, _task: task })
    }
}

/// Enlarges the receive buffer; without `CAP_NET_ADMIN` in the initial namespace the default stays,
/// which costs a dump after an overrun and nothing else.
fn enlarge(socket: &Socket) {
    if let Err(error) = setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES) {
        tracing::debug!(%error, "netlink receive buffer keeps its default size");
    }
}

fn message_of(message: RouteNetlinkMessage, flags: u16) -> Message {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message
}

async fn within<T>(answer: impl Future<Output = T>) -> Result<T, RequestError> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| RequestError::Timeout {
        timeout_ms: u64::try_from(ANSWER_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
    })
}
