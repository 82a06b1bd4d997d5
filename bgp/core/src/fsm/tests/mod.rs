//! Tests of the state machine: the whole table, timers, OPEN, collisions.

mod collision;
mod open;
mod retry;
mod table;
mod timing;

use super::*;
use crate::wire::*;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BOTH: [Family; 2] = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];

fn asn(n: u32) -> Asn {
    Asn::new(n).unwrap()
}

/// We are AS 64512 at 10.0.0.2; the peer is AS 64513 at 10.0.0.1.
fn config() -> Config {
    let mut config = Config::new(asn(64512), Ipv4Addr::new(10, 0, 0, 2), asn(64513));
    config.restart_time_s = Some(120);
    config
}

fn peer_open() -> Open {
    let capabilities = vec![
        Capability::Multiprotocol(Family::IPV4_UNICAST),
        Capability::Multiprotocol(Family::IPV6_UNICAST),
        Capability::RouteRefresh,
    ];
    Open::new(asn(64513), HoldTime::new(30).unwrap(), Ipv4Addr::new(10, 0, 0, 1), capabilities)
}

fn message(message: Message) -> Input {
    Input::Message(message)
}

fn connection(config: Config, role: Role) -> Fsm {
    let flags = RestartFlags::first(config.restarted);
    Fsm::new(Arc::new(config), role, flags, Jitter::new(1))
}

fn outputs(fsm: &mut Fsm) -> Vec<Output> {
    std::iter::from_fn(|| fsm.poll_output()).collect()
}

fn peer_outputs(peer: &mut Peer) -> Vec<(Role, Output)> {
    std::iter::from_fn(|| peer.poll_output()).collect()
}

/// A dialled connection in this state, outputs taken.
fn in_state(state: StateName, now: Instant) -> Fsm {
    let role = if state == StateName::Active { Role::Accept } else { Role::Dial };
    let mut fsm = connection(config(), role);
    let way = [
        (StateName::Idle, None),
        (StateName::Active, Some(Input::Start)),
        (StateName::Connect, Some(Input::Start)),
        (StateName::OpenSent, Some(Input::Connected(BOTH.to_vec()))),
        (StateName::OpenConfirm, Some(message(Message::Open(peer_open())))),
        (StateName::Established, Some(message(Message::KeepAlive))),
    ];
    for (reached, input) in way {
        if reached > state || (reached == StateName::Active && state != reached) {
            continue;
        }
        if let Some(input) = input {
            fsm.handle(input, now);
        }
    }
    assert_eq!(fsm.state().name(), state);
    outputs(&mut fsm);
    fsm
}

/// A peer whose dialled connection has a session since `now`.
fn established_peer(config: Config, now: Instant) -> Peer {
    let mut peer = Peer::new(config);
    peer.start(now);
    peer.handle(Role::Dial, Input::Connected(BOTH.to_vec()), now);
    peer.handle(Role::Dial, message(Message::Open(peer_open())), now);
    peer.handle(Role::Dial, message(Message::KeepAlive), now);
    assert_eq!(peer.state(), StateName::Established);
    peer_outputs(&mut peer);
    peer
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// "dial", "open", "notify 6/2", "close", "down": outputs as the table writes them.
fn names(outputs: &[Output]) -> String {
    let name = |output: &Output| match output {
        Output::Dial => "dial".to_owned(),
        Output::Send(Message::Open(_)) => "open".to_owned(),
        Output::Send(Message::KeepAlive) => "keepalive".to_owned(),
        Output::Send(Message::Notification(n)) => format!("notify {}/{}", n.code, n.subcode),
        Output::Send(other) => format!("{other:?}"),
        Output::Close => "close".to_owned(),
        Output::Up(_) => "up".to_owned(),
        Output::Update(_) => "update".to_owned(),
        Output::Refresh(_) => "refresh".to_owned(),
        Output::Down(_) => "down".to_owned(),
    };
    outputs.iter().map(name).collect::<Vec<_>>().join(" ")
}
