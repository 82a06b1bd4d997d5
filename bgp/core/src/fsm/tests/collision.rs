//! Two connections to one peer (RFC 4271 §6.8, RFC 6286 §2.3, RFC 4724 §5).

use super::*;

/// Both transports are there and our OPENs are out.
fn both_open_sent(config: Config, now: Instant) -> Peer {
    let mut peer = Peer::new(config);
    peer.start(now);
    peer.handle(Role::Dial, Input::Connected(BOTH.to_vec()), now);
    assert!(peer.admit(now));
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
        // (peer's identifier, on which the OPEN comes, which survives)
        (low, Role::Dial, Role::Dial),
        (low, Role::Accept, Role::Dial),
        (high, Role::Dial, Role::Accept),
        (high, Role::Accept, Role::Accept),
    ];
    for (router_id, arrives, survives) in table {
        let now = Instant::now();
        let mut peer = both_open_sent(config(), now);
        let open = Open { router_id, ..peer_open() };
        peer.handle(arrives, message(Message::Open(open.clone())), now);
        let first = peer_outputs(&mut peer);
        if arrives != survives {
            assert_eq!(of_role(&first, arrives), "notify 6/7 close down");
            peer.handle(survives, message(Message::Open(open)), now);
        } else {
            let loser = if survives == Role::Dial { Role::Accept } else { Role::Dial };
            assert_eq!(of_role(&first, loser), "notify 6/7 close down");
        }
        peer.handle(survives, message(Message::KeepAlive), now);
        assert_eq!(peer.established(), Some(survives), "{router_id} {arrives:?}");
    }
}

#[test]
fn equal_identifiers_are_decided_by_the_as() {
    let now = Instant::now();
    // Ours is 64512, so the peer's 64513 wins.
    let mut peer = both_open_sent(config(), now);
    let open = Open { router_id: config().router_id, ..peer_open() };
    peer.handle(Role::Accept, message(Message::Open(open)), now);
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
    assert!(peer.admit(now));
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    peer_outputs(&mut peer);
    peer.handle(Role::Accept, message(Message::Open(peer_open())), now);
    assert_eq!(of_role(&peer_outputs(&mut peer), Role::Dial), "close down");
    peer.handle(Role::Accept, message(Message::KeepAlive), now);
    peer.tick(now + secs(9));
    assert!(peer_outputs(&mut peer).iter().all(|(role, _)| *role == Role::Accept));
}

#[test]
fn a_second_connection_beside_a_session_is_refused() {
    let now = Instant::now();
    let mut peer = established_peer(config(), now);
    assert!(!peer.admit(now + secs(20)));
    assert_eq!(peer.state(), StateName::Established);
}

#[test]
fn a_peer_with_graceful_restart_that_connects_again_has_restarted() {
    let now = Instant::now();
    let mut peer = Peer::new(config());
    peer.start(now);
    let mut open = peer_open();
    open.capabilities.push(Capability::GracefulRestart(GracefulRestart::default()));
    peer.handle(Role::Dial, Input::Connected(BOTH.to_vec()), now);
    peer.handle(Role::Dial, message(Message::Open(open)), now);
    peer.handle(Role::Dial, message(Message::KeepAlive), now);
    peer_outputs(&mut peer);
    assert!(!peer.admit(now + Duration::from_millis(50)), "a late SYN of a simultaneous open");
    assert!(peer.admit(now + secs(20)));
    // No NOTIFICATION: it would take the routes back.
    assert_eq!(of_role(&peer_outputs(&mut peer), Role::Dial), "close down");
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now + secs(20));
    assert_eq!(peer.state(), StateName::OpenSent);
}

#[test]
fn the_peers_newer_connection_replaces_one_that_got_nowhere() {
    let now = Instant::now();
    let mut peer = Peer::new(Config { passive: true, ..config() });
    peer.start(now);
    assert!(peer.admit(now));
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    peer_outputs(&mut peer);
    assert!(peer.admit(now));
    assert_eq!(of_role(&peer_outputs(&mut peer), Role::Accept), "notify 6/7 close down");
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    assert_eq!(of_role(&peer_outputs(&mut peer), Role::Accept), "open");
}
