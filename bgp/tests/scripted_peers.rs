//! Peers that misbehave: each gets the right NOTIFICATION, leaves a clear error, and is dialled again.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod common;

use common::*;
use ipnet::IpNet;
use sluice_bgp::*;
use sluice_bgp_core::wire::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// What a bad peer does once it was dialled.
enum Act {
    CloseAtOnce,
    /// Instead of an OPEN.
    Bytes(Vec<u8>),
    /// Instead of a good OPEN.
    Open(Open),
    /// Bytes after the handshake.
    AfterHandshake(Vec<u8>),
    /// Half a message after the handshake, then the end.
    HalfAndClose(Vec<u8>),
    /// Handshake, then nothing: no keepalives.
    Mute,
    Notification(Notification),
}

/// A header with this length and type, and a body.
fn raw(len: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(len.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// An OPEN of version 4, AS 64502, hold time, identifier, and no parameters.
fn raw_open(version: u8, asn: u16, hold: u16, id: [u8; 4]) -> Vec<u8> {
    let mut body = vec![version];
    body.extend(asn.to_be_bytes());
    body.extend(hold.to_be_bytes());
    body.extend(id);
    body.push(0);
    raw(29, 1, &body)
}

/// Name, what the peer does, what it is answered, and the error (either, where the kernel may turn an end into a reset).
type Case = (&'static str, Act, Option<(u8, u8)>, &'static str);

#[rustfmt::skip]
fn table() -> Vec<Case> {
    let v6_only = vec![Capability::Multiprotocol(Family { afi: 25, safi: 70 })];
    let no_family = Open { capabilities: v6_only, ..open(64502) };
    let text = Notification::shutdown(2, "upgrade at noon");
    // Attributes longer than the message says.
    let truncated = raw(23, 2, &[0, 0, 0, 9]);
    let no_origin = raw(30, 2, &[0, 0, 0, 3, 0x40, 1, 5, 32, 10, 0, 0]);
    vec![
        ("closes at once", Act::CloseAtOnce, None, "closed the connection|the connection broke: Connection reset"),
        ("speaks HTTP", Act::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), Some((1, 1)), "(1/1): the marker is not all ones"),
        ("too short", Act::Bytes(raw(18, 1, &[])), Some((1, 2)), "Bad Message Length"),
        ("too long", Act::Bytes(raw(4097, 1, &[])), Some((1, 2)), "Bad Message Length"),
        ("unknown type", Act::Bytes(raw(19, 9, &[])), Some((1, 3)), "Bad Message Type"),
        ("KEEPALIVE first", Act::Bytes(raw(19, 4, &[])), Some((5, 1)), "OpenSent"),
        ("version 3", Act::Bytes(raw_open(3, 64502, 90, [10, 0, 0, 2])), Some((2, 1)), "Unsupported Version"),
        ("AS 0", Act::Bytes(raw_open(4, 0, 90, [10, 0, 0, 2])), Some((2, 2)), "Bad Peer AS"),
        ("hold time 1", Act::Bytes(raw_open(4, 64502, 1, [10, 0, 0, 2])), Some((2, 6)), "Unacceptable Hold Time"),
        ("identifier 0", Act::Bytes(raw_open(4, 64502, 90, [0; 4])), Some((2, 3)), "Bad BGP Identifier"),
        ("another AS", Act::Open(open(64999)), Some((2, 2)), "the peer is in AS 64999, configured is AS 64502"),
        ("no common family", Act::Open(no_family), Some((2, 7)), "no address family in common"),
        ("refuses us", Act::Notification(text), None, "received Cease/Administrative Shutdown (6/2): \"upgrade at noon\""),
        ("garbage in a session", Act::AfterHandshake(vec![0; 64]), Some((1, 1)), "the marker is not all ones"),
        ("second OPEN", Act::AfterHandshake(raw_open(4, 64502, 90, [10, 0, 0, 2])), Some((5, 3)), "Established State (5/3)"),
        ("UPDATE with overrunning attributes", Act::AfterHandshake(truncated), Some((3, 1)), "Malformed Attribute List"),
        ("UPDATE whose prefixes cannot be found", Act::AfterHandshake(no_origin), Some((3, 10)), "(3/10)"),
        ("half an UPDATE", Act::HalfAndClose(raw(60, 2, &[0, 0])), None, "in the middle of a message|the connection broke: Connection reset"),
        ("mute", Act::Mute, Some((4, 0)), "Hold Timer Expired (4/0): the peer was silent for too long"),
    ]
}

async fn play(script: &mut Script, act: Act) -> Option<Notification> {
    match act {
        Act::CloseAtOnce => return None,
        Act::Bytes(bytes) => script.send_bytes(&bytes).await,
        Act::Open(open) => script.send(&Message::Open(open)).await,
        Act::Notification(n) => {
            script.next().await;
            script.send(&Message::Notification(n)).await;
        }
        Act::AfterHandshake(bytes) => {
            script.handshake().await;
            script.send_bytes(&bytes).await;
        }
        Act::HalfAndClose(bytes) => {
            script.handshake().await;
            script.send_bytes(&bytes).await;
            return None;
        }
        Act::Mute => drop(script.handshake().await),
    }
    script.notification().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_peers() {
    for (name, act, answer, error) in table() {
        let net = Net::new();
        let listener = script_listener(net).await;
        let speaker = start(net.one_peer(), routes(&["203.0.113.10/32"])).await;
        let mut script = Script::accept(&listener).await;
        let got = play(&mut script, act).await.map(|n| (n.code, n.subcode));
        drop(script);
        assert_eq!(got, answer, "{name}");
        let status = until(&speaker, name, |p| p.last_error.is_some()).await;
        let last_error = status.last_error.unwrap();
        let fits = error.split('|').any(|e| last_error.contains(e));
        assert!(fits, "{name}: {last_error:?} lacks {error:?}");
        // It gets another chance, and can use it.
        let mut second = Script::accept(&listener).await;
        second.handshake().await;
        established(&speaker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_peers_that_dial_are_refused_for_a_while_only() {
    let net = Net::new();
    let passive = PeerConfig { passive: true, ..net.peer(1, 2) };
    let speaker =
        start(SpeakerConfig { peers: vec![passive], ..net.speaker(1) }, Announced::new()).await;
    let mut script = Script::dial(net.ip(2), net.socket(1)).await.unwrap();
    script.send_bytes(&[0; 19]).await;
    assert_eq!(script.notification().await.map(|n| n.code), Some(1));
    let mut refused = Script::dial(net.ip(2), net.socket(1)).await.unwrap();
    assert_eq!(refused.try_next().await, None, "refused right after");
    loop {
        let mut again = Script::dial(net.ip(2), net.socket(1)).await.unwrap();
        if let Some(Message::Open(_)) = again.try_next().await {
            again.send(&Message::Open(open(64502))).await;
            again.send(&Message::KeepAlive).await;
            established(&speaker).await;
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_closed_and_counted() {
    let net = Net::new();
    let speaker = start(net.one_peer(), Announced::new()).await;
    for _ in 0..3 {
        let mut stranger = Script::dial(net.ip(9), net.socket(1)).await.unwrap();
        assert_eq!(stranger.try_next().await, None);
    }
    assert_eq!(speaker.refused_connections(), 3);
}

/// What the kernel has dropped for its TTL, in this namespace.
fn dropped_for_ttl() -> u64 {
    let text = std::fs::read_to_string("/proc/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "TCPMinTTLDrop").unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_security_takes_nothing_from_further_away() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let guarded = PeerConfig { ttl_security: true, ..net.peer(1, 2) };
    let speaker =
        start(SpeakerConfig { peers: vec![guarded], ..net.speaker(1) }, Announced::new()).await;
    let mut script = Script::accept(&listener).await;
    let Message::Open(_) = script.next().await else { panic!("no OPEN") };
    let before = dropped_for_ttl();
    script.stream.set_ttl(254).unwrap();
    script.send(&Message::Open(open(64502))).await;
    script.send(&Message::KeepAlive).await;
    while dropped_for_ttl() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(speaker.peers().borrow()[0].messages_in, 0);
    // TCP sends it again, this time as from next door.
    script.stream.set_ttl(255).unwrap();
    established(&speaker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_an_open_is_given_up() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let tuning = Tuning { open_hold: Duration::from_millis(200), ..tuning() };
    let speaker =
        Speaker::start_tuned(net.one_peer(), Announced::new(), false, tuning).await.unwrap();
    let mut script = Script::accept(&listener).await;
    assert_eq!(script.notification().await.map(|n| n.code), Some(4));
    until(&speaker, "the error", |p| p.last_error.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_there_is_dialled_again_and_again() {
    let net = Net::new();
    let speaker = start(net.one_peer(), Announced::new()).await;
    let status = until(&speaker, "the refusal", |p| p.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.starts_with(&format!("connect to {} port 1790: ", net.ip(2))), "{error}");
    // The peer appears later.
    let listener = script_listener(net).await;
    // It stays until the session is seen: with the script the connection goes.
    let mut script = Script::accept(&listener).await;
    script.handshake().await;
    established(&speaker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_takes_nothing_is_dropped_by_the_send_hold_timer() {
    let net = Net::new();
    let listener = script_listener(net).await;
    // Twice the hold time of 3 s counts.
    let tuning = Tuning { send_hold: Duration::from_secs(1), ..tuning() };
    // 4000 messages of almost 4 kB, which is more than all socket buffers hold.
    let many: Announced = (0..4000u32)
        .map(|i| {
            let communities = (i..i + 950).collect();
            let route = RouteAttributes { communities, ..RouteAttributes::default() };
            (IpNet::from(IpAddr::from(Ipv4Addr::from(0x0a00_0000 + i))), route)
        })
        .collect();
    let speaker = Speaker::start_tuned(net.one_peer(), many, false, tuning).await.unwrap();
    let mut script = Script::accept(&listener).await;
    script.handshake().await;
    established(&speaker).await;
    let (reader, mut writer) = script.stream.into_split();
    let keepalives = tokio::spawn(async move {
        let keepalive = raw(19, 4, &[]);
        while tokio::io::AsyncWriteExt::write_all(&mut writer, &keepalive).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut peers = speaker.peers();
    let lost = tokio::time::timeout(
        Duration::from_secs(40),
        peers.wait_for(|p| {
            p[0].last_error.as_deref().is_some_and(|e| e.contains("Send Hold Timer"))
        }),
    );
    lost.await.expect("dropped by the send hold timer").unwrap();
    keepalives.abort();
    drop(reader);
}

/// A port scan from the router, or a health check of it, is no peer that has restarted.
#[tokio::test(flavor = "multi_thread")]
async fn tcp_connections_from_the_peers_address_end_no_session() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let config = PeerConfig { hold_time: Duration::from_secs(60), ..net.peer(1, 2) };
    let config = SpeakerConfig { peers: vec![config], ..net.speaker(1) };
    let tuning = Tuning { simultaneous_open: Duration::ZERO, ..tuning() };
    let speaker = Speaker::start_tuned(config, Announced::new(), false, tuning).await.unwrap();
    let mut script = Script::accept(&listener).await;
    script.handshake().await;
    let up = established(&speaker).await;
    let mut open_ones = Vec::new();
    for _ in 0..50 {
        open_ones.push(Script::dial(net.ip(2), net.socket(1)).await.unwrap());
    }
    // The first is given our OPEN and says nothing; in the end most are closed.
    let Message::Open(_) = open_ones[0].next().await else { panic!("no OPEN") };
    let mut closed = 0;
    for one in open_ones.iter_mut().rev().take(40) {
        closed += u32::from(one.try_next().await.is_none());
    }
    assert!(closed >= 39, "{closed} of 40 closed at once");
    let status = speaker.peers().borrow()[0].clone();
    assert_eq!((status.state, status.flaps, status.since), (PeerState::Established, 0, up.since));
    // The peer itself, back from a restart, takes the session over, as soon as connections are admitted again.
    drop(open_ones);
    let mut again = loop {
        let mut again = Script::dial(net.ip(2), net.socket(1)).await.unwrap();
        if let Some(Message::Open(_)) = again.try_next().await {
            break again;
        }
    };
    again.send(&Message::Open(open(64502))).await;
    again.send(&Message::KeepAlive).await;
    let back = |p: &PeerStatus| p.flaps == 1 && p.state == PeerState::Established;
    until(&speaker, "the restarted peer", back).await;
    assert_eq!(script.notification().await, None, "the routes are to survive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_strangers_is_closed_and_costs_no_descriptor() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let speaker = start(net.one_peer(), Announced::new()).await;
    let mut script = Script::accept(&listener).await;
    script.handshake_with(Open { hold_time: HoldTime::OFF, ..open(64502) }).await;
    established(&speaker).await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (before, mut most) = (descriptors(), 0);
    for _ in 0..30 {
        let crowd: Vec<_> = (0..50).map(|_| Script::dial(net.ip(9), net.socket(1))).collect();
        for one in crowd {
            assert_eq!(one.await.unwrap().try_next().await, None);
        }
        most = most.max(descriptors());
    }
    assert!(speaker.refused_connections() >= 1500, "{}", speaker.refused_connections());
    // Those of the other tests of this process as well.
    assert!(most < before + 200, "{before} descriptors before, {most} at most");
    let status = speaker.peers().borrow()[0].clone();
    assert_eq!((status.state, status.flaps), (PeerState::Established, 0));
}
