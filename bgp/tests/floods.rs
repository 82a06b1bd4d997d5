//! Peers that send without end: nobody else's keepalives, and no timer of the caller, wait behind their bytes.
//!
//! The scripted peers are threads of their own, so that only the speaker can make anybody late. All are bounded in time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is the report"
)]

mod common;

use bytes::BytesMut;
use common::*;
use ipnet::Ipv4Net;
use sluice_bgp::*;
use sluice_bgp_core::wire::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// As long as a flood lasts: more than the hold time of the quiet peer, which is the least there is.
const FLOOD: Duration = Duration::from_secs(4);
const QUIET_HOLD: Duration = Duration::from_secs(3);
/// A third of the hold time is when the next KEEPALIVE is due; the rest is what a busy machine may add.
const LONGEST_SILENCE: Duration = Duration::from_millis(2500);
/// What a timer of the caller may be late on a busy machine; it was 12 s.
const LATENESS: Duration = Duration::from_millis(500);

const CODEC: Codec = Codec { as4: true, internal: false, ipv4: true, ipv6: true };

/// A peer on a thread: accepts the speaker's dial, and runs until told to stop.
struct Threaded {
    stop: Arc<AtomicBool>,
    /// Messages of the peer to us, and the longest time without one, in ms.
    sent: Arc<AtomicU64>,
    silence_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Threaded {
    /// `payload` is sent again and again after the handshake; without one the peer sends keepalives.
    fn start(net: Net, host: u8, hold: Duration, payload: Vec<u8>, messages: u64) -> Self {
        let listener = TcpListener::bind(net.socket(host)).unwrap();
        let (stop, sent, silence_ms) =
            <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let shared = (stop.clone(), sent.clone(), silence_ms.clone());
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            handshake(&stream, host, hold);
            let mut reader = stream.try_clone().unwrap();
            let (stop, sent, silence) = shared;
            let until = stop.clone();
            let reading = std::thread::spawn(move || drain(&mut reader, &until, &silence));
            write_on(stream, &payload, messages, &stop, &sent);
            reading.join().unwrap();
        });
        Self { stop, sent, silence_ms, thread: Some(thread) }
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms.load(Ordering::Relaxed))
    }
}

impl Drop for Threaded {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for message in messages {
        CODEC.encode(message, &mut out).unwrap();
    }
    out.to_vec()
}

fn handshake(mut stream: &TcpStream, host: u8, hold: Duration) {
    let hold = HoldTime::new(u16::try_from(hold.as_secs()).unwrap()).unwrap();
    let id = Ipv4Addr::new(10, 0, 0, host);
    let open = Open { hold_time: hold, router_id: id, ..open(64500 + u32::from(host)) };
    stream.write_all(&encoded(&[Message::Open(open), Message::KeepAlive])).unwrap();
}

/// Reads everything, and notes the longest silence.
fn drain(stream: &mut TcpStream, stop: &AtomicBool, silence_ms: &AtomicU64) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let mut heard = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let got = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => true,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(_) => break,
        };
        let silence = u64::try_from(heard.elapsed().as_millis()).unwrap();
        silence_ms.fetch_max(silence, Ordering::Relaxed);
        if got {
            heard = Instant::now();
        }
    }
}

fn write_on(
    mut stream: TcpStream,
    payload: &[u8],
    messages: u64,
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let keepalive = encoded(&[Message::KeepAlive]);
    while !stop.load(Ordering::Relaxed) {
        if payload.is_empty() {
            if stream.write_all(&keepalive).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(300));
            continue;
        }
        let mut rest = payload;
        while !rest.is_empty() && !stop.load(Ordering::Relaxed) {
            match stream.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return,
            }
        }
        sent.fetch_add(messages, Ordering::Relaxed);
    }
}

/// One prefix each, announced again and again, as a peer that flaps does.
fn updates(count: u32) -> Vec<u8> {
    let attributes = Attributes::originated(AsPath::sequence([Asn::new(64502).unwrap()]));
    let mut out = BytesMut::new();
    for i in 0..count {
        let net = Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 + (i << 8)), 24).unwrap();
        CODEC.announce_v4(&attributes, Ipv4Addr::new(127, 0, 0, 2), &[net], &mut out).unwrap();
    }
    out.to_vec()
}

