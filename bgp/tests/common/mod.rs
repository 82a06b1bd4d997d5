//! Loopback addresses of our own, speakers with short timers, and a peer that does what the test says.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is the report")]

use bytes::BytesMut;
use sluice_bgp::*;
use sluice_bgp_core::wire::*;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Longest wait for anything that must happen; far above what it takes.
pub const SOON: Duration = Duration::from_secs(10);
pub const PORT: u16 = 1790;

/// The addresses of one test: 127.a.b.1 and so on, with a and b of this process and test.
#[derive(Clone, Copy)]
pub struct Net(u8, u8);

impl Net {
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let pid = std::process::id().to_be_bytes();
        let test = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(pid[3] | 1, pid[2].wrapping_mul(32).wrapping_add(test))
    }

    pub fn ip(self, host: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.0, self.1, host))
    }

    pub fn socket(self, host: u8) -> SocketAddr {
        SocketAddr::new(self.ip(host), PORT)
    }

    /// A speaker at `host` in AS 64500 + host that listens; no peers yet.
    pub fn speaker(self, host: u8) -> SpeakerConfig {
        SpeakerConfig {
            asn: 64500 + u32::from(host),
            router_id: Ipv4Addr::new(10, 0, 0, host),
            listen: vec![self.socket(host)],
            peers: vec![],
            graceful_restart: Duration::from_secs(120),
        }
    }

    /// The peer at `to`, dialled from `from`.
    pub fn peer(self, from: u8, to: u8) -> PeerConfig {
        PeerConfig {
            address: self.ip(to),
            port: PORT,
            asn: 64500 + u32::from(to),
            local_address: Some(self.ip(from)),
            passive: false,
            hold_time: Duration::from_secs(3),
            connect_retry: Duration::from_millis(200),
            // Peers ignore routes towards 127.0.0.0/8.
            next_hop_v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
            next_hop_v6: Some("2001:db8::1".parse().unwrap()),
            multihop: None,
            ttl_security: false,
        }
    }

    /// A speaker at host 1 whose only peer is at host 2.
    pub fn one_peer(self) -> SpeakerConfig {
        SpeakerConfig { peers: vec![self.peer(1, 2)], ..self.speaker(1) }
    }
}

pub fn tuning() -> Tuning {
    let counts_every = Duration::from_millis(20);
    Tuning { linger: Duration::from_millis(500), counts_every, ..Tuning::default() }
}

pub async fn start(config: SpeakerConfig, routes: Announced) -> Speaker {
    Speaker::start_tuned(config, routes, false, tuning()).await.unwrap()
}

/// Starts in the place of a speaker that was dropped: its listener is closed by the runtime, a moment after the drop.
pub async fn start_again(config: SpeakerConfig, routes: Announced) -> Speaker {
    let listens = config.listen.clone();
    let freed = async {
        while listens.iter().any(|address| std::net::TcpListener::bind(address).is_err()) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, freed).await.expect("the dropped speaker goes on listening");
    start(config, routes).await
}

pub fn routes(prefixes: &[&str]) -> Announced {
    prefixes.iter().map(|p| (p.parse().unwrap(), RouteAttributes::default())).collect()
}

/// Waits until the only peer's status is as wanted.
pub async fn until(
    speaker: &Speaker,
    what: &str,
    wanted: impl Fn(&PeerStatus) -> bool,
) -> PeerStatus {
    let mut peers = speaker.peers();
    let found = timeout(SOON, peers.wait_for(|peers| peers.iter().any(&wanted))).await;
    match found {
        Ok(peers) => peers.unwrap().iter().find(|p| wanted(p)).unwrap().clone(),
        Err(_) => panic!("{what}: not reached: {:#?}", *speaker.peers().borrow()),
    }
}

pub async fn established(speaker: &Speaker) -> PeerStatus {
    until(speaker, "Established", |p| p.state == PeerState::Established).await
}

/// The other end of a session, by hand.
pub struct Script {
    pub stream: TcpStream,
    incoming: BytesMut,
    pub codec: Codec,
}

impl Script {
    pub fn new(stream: TcpStream) -> Self {
        let codec = Codec { as4: true, internal: false, ipv4: true, ipv6: true };
        Self { stream, incoming: BytesMut::new(), codec }
    }

    /// Waits for the speaker to dial.
    pub async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = timeout(SOON, listener.accept()).await.expect("a dial").unwrap();
        Self::new(stream)
    }

    pub async fn dial(from: IpAddr, to: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        Ok(Self::new(socket.connect(to).await?))
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn send(&mut self, message: &Message) {
        let mut out = BytesMut::new();
        self.codec.encode(message, &mut out).unwrap();
        self.send_bytes(&out).await;
    }

    /// The next message; `None` at the end of the stream.
    pub async fn try_next(&mut self) -> Option<Message> {
        loop {
            if let Some(frame) = Frame::split(&mut self.incoming).unwrap() {
                return Some(self.codec.decode(&frame).unwrap());
            }
            match timeout(SOON, self.stream.read_buf(&mut self.incoming)).await.expect("a message")
            {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn next(&mut self) -> Message {
        self.try_next().await.expect("a message before the end")
    }

    /// Skips to the NOTIFICATION; `None` if the stream ends without one.
    pub async fn notification(&mut self) -> Option<Notification> {
        loop {
            match self.try_next().await? {
                Message::Notification(n) => return Some(n),
                _ => continue,
            }
        }
    }

    /// Skips keepalives.
    pub async fn next_update(&mut self) -> Update {
        loop {
            match self.next().await {
                Message::Update(update) => return update,
                Message::KeepAlive => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Handshake with this OPEN; returns the speaker's.
    pub async fn handshake_with(&mut self, open: Open) -> Open {
        let Message::Open(theirs) = self.next().await else { panic!("no OPEN") };
        self.send(&Message::Open(open)).await;
        self.send(&Message::KeepAlive).await;
        assert_eq!(self.next().await, Message::KeepAlive);
        theirs
    }

    pub async fn handshake(&mut self) -> Open {
        self.handshake_with(open(64502)).await
    }
}

pub fn open(asn: u32) -> Open {
    let capabilities = vec![
        Capability::Multiprotocol(Family::IPV4_UNICAST),
        Capability::Multiprotocol(Family::IPV6_UNICAST),
        Capability::RouteRefresh,
        Capability::GracefulRestart(GracefulRestart::default()),
    ];
    let id = Ipv4Addr::new(10, 0, 0, 2);
    Open::new(Asn::new(asn).unwrap(), HoldTime::new(30).unwrap(), id, capabilities)
}

/// A listener where the scripted peer of host 2 is dialled.
pub async fn script_listener(net: Net) -> TcpListener {
    TcpListener::bind(net.socket(2)).await.unwrap()
}
