//! How fast routes leave: printed with `--nocapture`, and held to bounds wide enough for a busy debug build.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is the report")]

mod common;

use common::*;
use ipnet::IpNet;
use sluice_bgp::*;
use sluice_bgp_core::wire::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

fn set(count: u32, med: u32) -> Announced {
    let route = RouteAttributes { med: Some(med), ..RouteAttributes::default() };
    (0..count)
        .map(|i| (IpNet::from(IpAddr::from(Ipv4Addr::from(0x0a00_0000 + i))), route.clone()))
        .collect()
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// Skips the initial routes.
async fn until_end_of_rib(script: &mut Script) {
    while script.next_update().await.end_of_rib != Some(Family::IPV6_UNICAST) {}
}

async fn session(net: Net, routes: Announced) -> (Speaker, tokio::net::TcpListener, Script) {
    let listener = script_listener(net).await;
    let speaker = start(net.one_peer(), routes).await;
    let mut script = Script::accept(&listener).await;
    let no_expiry = Open { hold_time: HoldTime::OFF, ..open(64502) };
    script.handshake_with(no_expiry).await;
    until_end_of_rib(&mut script).await;
    (speaker, listener, script)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_vip() {
    let (speaker, _listener, mut script) = session(Net::new(), set(1, 0)).await;
    let mut took = Vec::new();
    for med in 1..=400 {
        // As in life: the tasks sleep when the change comes.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let routes = if med % 2 == 0 { set(1, med) } else { Announced::new() };
        let at = Instant::now();
        speaker.announce(routes);
        script.next_update().await;
        took.push(at.elapsed());
    }
    took.sort();
    let (p50, p99) = (percentile(&took, 50), percentile(&took, 99));
    println!("announce or withdraw to UPDATE at the peer, 1 VIP: p50 {p50:?}, p99 {p99:?}");
    assert!(p50 < Duration::from_millis(20), "{p50:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_vips() {
    for count in [1_000, 100_000] {
        let (speaker, _listener, mut script) = session(Net::new(), Announced::new()).await;
        let mut took = Vec::new();
        let (mut octets, mut messages) = (0, 0);
        for round in 1..=10 {
            let routes = set(count, round);
            let at = Instant::now();
            speaker.announce(routes);
            let mut received = 0;
            let mut buffer = Vec::with_capacity(1 << 20);
            (octets, messages) = (0, 0);
            while received < count as usize {
                assert!(script.stream.read_buf(&mut buffer).await.unwrap() > 0);
                while let Some(length) = message_length(&buffer) {
                    let rest = buffer.split_off(length);
                    octets += length;
                    messages += 1;
                    received += prefixes(&script.codec, &buffer);
                    buffer = rest;
                }
            }
            took.push(at.elapsed());
        }
        took.sort();
        println!(
            "{count} VIPs, last UPDATE: p50 {:?}, worst of 10 {:?}; {octets} octets in {messages} messages",
            percentile(&took, 50),
            percentile(&took, 100)
        );
        assert!(messages * 700 <= count as usize + 1400, "{messages} messages for {count}");
    }
}

fn message_length(buffer: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes([*buffer.get(16)?, *buffer.get(17)?]));
    (buffer.len() >= length).then_some(length)
}

fn prefixes(codec: &Codec, message: &[u8]) -> usize {
    let mut bytes = bytes::BytesMut::from(message);
    match codec.decode(&Frame::split(&mut bytes).unwrap().unwrap()).unwrap() {
        Message::Update(update) => update.reach.iter().map(|r| r.prefixes.len()).sum(),
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_established_to_end_of_rib_and_back_after_a_reset() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let speaker = start(net.one_peer(), set(1000, 0)).await;
    let (mut first, mut complete, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut script = Script::accept(&listener).await;
    for _ in 0..10 {
        script.next().await;
        script.send(&Message::Open(open(64502))).await;
        assert_eq!(script.next().await, Message::KeepAlive);
        let at = Instant::now();
        script.send(&Message::KeepAlive).await;
        script.next_update().await;
        first.push(at.elapsed());
        until_end_of_rib(&mut script).await;
        complete.push(at.elapsed());
        // A session that lasts less than a second is dialled later, on purpose.
        tokio::time::sleep(Duration::from_millis(1050)).await;
        let at = Instant::now();
        drop(script);
        script = Script::accept(&listener).await;
        again.push(at.elapsed());
    }
    for (what, took) in [
        ("Established to first UPDATE, 1000 VIPs", &mut first),
        ("Established to the last End-of-RIB, 1000 VIPs", &mut complete),
        ("reset by the peer to SYN", &mut again),
    ] {
        took.sort();
        println!("{what}: p50 {:?}, worst of 10 {:?}", percentile(took, 50), percentile(took, 100));
    }
    assert!(again[0] < Duration::from_millis(150), "{again:?}");
    drop(speaker);
}