/// What a flood of `payload` from host 2 does to host 3 and to the caller's timers; messages of the flood a second.
async fn under_flood(payload: Vec<u8>, messages: u64, routes: Announced) -> u64 {
    let net = Net::new();
    let noisy = Threaded::start(net, 2, Duration::from_secs(90), payload, messages);
    let quiet = Threaded::start(net, 3, QUIET_HOLD, Vec::new(), 0);
    let peer = |host| PeerConfig { hold_time: Duration::from_secs(90), ..net.peer(1, host) };
    let config = SpeakerConfig { peers: vec![peer(2), peer(3)], ..net.speaker(1) };
    let speaker = Speaker::start(config, routes, false).await.unwrap();
    let mut peers = speaker.peers();
    let both = peers.wait_for(|all| all.iter().all(|p| p.state == PeerState::Established));
    drop(tokio::time::timeout(SOON, both).await.expect("both sessions").unwrap());
    let (began, before) = (Instant::now(), noisy.sent.load(Ordering::Relaxed));
    let (mut late, mut wakes) = (Duration::ZERO, 0_u64);
    while began.elapsed() < FLOOD {
        let due = Instant::now() + Duration::from_millis(10);
        tokio::time::sleep_until(due.into()).await;
        late = late.max(due.elapsed());
        wakes += u64::from(peers.has_changed().unwrap());
        drop(peers.borrow_and_update());
    }
    let rate = (noisy.sent.load(Ordering::Relaxed) - before) / FLOOD.as_secs();
    let status = peers.borrow().clone();
    println!(
        "{rate} messages/s taken: quiet peer's longest silence {:?}, a 10 ms timer late by {late:?}, {wakes} wakes",
        quiet.silence()
    );
    assert!(late < LATENESS, "a timer of the caller was {late:?} late");
    assert!(quiet.silence() < LONGEST_SILENCE, "no KEEPALIVE for {:?}", quiet.silence());
    for peer in &status {
        assert_eq!((peer.state, peer.flaps), (PeerState::Established, 0), "{peer:?}");
    }
    // Counters alone do not keep the caller busy.
    assert!(wakes <= 2 * 2 * FLOOD.as_secs(), "{wakes} changes of the status in {FLOOD:?}");
    rate
}

#[tokio::test(flavor = "current_thread")]
async fn a_flood_of_updates_disturbs_nobody() {
    let count = 2000;
    let rate = under_flood(updates(count), u64::from(count), routes(&["203.0.113.10/32"])).await;
    assert!(rate > 1000, "the flood itself is served: {rate} UPDATEs a second");
}

#[tokio::test(flavor = "current_thread")]
async fn a_flood_of_refreshes_is_answered_once_in_a_while() {
    let refresh =
        |family| Message::RouteRefresh(RouteRefresh { family, subtype: RefreshSubtype::Request });
    let pair = [refresh(Family::IPV4_UNICAST), refresh(Family::IPV6_UNICAST)];
    let payload = encoded(&pair).repeat(1000);
    let many: Announced = (0..20_000u32)
        .map(|i| (IpAddr::from(Ipv4Addr::from(0xcb00_0000 + i)).into(), RouteAttributes::default()))
        .collect();
    under_flood(payload, 2000, many).await;
}

/// A whole table of the internet by mistake, in full messages.
#[tokio::test(flavor = "current_thread")]
async fn a_full_table_disturbs_nobody() {
    let attributes = Attributes::originated(AsPath::sequence([Asn::new(64502).unwrap()]));
    let nets: Vec<Ipv4Net> = (0..250_000u32)
        .map(|i| Ipv4Net::new(Ipv4Addr::from(0x0100_0000 + (i << 8)), 24).unwrap())
        .collect();
    let mut out = BytesMut::new();
    let hop = Ipv4Addr::new(127, 0, 0, 2);
    let messages = CODEC.announce_v4(&attributes, hop, &nets, &mut out).unwrap();
    under_flood(out.to_vec(), messages as u64, routes(&["203.0.113.10/32"])).await;
}
