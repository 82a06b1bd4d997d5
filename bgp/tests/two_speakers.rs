//! Two speakers against each other over loopback.

mod common;

use common::*;
use ipnet::IpNet;
use sluice_bgp::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

async fn pair(net: Net, passive: bool) -> (Speaker, Speaker) {
    let a = SpeakerConfig { peers: vec![net.peer(1, 2)], ..net.speaker(1) };
    let b =
        SpeakerConfig { peers: vec![PeerConfig { passive, ..net.peer(2, 1) }], ..net.speaker(2) };
    tokio::join!(start(a, Announced::new()), start(b, Announced::new()))
}

#[tokio::test(flavor = "multi_thread")]
async fn announce_change_and_withdraw_both_families() {
    let (a, b) = pair(Net::new(), true).await;
    let status = established(&a).await;
    assert_eq!(status.families, ["ipv4-unicast", "ipv6-unicast"]);
    assert_eq!(status.router_id, Some(Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!(status.hold_time, Some(Duration::from_secs(3)));
    assert!(status.capabilities.contains(&"4-octet AS".to_owned()), "{status:?}");
    a.announce(routes(&["203.0.113.10/32", "2001:db8:113::10/128"]));
    until(&b, "both routes", |p| p.received == 2).await;
    until(&a, "both announced", |p| p.announced == 2).await;
    a.announce(routes(&["203.0.113.10/32", "203.0.113.11/32"]));
    until(&a, "still two announced", |p| p.announced == 2).await;
    a.announce(routes(&["203.0.113.11/32"]));
    until(&b, "one left", |p| p.received == 1).await;
    a.announce(Announced::new());
    until(&b, "none left", |p| p.received == 0).await;
    assert_eq!(a.announced(), Announced::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_routes_and_a_late_peer() {
    let net = Net::new();
    let many: Announced = (0..800u32)
        .map(|i| {
            let address = IpAddr::from(Ipv4Addr::from(0xcb00_7100 + i));
            let med = RouteAttributes { med: Some(i % 3), ..RouteAttributes::default() };
            (IpNet::from(address), med)
        })
        .collect();
    let a = start(SpeakerConfig { peers: vec![net.peer(1, 2)], ..net.speaker(1) }, many).await;
    let b = SpeakerConfig { peers: vec![net.peer(2, 1)], ..net.speaker(2) };
    let b = start(b, Announced::new()).await;
    until(&b, "all routes", |p| p.received == 800).await;
    // Three groups of attributes and two End-of-RIB: a message per route would be hundreds.
    let status = until(&a, "all announced", |p| p.announced == 800).await;
    assert!(status.messages_out < 20, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_opens_end_in_one_session_that_stays() {
    for _ in 0..20 {
        let (a, b) = pair(Net::new(), false).await;
        established(&a).await;
        established(&b).await;
        a.announce(routes(&["203.0.113.10/32"]));
        b.announce(routes(&["203.0.113.20/32"]));
        let at_a = until(&a, "b's route", |p| p.received == 1).await;
        let at_b = until(&b, "a's route", |p| p.received == 1).await;
        assert_eq!((at_a.flaps, at_b.flaps), (0, 0));
        assert_eq!(at_a.local_address.map(|l| l.ip()), Some(at_b.address));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_transport_with_ipv4_routes() {
    let port = 20_000 + (std::process::id() % 20_000) as u16;
    let loopback: IpAddr = "::1".parse().unwrap();
    let speaker = |host: u8, port| SpeakerConfig {
        listen: vec![(loopback, port).into()],
        ..Net::new().speaker(host)
    };
    let peer = |asn, port, passive| PeerConfig {
        address: loopback,
        port,
        asn,
        local_address: None,
        passive,
        next_hop_v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        ..Net::new().peer(1, 2)
    };
    let a = SpeakerConfig { peers: vec![peer(64502, port + 1, false)], ..speaker(1, port) };
    let b = SpeakerConfig { peers: vec![peer(64501, port, true)], ..speaker(2, port + 1) };
    let (a, b) = tokio::join!(
        start(a, routes(&["203.0.113.10/32", "2001:db8:113::10/128"])),
        start(b, Announced::new())
    );
    let status = until(&b, "routes of both families", |p| p.received == 2).await;
    assert_eq!(status.local_address.map(|l| l.ip()), Some(loopback));
    drop(a);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_speaker_comes_back_within_a_second() {
    let net = Net::new();
    let (a, b) = pair(net, false).await;
    a.announce(routes(&["203.0.113.10/32"]));
    until(&b, "the route", |p| p.received == 1).await;
    // Like kill -9: no NOTIFICATION.
    drop(a);
    let lost = until(&b, "the loss", |p| p.flaps == 1).await;
    let error = lost.last_error.unwrap_or_default();
    assert!(!error.contains("received"), "no NOTIFICATION was sent: {error}");
    let a = SpeakerConfig { peers: vec![net.peer(1, 2)], ..net.speaker(1) };
    let a = start_again(a, routes(&["203.0.113.10/32"])).await;
    established(&a).await;
    until(&b, "the route again", |p| p.received == 1).await;
}
