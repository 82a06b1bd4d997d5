//! Two connections to one peer (RFC 4271 §6.8, RFC 6286 §2.3, RFC 4724 §5).

use super::*;
use crate::wire::notification::{cease, code};

/// Both transports are there and our OPENs are out.
fn both_open_sent(config: Config, now: Instant) -> Peer {
    let mut peer = Peer::new(config);
    peer.start(now);
    peer.handle(Role::Dial, Input::Connected(BOTH.to_vec()), now);
    assert_eq!(peer.admit(now), Some(Role::Accept));
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    peer_outputs(&mut peer);
    peer
}

fn of_role(outputs: &[(Role, Output)], role: Role) -> String {
    let own: Vec<_> = outputs.iter().filter(|(r, _)| *r == role).map(|(_, o)| o.clone()).collect();
    names(&own)
}

#[test]
fn the_connection_of_the_higher_identifier_survives_whichever_open_comes_first() {
    let low = Ipv4Addr::new(10, 0, 0, 1);
    let high = Ipv4Addr::new(10, 0, 0, 9);
    let table = [
        // (peer's identifier, on which its OPEN comes first, which survives)
        (low, Role::Dial, Role::Dial),
        (low, Role::Accept, Role::Dial),
        (high, Role::Dial, Role::Accept),
        (high, Role::Accept, Role::Accept),
    ];
    for (router_id, first, survives) in table {
        let now = Instant::now();
        let mut peer = both_open_sent(config(), now);
        let open = Open { router_id, ..peer_open() };
        let second = if first == Role::Dial { Role::Accept } else { Role::Dial };
        let loser = if survives == Role::Dial { Role::Accept } else { Role::Dial };
        peer.handle(first, message(Message::Open(open.clone())), now);
        let out = peer_outputs(&mut peer);
        assert_eq!(
            (of_role(&out, first), of_role(&out, second)),
            ("keepalive".into(), String::new())
        );
        peer.handle(second, message(Message::Open(open)), now);
        let out = peer_outputs(&mut peer);
        assert_eq!(of_role(&out, loser), "notify 6/7 close down", "{router_id} {first:?}");
        peer.handle(survives, message(Message::KeepAlive), now);
        assert_eq!(peer.established(), Some(survives), "{router_id} {first:?}");
    }
}

/// RFC 4271 §6.8 examines connections in OpenConfirm: one that is only a TCP connection loses nobody a session. It would
/// win, though, so it is waited for, unless the peer goes on.
#[test]
fn a_connection_without_an_open_costs_the_other_a_second_at_most() {
    let update = || message(Message::Update(Update::end_of_rib(Family::IPV4_UNICAST)));
    for (router_id, speaks, silent) in [
        (Ipv4Addr::new(10, 0, 0, 9), Role::Dial, Role::Accept),
        (Ipv4Addr::new(10, 0, 0, 1), Role::Accept, Role::Dial),
    ] {
        let now = Instant::now();
        for end in ["time", "update", "hangs up", "decides"] {
            let mut peer = both_open_sent(config(), now);
            peer.handle(speaks, message(Message::Open(Open { router_id, ..peer_open() })), now);
            let out = peer_outputs(&mut peer);
            assert_eq!(
                (of_role(&out, speaks), of_role(&out, silent)),
                ("keepalive".into(), "".into())
            );
            peer.handle(speaks, message(Message::KeepAlive), now);
            assert_eq!((peer.established(), peer_outputs(&mut peer)), (None, vec![]), "{end}");
            let collision = Notification::new(code::CEASE, cease::COLLISION);
            match end {
                "time" => peer.tick(now + secs(1)),
                "update" => peer.handle(speaks, update(), now),
                "hangs up" => peer.handle(silent, Input::Disconnected("closed".into()), now),
                _ => peer.handle(speaks, message(Message::Notification(collision)), now),
            }
            let lives = (end != "decides").then_some(speaks);
            assert_eq!(peer.established(), lives, "{speaks:?}, {end}");
        }
    }
}

#[test]
fn equal_identifiers_are_decided_by_the_as() {
    let now = Instant::now();
    // Ours is 64512, so the peer's 64513 wins.
    let mut peer = both_open_sent(config(), now);
    let open = Open { router_id: config().router_id, ..peer_open() };
    peer.handle(Role::Accept, message(Message::Open(open.clone())), now);
    peer.handle(Role::Dial, message(Message::Open(open)), now);
    assert_eq!(of_role(&peer_outputs(&mut peer), Role::Dial), "notify 6/7 close down");
    assert_eq!(peer.state(), StateName::OpenConfirm);
}

