//! Listens to BGP on the wire of a namespace, to time what is sent without asking the one who sends it.

use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::netns::Netns;

/// BGP message types (RFC 4271, 4.1).
pub const OPEN: u8 = 1;
/// UPDATE.
pub const UPDATE: u8 = 2;
/// NOTIFICATION.
pub const NOTIFICATION: u8 = 3;

/// One BGP message seen on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When its frame arrived here.
    pub at: Instant,
    /// Who sent it.
    pub from: IpAddr,
    /// How many hops it had left.
    pub ttl: u8,
    /// Type of the message.
    pub kind: u8,
    /// The whole message, header included.
    pub bytes: Vec<u8>,
}

impl Heard {
    /// True for an UPDATE that announces or withdraws something (and is no End-of-RIB marker, RFC 4724).
    pub fn changes_routes(&self) -> bool {
        // End-of-RIB: nothing at all (23 bytes), or a lone empty MP_UNREACH_NLRI (at most 30).
        self.kind == UPDATE && self.bytes.len() > 30
    }
}

/// A running listener. Messages that straddle segments are not put together: what is timed here is short.
#[derive(Debug)]
pub struct Sniffer {
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<Result<()>>>>,
}

impl Sniffer {
    /// Starts to listen on every device of the namespace.
    ///
    /// # Errors
    /// When the packet socket cannot be opened.
    pub fn start(namespace: &Netns) -> Result<Self> {
        let fd = namespace
            .run(|| {
                socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    SockProtocol::EthAll,
                )
            })?
            .context("opening a packet socket")?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, stopped) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = namespace.thread(move || {
            let mut frame = vec![0; 65536];
            while !stopped.load(Ordering::Relaxed) {
                let length = match recv(fd.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                    Ok(length) => length,
                    Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
                    Err(error) => return Err(anyhow!(error).context("reading packets")),
                };
                let at = Instant::now();
                let messages = messages(frame.get(..length).unwrap_or_default(), at);
                theirs.lock().unwrap_or_else(PoisonError::into_inner).extend(messages);
            }
            Ok(())
        });
        Ok(Self { heard, stop, thread: Some(thread) })
    }

    /// What was heard since `moment`, oldest first.
    pub fn since(&self, moment: Instant) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|message| message.at >= moment).cloned().collect()
    }

    /// Waits for the first message after `moment` that `wanted` accepts; returns how long after it was heard.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn wait(
        &self,
        what: &str,
        moment: Instant,
        deadline: Duration,
        wanted: impl Fn(&Heard) -> bool,
    ) -> Result<Duration> {
        super::wait::until(what, deadline, || {
            let heard = self.since(moment);
            let first = heard.iter().find(|message| wanted(message));
            first
                .map(|message| message.at - moment)
                .with_context(|| format!("{} other messages on the wire", heard.len()))
        })
        .map(|(after, _)| after)
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The BGP messages that begin in this Ethernet frame.
fn messages(frame: &[u8], at: Instant) -> Vec<Heard> {
    let Some((from, ttl, mut rest)) = bgp_payload(frame) else { return Vec::new() };
    let mut found = Vec::new();
    // Marker, length, type: RFC 4271, 4.1.
    while let Some(head) = rest.get(..19) {
        let length = usize::from(u16::from_be_bytes([byte(head, 16), byte(head, 17)]));
        let Some(bytes) =
            rest.get(..length).filter(|_| length >= 19 && head.starts_with(&[0xff; 16]))
        else {
            break;
        };
        found.push(Heard { at, from, ttl, kind: byte(head, 18), bytes: bytes.to_vec() });
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

/// Sender, hops left and TCP payload when either port is 179.
fn bgp_payload(frame: &[u8]) -> Option<(IpAddr, u8, &[u8])> {
    let ip = frame.get(14..)?;
    let (from, ttl, tcp) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = usize::from(byte(ip, 0) & 0x0f) * 4;
            let total = usize::from(u16::from_be_bytes([byte(ip, 2), byte(ip, 3)]));
            let from: [u8; 4] = ip.get(12..16)?.try_into().ok()?;
            (IpAddr::from(from), byte(ip, 8), ip.get(header..total).filter(|_| byte(ip, 9) == 6)?)
        }
        [0x86, 0xdd] => {
            let length = usize::from(u16::from_be_bytes([byte(ip, 4), byte(ip, 5)]));
            let from: [u8; 16] = ip.get(8..24)?.try_into().ok()?;
            (IpAddr::from(from), byte(ip, 7), ip.get(40..40 + length).filter(|_| byte(ip, 6) == 6)?)
        }
        _ => return None,
    };
    let bgp = 179_u16.to_be_bytes();
    if tcp.get(..2)? != bgp && tcp.get(2..4)? != bgp {
        return None;
    }
    Some((from, ttl, tcp.get(usize::from(byte(tcp, 12) >> 4) * 4..)?))
}
