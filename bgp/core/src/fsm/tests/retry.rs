//! When a peer is dialled, and when its connections are refused.

use super::*;
use crate::wire::notification::{cease, code};

fn dials(peer: &mut Peer) -> usize {
    peer_outputs(peer).iter().filter(|(_, o)| *o == Output::Dial).count()
}

#[test]
fn the_first_dial_is_at_once_and_the_waits_double_up_to_connect_retry() {
    let mut now = Instant::now();
    let mut peer = Peer::new(Config { connect_retry: secs(30), ..config() });
    peer.start(now);
    assert_eq!(dials(&mut peer), 1);
    for base in [1, 2, 4, 8, 16, 30, 30] {
        peer.handle(Role::Dial, Input::Disconnected("connection refused".into()), now);
        assert_eq!(peer.state(), StateName::Active);
        let at = peer.next_deadline().unwrap();
        assert!(at >= now + secs(base) * 3 / 4 && at <= now + secs(base), "{:?}", at - now);
        peer.tick(at - Duration::from_millis(1));
        assert_eq!(dials(&mut peer), 0);
        peer.tick(at);
        assert_eq!(dials(&mut peer), 1);
        now = at;
    }
}

#[test]
fn a_session_that_held_is_dialled_again_within_100_ms_and_may_come_back_by_itself() {
    let now = Instant::now();
    let reset = Notification::shutdown(cease::ADMIN_RESET, "");
    let ends = [
        Input::Disconnected("connection reset".into()),
        message(Message::Notification(reset)),
        Input::Expired(Timer::Hold),
    ];
    for end in ends {
        let mut peer = established_peer(config(), now);
        let down = now + secs(60);
        peer.handle(Role::Dial, end, down);
        assert!(peer.next_deadline().unwrap() <= down + Duration::from_millis(100));
        assert_eq!(peer.admit(down), Some(Role::Accept), "the peer may be faster");
    }
}

#[test]
fn a_session_that_is_dropped_at_once_is_not_dialled_in_a_rush() {
    let now = Instant::now();
    let mut peer = established_peer(config(), now);
    peer.handle(Role::Dial, Input::Disconnected("reset".into()), now + Duration::from_millis(5));
    assert!(peer.next_deadline().unwrap() >= now + Duration::from_millis(750));
}

#[test]
fn an_accepted_session_that_is_lost_is_dialled() {
    let now = Instant::now();
    let mut peer = Peer::new(config());
    peer.start(now);
    assert_eq!(peer.admit(now), Some(Role::Accept));
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    peer.handle(Role::Accept, message(Message::Open(peer_open())), now);
    peer.handle(Role::Accept, message(Message::KeepAlive), now);
    peer_outputs(&mut peer);
    peer.handle(Role::Accept, Input::Disconnected("reset".into()), now + secs(10));
    peer.tick(now + secs(10) + Duration::from_millis(100));
    assert_eq!(dials(&mut peer), 1);
}

#[test]
fn a_peer_that_fails_the_handshake_is_refused_for_a_while() {
    let now = Instant::now();
    let mut peer = Peer::new(Config { passive: true, ..config() });
    peer.start(now);
    assert_eq!(peer.admit(now), Some(Role::Accept));
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    peer.handle(Role::Accept, message(Message::KeepAlive), now);
    assert_eq!(peer.state(), StateName::Active);
    assert_eq!(peer.admit(now + Duration::from_millis(500)), None);
    assert_eq!(peer.admit(now + secs(1)), Some(Role::Accept));
}

#[test]
fn a_collision_that_the_peer_resolved_is_no_fault() {
    let now = Instant::now();
    let mut peer = Peer::new(config());
    peer.start(now);
    assert_eq!(peer.admit(now), Some(Role::Accept));
    peer.handle(Role::Accept, Input::Connected(BOTH.to_vec()), now);
    let collision = Notification::new(code::CEASE, cease::COLLISION);
    peer.handle(Role::Accept, message(Message::Notification(collision)), now);
    assert_eq!(peer.admit(now), Some(Role::Accept));
}

#[test]
fn a_passive_peer_is_never_dialled() {
    let now = Instant::now();
    let mut peer = Peer::new(Config { passive: true, ..config() });
    peer.start(now);
    assert_eq!(
        (peer.state(), peer.next_deadline(), dials(&mut peer)),
        (StateName::Active, None, 0)
    );
}

#[test]
fn a_stopped_peer_says_why_and_stays_down() {
    let now = Instant::now();
    let mut peer = established_peer(config(), now);
    peer.stop(Notification::shutdown(cease::ADMIN_SHUTDOWN, "upgrade"), now);
    let out = peer_outputs(&mut peer);
    let Some((Role::Dial, Output::Send(Message::Notification(n)))) = out.first() else {
        panic!("{out:?}")
    };
    assert_eq!(n.shutdown_text().as_deref(), Some("upgrade"));
    assert_eq!((peer.state(), peer.next_deadline()), (StateName::Idle, None));
    assert_eq!(peer.admit(now), None);
}