#[test]
fn two_machines_facing_each_other_agree() {
    let now = Instant::now();
    let (id_a, id_b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let mut a = Config::new(asn(64513), id_a, asn(64512));
    a.seed = 5;
    let mut a = both_open_sent(a, now);
    let mut b = both_open_sent(Config::new(asn(64512), id_b, asn(64513)), now);
    let open_a = Open::new(asn(64513), HoldTime::DEFAULT, id_a, vec![]);
    let open_b = Open::new(asn(64512), HoldTime::DEFAULT, id_b, vec![]);
    // a's dialled connection is b's accepted one.
    a.handle(Role::Dial, message(Message::Open(open_b.clone())), now);
    b.handle(Role::Dial, message(Message::Open(open_a.clone())), now);
    a.handle(Role::Accept, message(Message::Open(open_b)), now);
    b.handle(Role::Accept, message(Message::Open(open_a)), now);
    a.handle(Role::Accept, message(Message::KeepAlive), now);
    b.handle(Role::Dial, message(Message::KeepAlive), now);
    assert_eq!((a.established(), b.established()), (Some(Role::Accept), Some(Role::Dial)));
}

#[test]
fn an_accepted_session_ends_the_dial_under_way_and_no_other_is_planned() {
    let now = Instant::now();
    let mut peer = Peer::new(config());
    peer.start(now);
    assert_eq!(peer.admit(now), Some(Role::Accept));
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    peer_outputs(&mut peer);
    // The peer's identifier is the lower one: the dial would win, and the peer may know already.
    peer.handle(Role::Accept, message(Message::Open(peer_open())), now);
    peer.handle(Role::Accept, message(Message::KeepAlive), now);
    assert_eq!(of_role(&peer_outputs(&mut peer), Role::Dial), "");
    peer.tick(now + secs(1));
    assert_eq!(of_role(&peer_outputs(&mut peer), Role::Dial), "close down");
    assert_eq!(peer.established(), Some(Role::Accept));
    peer.tick(now + secs(9));
    assert!(peer_outputs(&mut peer).iter().all(|(role, _)| *role == Role::Accept));
}

#[test]
fn a_dial_that_would_lose_ends_with_the_peers_open() {
    let now = Instant::now();
    let mut peer = Peer::new(config());
    peer.start(now);
    assert_eq!(peer.admit(now), Some(Role::Accept));
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    peer_outputs(&mut peer);
    let open = Open { router_id: Ipv4Addr::new(10, 0, 0, 9), ..peer_open() };
    peer.handle(Role::Accept, message(Message::Open(open)), now);
    assert_eq!(of_role(&peer_outputs(&mut peer), Role::Dial), "close down");
}

#[test]
fn a_second_connection_beside_a_session_is_refused() {
    let now = Instant::now();
    let mut peer = established_peer(config(), now);
    assert_eq!(peer.admit(now + secs(20)), None);
    assert_eq!(peer.state(), StateName::Established);
}

fn graceful_open() -> Open {
    let mut open = peer_open();
    open.capabilities.push(Capability::GracefulRestart(GracefulRestart::default()));
    open
}

/// The session is on this connection since `now`, and the peer has graceful restart.
fn graceful_session(on: Role, now: Instant) -> Peer {
    let mut peer = Peer::new(Config { passive: on != Role::Dial, ..config() });
    peer.start(now);
    if on != Role::Dial {
        assert_eq!(peer.admit(now), Some(on));
    }
    peer.handle(on, Input::Connected(BOTH.to_vec()), now);
    peer.handle(on, message(Message::Open(graceful_open())), now);
    peer.handle(on, message(Message::KeepAlive), now);
    assert_eq!(peer.established(), Some(on));
    peer_outputs(&mut peer);
    peer
}

/// RFC 4724 §4.2: it is the OPEN that says so, not the TCP connection.
#[test]
fn a_peer_with_graceful_restart_that_opens_again_has_restarted() {
    for (on, again) in [(Role::Dial, Role::Accept), (Role::Accept, Role::AcceptBeside)] {
        let now = Instant::now();
        let mut peer = graceful_session(on, now);
        let soon = now + Duration::from_millis(50);
        assert_eq!(peer.admit(soon), None, "a late SYN of a simultaneous open");
        let later = now + secs(20);
        assert_eq!(peer.admit(later), Some(again));
        peer.handle(again, Input::Connected(BOTH.to_vec()), later);
        assert_eq!(of_role(&peer_outputs(&mut peer), on), "", "the session goes on");
        assert_eq!(peer.established(), Some(on));
        peer.handle(again, message(Message::Open(graceful_open())), later);
        let out = peer_outputs(&mut peer);
        // No NOTIFICATION: it would take the routes back.
        assert_eq!(
            (of_role(&out, on), of_role(&out, again)),
            ("close down".into(), "keepalive".into())
        );
        peer.handle(again, message(Message::KeepAlive), later);
        assert_eq!(peer.established(), Some(again));
        peer.tick(later + secs(9));
        assert!(
            peer_outputs(&mut peer).iter().all(|(role, _)| *role == again),
            "nobody is dialled"
        );
    }
}

#[test]
fn whoever_connects_from_the_peers_address_ends_no_session() {
    let bad_as = Open::new(asn(1), HoldTime::DEFAULT, Ipv4Addr::new(10, 0, 0, 1), vec![]);
    let garbage =
        DecodeError { notification: Notification::new(1, 1), reason: "the marker is not all ones" };
    let table = [
        ("says nothing", Input::Expired(Timer::Hold), "notify 4/0 close down"),
        ("hangs up", Input::Disconnected("closed".into()), "close down"),
        ("is no BGP", Input::Malformed(garbage), "notify 1/1 close down"),
        ("is another AS", message(Message::Open(bad_as)), "notify 2/2 close down"),
        ("begins with a KEEPALIVE", message(Message::KeepAlive), "notify 5/1 close down"),
    ];
    for on in [Role::Dial, Role::Accept] {
        for (name, does, answer) in &table {
            let now = Instant::now() + secs(20);
            let mut peer = graceful_session(on, now - secs(20));
            let role = peer.admit(now).unwrap();
            peer.handle(role, Input::Connected(BOTH.to_vec()), now);
            peer_outputs(&mut peer);
            peer.handle(role, does.clone(), now);
            let out = peer_outputs(&mut peer);
            assert_eq!(of_role(&out, role), *answer, "{name}");
            assert_eq!((of_role(&out, on).as_str(), peer.established()), ("", Some(on)), "{name}");
        }
    }
}

#[test]
fn of_connections_without_an_open_two_wait_and_the_newest_takes_the_place_of_one() {
    let now = Instant::now();
    let mut peer = Peer::new(Config { passive: true, ..config() });
    peer.start(now);
    for role in [Role::Accept, Role::AcceptBeside] {
        assert_eq!(peer.admit(now), Some(role));
        peer.handle(role, Input::Connected(BOTH.to_vec()), now);
        assert_eq!(of_role(&peer_outputs(&mut peer), role), "open");
    }
    assert_eq!(peer.admit(now), Some(Role::Accept));
    assert_eq!(of_role(&peer_outputs(&mut peer), Role::Accept), "notify 6/7 close down");
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    peer_outputs(&mut peer);
    // Of two that the peer opened and speaks on, the one of its last word.
    peer.handle(Role::AcceptBeside, message(Message::Open(peer_open())), now);
    peer.handle(Role::Accept, message(Message::Open(peer_open())), now);
    let out = peer_outputs(&mut peer);
    assert_eq!(of_role(&out, Role::AcceptBeside), "keepalive notify 6/7 close down");
    peer.handle(Role::Accept, message(Message::KeepAlive), now);
    assert_eq!(peer.established(), Some(Role::Accept));
}

#[test]
fn connections_of_one_address_are_few() {
    let now = Instant::now();
    let mut peer = Peer::new(config());
    peer.start(now);
    let mut admitted = 0;
    for _ in 0..1000 {
        if let Some(role) = peer.admit(now) {
            admitted += 1;
            peer.handle(role, Input::Connected(BOTH.to_vec()), now);
        }
        peer_outputs(&mut peer);
    }
    assert!(admitted <= 8, "{admitted}");
    assert!(peer.admit(now + secs(1)).is_some(), "and not for long");
}
