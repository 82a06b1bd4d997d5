//! Hold, keepalive and send hold timers, and dials without an answer.

use super::*;

#[test]
fn keepalives_go_out_at_75_to_100_percent_of_a_third_of_the_hold_time() {
    let start = Instant::now();
    let mut fsm = in_state(StateName::Established, start);
    // The peer proposed 30 s, we 90.
    let mut last = start;
    for _ in 0..50 {
        // Something from the peer, so that its silence does not end the session.
        fsm.handle(message(Message::KeepAlive), last);
        let at = fsm.next_deadline().unwrap();
        assert!(at >= last + secs(10) * 3 / 4 && at <= last + secs(10), "{:?}", at - last);
        fsm.tick(at);
        assert_eq!(names(&outputs(&mut fsm)), "keepalive");
        last = at;
    }
}

#[test]
fn a_silent_peer_is_dropped_after_the_hold_time_and_not_before() {
    let start = Instant::now();
    let mut fsm = in_state(StateName::Established, start);
    fsm.tick(start + secs(30) - Duration::from_millis(1));
    assert_eq!(fsm.state().name(), StateName::Established);
    outputs(&mut fsm);
    fsm.tick(start + secs(30));
    let out = outputs(&mut fsm);
    assert_eq!(names(&out), "notify 4/0 close down");
    let Some(Output::Down(down)) = out.last() else { panic!("{out:?}") };
    assert_eq!(down.uptime, Some(secs(30)));
    assert_eq!(
        down.reason.to_string(),
        "sent Hold Timer Expired (4/0): the peer was silent for too long"
    );
}

#[test]
fn updates_and_keepalives_restart_the_hold_timer() {
    let start = Instant::now();
    for input in [Message::KeepAlive, Message::Update(Update::default())] {
        let mut fsm = in_state(StateName::Established, start);
        fsm.handle(message(input), start + secs(29));
        fsm.tick(start + secs(58));
        assert_eq!(fsm.state().name(), StateName::Established);
    }
}

#[test]
fn hold_time_zero_means_no_keepalives_and_no_expiry() {
    let start = Instant::now();
    let mut fsm = connection(Config { hold_time: HoldTime::OFF, ..config() }, Role::Dial);
    for input in [
        Input::Start,
        Input::Connected(BOTH.to_vec()),
        message(Message::Open(peer_open())),
        message(Message::KeepAlive),
    ] {
        fsm.handle(input, start);
    }
    assert_eq!(fsm.state().name(), StateName::Established);
    assert_eq!(fsm.next_deadline(), None);
}

#[test]
fn a_peer_without_an_open_is_given_a_minute() {
    let start = Instant::now();
    let mut fsm = in_state(StateName::OpenSent, start);
    assert_eq!(fsm.next_deadline(), Some(start + secs(60)));
    fsm.tick(start + secs(60));
    assert_eq!(names(&outputs(&mut fsm)), "notify 4/0 close down");
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_after_the_send_hold_time() {
    let start = Instant::now();
    let mut fsm = in_state(StateName::Established, start);
    fsm.handle(Input::Writes(Writes::Blocked), start);
    fsm.handle(Input::Writes(Writes::Blocked), start + secs(1));
    // Progress gives it the whole time again.
    fsm.handle(Input::Writes(Writes::Moving), start + secs(2));
    for s in 1..=48 {
        fsm.handle(message(Message::KeepAlive), start + secs(s * 10));
        fsm.tick(start + secs(s * 10));
    }
    assert_eq!(fsm.state().name(), StateName::Established);
    outputs(&mut fsm);
    fsm.handle(message(Message::KeepAlive), start + secs(482));
    fsm.tick(start + secs(482));
    assert_eq!(names(&outputs(&mut fsm)), "notify 8/0 close down");
}

#[test]
fn drained_writes_stop_the_send_hold_timer() {
    let start = Instant::now();
    let mut fsm = in_state(StateName::Established, start);
    fsm.handle(Input::Writes(Writes::Blocked), start);
    fsm.handle(Input::Writes(Writes::Drained), start + secs(1));
    fsm.handle(message(Message::KeepAlive), start + secs(1000));
    fsm.tick(start + secs(1000));
    assert_eq!(fsm.state().name(), StateName::Established);
}

#[test]
fn a_dial_without_an_answer_is_started_anew() {
    let start = Instant::now();
    let mut fsm = in_state(StateName::Connect, start);
    let at = fsm.next_deadline().unwrap();
    assert!(at >= start + secs(5) * 3 / 4 && at <= start + secs(5));
    fsm.tick(at);
    assert_eq!(names(&outputs(&mut fsm)), "close dial");
    assert!(fsm.next_deadline().unwrap() > at);
}
