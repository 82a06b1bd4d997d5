//! The handle: what UPDATEs say, reconfiguration, restart flags, shutdown, and errors at the start.

mod common;

use common::*;
use sluice_bgp::*;
use sluice_bgp_core::wire::*;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn updates_carry_the_attributes_asked_for() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let attributes = RouteAttributes {
        med: Some(50),
        local_pref: Some(300),
        communities: vec![(64501 << 16) | 7],
        large_communities: vec![[64501, 1, 2]],
        prepend: 1,
    };
    // Host bits are cleared.
    let routes = Announced::from([
        ("203.0.113.10/24".parse().unwrap(), attributes.clone()),
        ("2001:db8:113::10/128".parse().unwrap(), attributes),
    ]);
    let _speaker = start(net.one_peer(), routes).await;
    let mut script = Script::accept(&listener).await;
    script.handshake().await;
    for (prefix, next_hop) in [
        ("203.0.113.0/24", NextHop::V4(Ipv4Addr::new(192, 0, 2, 1))),
        (
            "2001:db8:113::10/128",
            NextHop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: None },
        ),
    ] {
        let update = script.next_update().await;
        assert_eq!(update.reach[0].prefixes.iter().collect::<Vec<_>>(), [prefix.parse().unwrap()]);
        assert_eq!(update.reach[0].next_hop, next_hop);
        let a = update.attributes;
        assert_eq!(a.as_path.unwrap().to_string(), "64501 64501");
        assert_eq!((a.origin, a.med, a.local_pref), (Some(Origin::Igp), Some(50), None));
        assert_eq!(a.communities[0].to_string(), "64501:7");
        assert_eq!(a.large_communities[0].to_string(), "64501:1:2");
    }
    assert_eq!(script.next_update().await.end_of_rib, Some(Family::IPV4_UNICAST));
    assert_eq!(script.next_update().await.end_of_rib, Some(Family::IPV6_UNICAST));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_refresh_is_answered() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let _speaker = start(net.one_peer(), routes(&["203.0.113.10/32"])).await;
    let mut script = Script::accept(&listener).await;
    script.handshake().await;
    for _ in 0..3 {
        script.next_update().await;
    }
    let family = Family::IPV4_UNICAST;
    script
        .send(&Message::RouteRefresh(RouteRefresh { family, subtype: RefreshSubtype::Request }))
        .await;
    let update = script.next_update().await;
    assert_eq!(update.reach[0].prefixes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_missing_next_hop_is_explained() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let peer = PeerConfig { next_hop_v6: None, ..net.peer(1, 2) };
    let speaker =
        start(SpeakerConfig { peers: vec![peer], ..net.speaker(1) }, Announced::new()).await;
    let mut script = Script::accept(&listener).await;
    let theirs = script.handshake().await;
    assert!(!theirs.capabilities.contains(&Capability::Multiprotocol(Family::IPV6_UNICAST)));
    let status = established(&speaker).await;
    assert_eq!(status.families, ["ipv4-unicast"]);
    assert!(status.problems[0].contains("ipv6-unicast is not negotiated"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_flags_and_a_crash_without_a_word() {
    let flags = |open: &Open| {
        open.capabilities.iter().find_map(|c| match c {
            Capability::GracefulRestart(gr) => {
                Some((gr.restarting, gr.time_s, gr.families.iter().all(|f| f.forwarding)))
            }
            _ => None,
        })
    };
    for (restarted, first) in [(false, (false, 120, false)), (true, (true, 120, true))] {
        let net = Net::new();
        let listener = script_listener(net).await;
        let speaker = Speaker::start_tuned(net.one_peer(), Announced::new(), restarted, tuning())
            .await
            .unwrap();
        let mut script = Script::accept(&listener).await;
        assert_eq!(flags(&script.handshake().await), Some(first));
        established(&speaker).await;
        drop(script);
        // Within one life: the data plane goes on, nobody restarted.
        let mut script = Script::accept(&listener).await;
        assert_eq!(flags(&script.handshake().await), Some((false, 120, true)));
        established(&speaker).await;
        drop(speaker);
        assert_eq!(script.notification().await, None, "a crash says nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reconfiguration_touches_only_what_changed() {
    let net = Net::new();
    let listeners = [
        tokio::net::TcpListener::bind(net.socket(2)).await.unwrap(),
        tokio::net::TcpListener::bind(net.socket(3)).await.unwrap(),
        tokio::net::TcpListener::bind(net.socket(4)).await.unwrap(),
    ];
    let peers = vec![net.peer(1, 2), net.peer(1, 3), net.peer(1, 4)];
    let config = SpeakerConfig { peers, ..net.speaker(1) };
    let speaker = start(config.clone(), Announced::new()).await;
    let mut scripts = Vec::new();
    for (asn, listener) in (64502..).zip(&listeners) {
        let mut script = Script::accept(listener).await;
        script.handshake_with(open(asn)).await;
        scripts.push(script);
    }
    let mut status = speaker.peers();
    let all_up = |peers: &Vec<PeerStatus>| peers.iter().all(|p| p.state == PeerState::Established);
    tokio::time::timeout(SOON, status.wait_for(all_up)).await.unwrap().unwrap();

    // A bad one changes nothing.
    let bad = SpeakerConfig { asn: 0, peers: vec![], ..config.clone() };
    let error = speaker.configure(bad).await.unwrap_err();
    assert_eq!(error.to_string(), "the AS number is 0: use 1 to 4294967295");
    assert_eq!(speaker.peers().borrow().len(), 3);

    // Host 2 stays, host 3 changes, host 4 goes, and we listen elsewhere too.
    let changed = PeerConfig { hold_time: Duration::from_secs(9), ..net.peer(1, 3) };
    let elsewhere: SocketAddr = (net.ip(1), PORT + 1).into();
    let next =
        SpeakerConfig { peers: vec![net.peer(1, 2), changed], listen: vec![elsewhere], ..config };
    speaker.configure(next).await.unwrap();
    assert_eq!(speaker.listening().await, [elsewhere]);
    assert_eq!(scripts[2].notification().await.map(|n| (n.code, n.subcode)), Some((6, 3)));
    assert_eq!(scripts[1].notification().await.map(|n| (n.code, n.subcode)), Some((6, 6)));
    let mut again = Script::accept(&listeners[1]).await;
    assert_eq!(again.handshake_with(open(64503)).await.hold_time, HoldTime::new(9).unwrap());
    tokio::time::timeout(SOON, status.wait_for(all_up)).await.unwrap().unwrap();
    speaker.announce(routes(&["203.0.113.10/32"]));
    loop {
        if !scripts[0].next_update().await.reach.is_empty() {
            break;
        }
    }
    let peers = speaker.peers().borrow().clone();
    assert_eq!(
        peers.iter().map(|p| (p.address, p.flaps)).collect::<Vec<_>>(),
        [(net.ip(2), 0), (net.ip(3), 0)]
    );
    assert!(Script::dial(net.ip(2), net.socket(1)).await.is_err(), "nobody listens there any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_can_move_to_an_overlapping_address() {
    let net = Net::new();
    let port = 40_000 + (std::process::id() % 20_000) as u16;
    let any: SocketAddr = (Ipv4Addr::UNSPECIFIED, port).into();
    let one: SocketAddr = (net.ip(1), port).into();
    let config = SpeakerConfig { listen: vec![any], ..net.speaker(1) };
    let speaker = start(config.clone(), Announced::new()).await;
    speaker.configure(SpeakerConfig { listen: vec![one], ..config.clone() }).await.unwrap();
    assert_eq!(speaker.listening().await, [one]);
    // Taken by somebody else: the old one stays.
    let taken = std::net::TcpListener::bind((net.ip(2), port)).unwrap();
    let both = SpeakerConfig { listen: vec![taken.local_addr().unwrap()], ..config };
    let error = speaker.configure(both).await.unwrap_err();
    assert!(matches!(error, ConfigureError::Listen { .. }), "{error}");
    assert_eq!(speaker.listening().await, [one]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_what_to_do() {
    let net = Net::new();
    let _first = start(net.speaker(1), Announced::new()).await;
    let second = Speaker::start(net.speaker(1), Announced::new(), false).await;
    let Err(error) = second else { panic!("two speakers on one port") };
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot listen for BGP on {}: ", net.socket(1))), "{text}");
    assert!(text.contains("ss -ltnp 'sport = :1790'"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_withdraws_says_why_and_ends() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let speaker = start(net.one_peer(), routes(&["203.0.113.10/32"])).await;
    let mut script = Script::accept(&listener).await;
    script.handshake().await;
    for _ in 0..3 {
        script.next_update().await;
    }
    let ending = tokio::spawn(async move { speaker.shutdown("upgrade to 0.2").await });
    let update = script.next_update().await;
    assert_eq!(update.unreach[0].prefixes.len(), 1, "{update:?}");
    let notification = script.notification().await.expect("a NOTIFICATION");
    assert_eq!((notification.code, notification.subcode), (6, 2));
    assert_eq!(notification.shutdown_text().as_deref(), Some("upgrade to 0.2"));
    drop(script);
    tokio::time::timeout(SOON, ending).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_does_not_wait_for_a_peer_that_hangs() {
    let net = Net::new();
    let listener = script_listener(net).await;
    let many: Announced = (0..100_000u32)
        .map(|i| ipnet::IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0x0a00_0000 + i))))
        .map(|prefix| (prefix, RouteAttributes::default()))
        .collect();
    let speaker = start(net.one_peer(), many).await;
    let mut script = Script::accept(&listener).await;
    script.handshake().await;
    established(&speaker).await;
    let started = Instant::now();
    speaker.shutdown("bye").await;
    let took = started.elapsed();
    assert!(took < 3 * tuning().linger, "{took:?}");
    drop(script);
}
