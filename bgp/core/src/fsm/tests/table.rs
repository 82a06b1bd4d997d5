//! The whole table: each state with each input, what it becomes and what is done.

use super::*;
use crate::wire::notification::{cease, code};

const STATES: [StateName; 6] = [
    StateName::Idle,
    StateName::Connect,
    StateName::Active,
    StateName::OpenSent,
    StateName::OpenConfirm,
    StateName::Established,
];

/// Input, then a cell for each of [`STATES`]: next state and outputs; "=" for no change and nothing to do.
const END: &str = "Idle: close down";
#[rustfmt::skip]
const TABLE: &[(&str, [&str; 6])] = &[
    //                    Idle             Connect               Active            OpenSent                       OpenConfirm                     Established
    ("start",             ["Connect: dial", "=",                  "=",              "=",                           "=",                            "="]),
    ("stop",              ["=",             END,                  END,              "Idle: notify 6/2 close down", "Idle: notify 6/2 close down",  "Idle: notify 6/2 close down"]),
    ("connect-retry",     ["=",             "Connect: close dial", "=",             "=",                           "=",                            "="]),
    ("hold timer",        ["=",             "=",                  "=",              "Idle: notify 4/0 close down", "Idle: notify 4/0 close down",  "Idle: notify 4/0 close down"]),
    ("keepalive timer",   ["=",             "=",                  "=",              "=",                           "OpenConfirm: keepalive",       "Established: keepalive"]),
    ("send hold timer",   ["=",             "=",                  "=",              "=",                           "Idle: notify 8/0 close down",  "Idle: notify 8/0 close down"]),
    ("connected",         ["=",             "OpenSent: open",     "OpenSent: open", "=",                           "=",                            "="]),
    ("no next hop",       ["=",             END,                  END,              "=",                           "=",                            "="]),
    ("disconnected",      ["=",             END,                  END,              END,                           END,                            END]),
    ("collision lost",    ["=",             END,                  END,              "Idle: notify 6/7 close down", "Idle: notify 6/7 close down",  END]),
    ("malformed",         ["=",             "=",                  "=",              "Idle: notify 1/1 close down", "Idle: notify 1/1 close down",  "Idle: notify 1/1 close down"]),
    ("OPEN",              ["=",             "=",                  "=",              "OpenConfirm: keepalive",      "Idle: notify 5/2 close down",  "Idle: notify 5/3 close down"]),
    ("OPEN, bad AS",      ["=",             "=",                  "=",              "Idle: notify 2/2 close down", "Idle: notify 5/2 close down",  "Idle: notify 5/3 close down"]),
    ("KEEPALIVE",         ["=",             "=",                  "=",              "Idle: notify 5/1 close down", "Established: up",              "="]),
    ("UPDATE",            ["=",             "=",                  "=",              "Idle: notify 5/1 close down", "Idle: notify 5/2 close down",  "Established: update"]),
    ("UPDATE, fatal",     ["=",             "=",                  "=",              "Idle: notify 5/1 close down", "Idle: notify 5/2 close down",  "Idle: notify 3/1 close down"]),
    ("NOTIFICATION",      ["=",             "=",                  "=",              END,                           END,                            END]),
    ("ROUTE-REFRESH",     ["=",             "=",                  "=",              "Idle: notify 5/1 close down", "Idle: notify 5/2 close down",  "Established: refresh"]),
    ("ROUTE-REFRESH end", ["=",             "=",                  "=",              "Idle: notify 5/1 close down", "Idle: notify 5/2 close down",  "="]),
    ("writes blocked",    ["=",             "=",                  "=",              "=",                           "=",                            "="]),
    ("writes moving",     ["=",             "=",                  "=",              "=",                           "=",                            "="]),
    ("writes drained",    ["=",             "=",                  "=",              "=",                           "=",                            "="]),
];

fn inputs() -> Vec<(&'static str, Input)> {
    let shutdown = Notification::shutdown(cease::ADMIN_SHUTDOWN, "maintenance");
    let bad_as = Open::new(asn(1), HoldTime::DEFAULT, Ipv4Addr::new(10, 0, 0, 1), vec![]);
    let garbage =
        DecodeError { notification: Notification::new(code::HEADER, 1), reason: "not BGP" };
    let fatal = AttributeError {
        attribute: None,
        action: Action::SessionReset,
        family: None,
        notification: Notification::new(code::UPDATE, 1),
        reason: "attributes overrun",
    };
    let refresh = |subtype| {
        message(Message::RouteRefresh(RouteRefresh { family: Family::IPV6_UNICAST, subtype }))
    };
    vec![
        ("start", Input::Start),
        ("stop", Input::Stop(shutdown.clone())),
        ("connect-retry", Input::Expired(Timer::ConnectRetry)),
        ("hold timer", Input::Expired(Timer::Hold)),
        ("keepalive timer", Input::Expired(Timer::Keepalive)),
        ("send hold timer", Input::Expired(Timer::SendHold)),
        ("connected", Input::Connected(BOTH.to_vec())),
        ("no next hop", Input::Connected(vec![])),
        ("disconnected", Input::Disconnected("connection refused".into())),
        ("collision lost", Input::CollisionLost),
        ("malformed", Input::Malformed(garbage)),
        ("OPEN", message(Message::Open(peer_open()))),
        ("OPEN, bad AS", message(Message::Open(bad_as))),
        ("KEEPALIVE", message(Message::KeepAlive)),
        ("UPDATE", message(Message::Update(Update::end_of_rib(Family::IPV4_UNICAST)))),
        (
            "UPDATE, fatal",
            message(Message::Update(Update { errors: vec![fatal], ..Update::default() })),
        ),
        ("NOTIFICATION", message(Message::Notification(shutdown))),
        ("ROUTE-REFRESH", refresh(RefreshSubtype::Request)),
        ("ROUTE-REFRESH end", refresh(RefreshSubtype::End)),
        ("writes blocked", Input::Writes(Writes::Blocked)),
        ("writes moving", Input::Writes(Writes::Moving)),
        ("writes drained", Input::Writes(Writes::Drained)),
    ]
}

#[test]
fn every_state_with_every_input() {
    let now = Instant::now();
    let inputs = inputs();
    assert_eq!(
        TABLE.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        inputs.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "the table has a row per input, in the same order"
    );
    let mut wrong = Vec::new();
    for ((name, cells), (_, input)) in TABLE.iter().zip(&inputs) {
        for (state, cell) in STATES.iter().zip(cells) {
            let mut fsm = in_state(*state, now);
            fsm.handle(input.clone(), now);
            let done = names(&outputs(&mut fsm));
            let got = match (fsm.state().name(), done.as_str()) {
                (next, "") if next == *state => "=".to_owned(),
                (next, done) => format!("{next}: {done}"),
            };
            if got != *cell {
                wrong.push(format!("{state} × {name}: got {got:?}, the table says {cell:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn idle_runs_no_timer() {
    let now = Instant::now();
    for (name, input) in inputs() {
        for state in STATES {
            let mut fsm = in_state(state, now);
            fsm.handle(input.clone(), now);
            if fsm.state().name() == StateName::Idle {
                assert_eq!(fsm.next_deadline(), None, "{state} × {name}");
            }
        }
    }
}
