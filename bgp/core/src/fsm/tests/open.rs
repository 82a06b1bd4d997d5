//! What our OPEN says, and which of the peer's we accept.

use super::*;

fn our_open(config: Config, families: &[Family]) -> Open {
    let now = Instant::now();
    let mut fsm = connection(config, Role::Dial);
    fsm.handle(Input::Start, now);
    fsm.handle(Input::Connected(families.to_vec()), now);
    match outputs(&mut fsm).pop() {
        Some(Output::Send(Message::Open(open))) => open,
        other => panic!("{other:?}"),
    }
}

fn graceful(open: &Open) -> Option<GracefulRestart> {
    open.capabilities.iter().find_map(|c| match c {
        Capability::GracefulRestart(gr) => Some(gr.clone()),
        _ => None,
    })
}

/// Answer to a peer's OPEN: outputs and the reason.
fn answer(config: Config, open: Open) -> (String, String) {
    let now = Instant::now();
    let mut fsm = connection(config, Role::Dial);
    fsm.handle(Input::Start, now);
    fsm.handle(Input::Connected(vec![Family::IPV4_UNICAST]), now);
    outputs(&mut fsm);
    fsm.handle(message(Message::Open(open)), now);
    let out = outputs(&mut fsm);
    let reason = match out.last() {
        Some(Output::Down(down)) => down.reason.to_string(),
        _ => String::new(),
    };
    (names(&out), reason)
}

#[test]
fn we_offer_the_families_that_have_a_next_hop() {
    let open = our_open(config(), &[Family::IPV6_UNICAST]);
    assert!(open.capabilities.contains(&Capability::Multiprotocol(Family::IPV6_UNICAST)));
    assert!(!open.capabilities.contains(&Capability::Multiprotocol(Family::IPV4_UNICAST)));
    let families: Vec<_> = graceful(&open).unwrap().families.iter().map(|f| f.family).collect();
    assert_eq!(families, [Family::IPV6_UNICAST]);
}

#[test]
fn a_four_octet_as_is_as_trans_in_the_header() {
    let config = Config { local_asn: asn(4_200_000_000), ..config() };
    let open = our_open(config, &BOTH);
    assert_eq!((open.my_as, open.asn()), (23456, asn(4_200_000_000)));
}

#[test]
fn graceful_restart_can_be_turned_off_and_is_cut_to_12_bits() {
    assert_eq!(graceful(&our_open(Config { restart_time_s: None, ..config() }, &BOTH)), None);
    let open = our_open(Config { restart_time_s: Some(u16::MAX), ..config() }, &BOTH);
    assert_eq!(graceful(&open).unwrap().time_s, 4095);
}

#[test]
fn restart_flags_of_the_first_and_of_later_sessions() {
    for (restarted, first_flags) in [(true, (true, true)), (false, (false, false))] {
        let now = Instant::now();
        let mut peer = Peer::new(Config { restarted, ..config() });
        peer.start(now);
        let mut seen = Vec::new();
        for round in 0..2 {
            let at = now + secs(100 * round);
            peer.tick(at);
            peer.handle(Role::Dial, Input::Connected(BOTH.to_vec()), at);
            peer.handle(Role::Dial, message(Message::Open(peer_open())), at);
            peer.handle(Role::Dial, message(Message::KeepAlive), at);
            peer.handle(Role::Dial, Input::Disconnected("reset".into()), at + secs(20));
            for (_, output) in peer_outputs(&mut peer) {
                if let Output::Send(Message::Open(open)) = output {
                    let gr = graceful(&open).unwrap();
                    seen.push((gr.restarting, gr.families[0].forwarding));
                }
            }
        }
        assert_eq!(seen, [first_flags, (false, true)], "restarted: {restarted}");
    }
}

#[test]
fn opens_of_the_peer() {
    let id = Ipv4Addr::new(10, 0, 0, 1);
    let open = |n, caps: Vec<Capability>| Open::new(asn(n), HoldTime::DEFAULT, id, caps);
    let v4 = || vec![Capability::Multiprotocol(Family::IPV4_UNICAST)];
    let plain =
        Open { my_as: 64513, hold_time: HoldTime::DEFAULT, router_id: id, capabilities: vec![] };
    let wide = Config { peer_asn: asn(4_200_000_001), ..config() };
    let internal = Config { peer_asn: asn(64512), ..config() };
    let two_as = Open { my_as: 64999, ..open(64513, v4()) };
    let same_id = Open { router_id: config().router_id, ..open(64512, v4()) };
    let same_id_external = Open { router_id: config().router_id, ..open(64513, v4()) };
    let v6_only = open(64513, vec![Capability::Multiprotocol(Family::IPV6_UNICAST)]);
    let accepted = "keepalive";
    #[rustfmt::skip]
    let table: Vec<(&str, Config, Open, &str, &str)> = vec![
        ("as configured", config(), open(64513, v4()), accepted, ""),
        ("no capability at all", config(), plain.clone(), accepted, ""),
        ("four octets and AS_TRANS", wide.clone(), open(4_200_000_001, v4()), accepted, ""),
        ("two octets where four are configured", wide, plain, "notify 2/2 close down",
            "sent OPEN Message Error/Bad Peer AS (2/2): the peer is in AS 64513, configured is AS 4200000001"),
        ("another AS", config(), open(64514, v4()), "notify 2/2 close down",
            "sent OPEN Message Error/Bad Peer AS (2/2): the peer is in AS 64514, configured is AS 64513"),
        ("two different ASes", config(), two_as, "notify 2/2 close down",
            "sent OPEN Message Error/Bad Peer AS (2/2): the peer's OPEN has AS 64999 in its header, AS 64513 in its capability"),
        ("our identifier in our AS", internal, same_id, "notify 2/3 close down",
            "sent OPEN Message Error/Bad BGP Identifier (2/3): the peer has our own router id 10.0.0.2"),
        ("our identifier in another AS (RFC 6286)", config(), same_id_external, accepted, ""),
        ("no family in common", config(), v6_only, "notify 2/7 close down",
            "sent OPEN Message Error/Unsupported Capability (2/7): no address family in common: we offer ipv4-unicast"),
    ];
    for (name, config, open, outputs, reason) in table {
        assert_eq!(answer(config, open), (outputs.to_owned(), reason.to_owned()), "{name}");
    }
}

#[test]
fn unsupported_capability_lists_what_we_need() {
    let now = Instant::now();
    let mut fsm = in_state(StateName::Connect, now);
    fsm.handle(Input::Connected(vec![Family::IPV6_UNICAST]), now);
    let v4 = vec![Capability::Multiprotocol(Family::IPV4_UNICAST)];
    let open = Open::new(asn(64513), HoldTime::DEFAULT, Ipv4Addr::new(10, 0, 0, 1), v4);
    fsm.handle(message(Message::Open(open)), now);
    let sent = outputs(&mut fsm).into_iter().find_map(|o| match o {
        Output::Send(Message::Notification(n)) => Some(n),
        _ => None,
    });
    // RFC 5492 §5: code 1, 4 octets, AFI 2, reserved, SAFI 1.
    assert_eq!(sent.unwrap().data, [1, 4, 0, 2, 0, 1]);
}
