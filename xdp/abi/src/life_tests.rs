//! Lives of flows, packet by packet, and what forged packets do to them.

use super::*;

const HOUR: u32 = 3600;
/// Where the client and the backend begin.
const CLIENT: u32 = 0xffff_ff00;
const BACKEND: u32 = 77;

fn tcp(flags: u8, sequence: u32, acknowledgment: u32) -> Signs {
    Signs { transport: Transport::Tcp, flags, sequence, acknowledgment }
}

fn of(transport: Transport, flags: u8) -> Signs {
    Signs { transport, flags, sequence: 0, acknowledgment: 0 }
}

fn begun(first: &Signs) -> Flow {
    let mut flow = Flow { idle_timeout_s: 2 * HOUR, ..Flow::default() };
    flow.begin(first);
    flow
}

/// After a handshake.
fn established() -> Flow {
    let mut flow = begun(&tcp(SYN, CLIENT, 0));
    assert_eq!(flow.timeout_s(), OPENING_TIMEOUT_S);
    assert!(!flow.sent_by_backend(&tcp(SYN | ACK, BACKEND, CLIENT.wrapping_add(1))));
    assert_eq!(flow.timeout_s(), OPENING_TIMEOUT_S, "the client may be forged");
    assert!(flow.sent_by_client(&tcp(ACK, CLIENT.wrapping_add(1), BACKEND + 1)));
    flow
}

#[test]
fn a_handshake_confirms() {
    let flow = established();
    assert_eq!((flow.timeout_s(), flow.sequence), (2 * HOUR, CLIENT.wrapping_add(1)));
}

#[test]
fn what_is_forged_confirms_nothing() {
    let mut flow = begun(&tcp(SYN, CLIENT, 0));
    flow.sent_by_backend(&tcp(SYN | ACK, BACKEND, CLIENT.wrapping_add(1)));
    assert!(!flow.sent_by_client(&tcp(ACK, CLIENT.wrapping_add(1), 0x1234_5678)), "a guess");
    assert!(!flow.sent_by_backend(&tcp(RST, 0x1234_5678, 0)));
    // A segment out of nowhere.
    let mut flow = begun(&tcp(ACK, 5, 6));
    assert_eq!(flow.timeout_s(), UNANSWERED_TIMEOUT_S);
    assert!(!flow.sent_by_client(&tcp(ACK, 5, 6)));
    assert!(!flow.sent_by_backend(&tcp(RST, 6, 0)));
    assert_eq!(flow.timeout_s(), CLOSING_TIMEOUT_S);
}

#[test]
fn a_connection_met_in_the_middle_is_confirmed_by_its_backend() {
    let mut flow = begun(&tcp(ACK, 5, 6));
    assert!(flow.sent_by_backend(&tcp(ACK, 6, 900)));
    assert_eq!((flow.timeout_s(), flow.sequence), (2 * HOUR, 900));
}

/// A SYN that was forged, or came twice, does not hide that the backend has a connection.
#[test]
fn a_backend_that_goes_on_confirms_what_seems_to_open() {
    let mut flow = begun(&tcp(SYN, CLIENT, 0));
    assert!(flow.sent_by_backend(&tcp(ACK, BACKEND, 900)));
    assert_eq!((flow.timeout_s(), flow.sequence), (2 * HOUR, 900));
}

#[test]
fn datagrams_are_confirmed_by_the_second_after_an_answer() {
    let datagram = of(Transport::Udp, 0);
    let mut flow = begun(&datagram);
    assert_eq!(flow.timeout_s(), UNANSWERED_TIMEOUT_S);
    assert!(!flow.sent_by_client(&datagram));
    assert!(!flow.sent_by_backend(&datagram));
    assert_eq!(flow.timeout_s(), 2 * HOUR);
    assert!(flow.sent_by_client(&datagram));
}

/// INIT is answered to anybody, and a packet with a wrong tag with ABORT.
#[test]
fn associations_are_confirmed_by_a_backend_that_has_one() {
    let packet = |flags| of(Transport::Sctp, flags);
    let mut flow = begun(&packet(SYN));
    assert_eq!(flow.timeout_s(), OPENING_TIMEOUT_S);
    assert!(!flow.sent_by_backend(&packet(SYN)), "INIT ACK");
    assert!(!flow.sent_by_client(&packet(0)));
    assert!(!flow.sent_by_backend(&packet(RST)));
    let mut flow = begun(&packet(SYN));
    assert!(!flow.sent_by_backend(&packet(SYN)));
    assert!(!flow.sent_by_client(&packet(0)));
    assert!(flow.sent_by_backend(&packet(0)), "COOKIE ACK");
    assert_eq!(flow.timeout_s(), 2 * HOUR);
}

/// A request with FIN, and an answer long after: the flow lasts as any idle one.
#[test]
fn half_closed_is_not_closing() {
    let mut flow = established();
    flow.sent_by_client(&tcp(FIN | ACK, CLIENT.wrapping_add(1), BACKEND + 1));
    flow.sent_by_backend(&tcp(ACK, BACKEND + 1, CLIENT.wrapping_add(2)));
    assert_eq!(flow.timeout_s(), 2 * HOUR);
    flow.sent_by_backend(&tcp(FIN | ACK, BACKEND + 1, CLIENT.wrapping_add(2)));
    assert_eq!(flow.timeout_s(), CLOSING_TIMEOUT_S);
    flow.sent_by_client(&tcp(ACK, CLIENT.wrapping_add(2), BACKEND + 2));
    assert_eq!(flow.timeout_s(), CLOSING_TIMEOUT_S, "the last acknowledgement opens nothing");
}

#[test]
fn resets_count_where_the_client_is() {
    let here = CLIENT.wrapping_add(1);
    for (offset, timeout_s) in [
        (0, CLOSING_TIMEOUT_S),
        (1000, CLOSING_TIMEOUT_S),
        (RESET_AHEAD, CLOSING_TIMEOUT_S),
        (RESET_AHEAD + 1, 2 * HOUR),
        (RESET_BEHIND.wrapping_neg(), CLOSING_TIMEOUT_S),
        ((RESET_BEHIND + 1).wrapping_neg(), 2 * HOUR),
        (1 << 31, 2 * HOUR),
    ] {
        let mut flow = established();
        flow.sent_by_client(&tcp(RST, here.wrapping_add(offset), 0));
        assert_eq!(flow.timeout_s(), timeout_s, "{offset:#x}");
        flow.sent_by_client(&tcp(RST, here.wrapping_add(offset), 0));
        assert_eq!(flow.timeout_s(), timeout_s, "{offset:#x} again");
    }
    let mut flow = established();
    flow.sent_by_backend(&tcp(RST, 0, 0));
    assert_eq!(flow.timeout_s(), CLOSING_TIMEOUT_S, "the backend's, wherever");
    flow.sent_by_client(&tcp(ACK, here, BACKEND + 1));
    assert_eq!(flow.timeout_s(), CLOSING_TIMEOUT_S);
}

/// A guess in the window is answered by the backend, or disproven by the client's next segment.
#[test]
fn a_reset_is_taken_back_by_what_follows() {
    let here = CLIENT.wrapping_add(1);
    for is_by_client in [true, false] {
        let mut flow = established();
        flow.sent_by_client(&tcp(RST, here.wrapping_add(9), 0));
        assert_eq!(flow.timeout_s(), CLOSING_TIMEOUT_S);
        if is_by_client {
            flow.sent_by_client(&tcp(ACK, here, BACKEND + 1));
        } else {
            flow.sent_by_backend(&tcp(ACK, BACKEND + 1, here));
        }
        assert_eq!(flow.timeout_s(), 2 * HOUR);
    }
}

#[test]
fn a_forged_end_does_not_add_up_with_another() {
    let mut flow = established();
    flow.sent_by_client(&tcp(FIN, 0x5555_5555, 0));
    flow.sent_by_client(&tcp(FIN, 0x5555_5555, 0));
    flow.sent_by_client(&tcp(RST, 0x5555_5555, 0));
    assert_eq!(flow.timeout_s(), 2 * HOUR);
}

#[test]
fn associations_end_as_soon_as_either_side_says_so() {
    let packet = |flags| of(Transport::Sctp, flags);
    for flags in [FIN, RST] {
        for is_by_client in [true, false] {
            let mut flow = begun(&packet(SYN));
            flow.sent_by_backend(&packet(0));
            if is_by_client {
                flow.sent_by_client(&packet(flags));
            } else {
                flow.sent_by_backend(&packet(flags));
            }
            assert_eq!(flow.timeout_s(), CLOSING_TIMEOUT_S);
            flow.sent_by_client(&packet(0));
            assert_eq!(flow.timeout_s(), CLOSING_TIMEOUT_S, "the backend may have let go");
            flow.sent_by_backend(&packet(0));
            let was_forged = if is_by_client { 2 * HOUR } else { CLOSING_TIMEOUT_S };
            assert_eq!(flow.timeout_s(), was_forged);
        }
    }
}

#[test]
fn time_outs_never_exceed_the_service() {
    let flow = |state: FlowState, idle_timeout_s| Flow {
        state: state as u16,
        seen: ANSWERED,
        idle_timeout_s,
        ..Flow::default()
    };
    assert_eq!(flow(FlowState::Opening, 1800).timeout_s(), 60);
    assert_eq!(flow(FlowState::Established, 1800).timeout_s(), 1800);
    assert_eq!(flow(FlowState::Closing, 1800).timeout_s(), 30);
    assert_eq!(flow(FlowState::Closing, 5).timeout_s(), 5);
    assert!(!flow(FlowState::Established, 1).is_expired(1_000_000_000));
    assert!(flow(FlowState::Established, 1).is_expired(1_000_000_001));
}

/// Two VIPs, one backend, one port of the client's: the backend takes the second SYN for the first connection's.
#[test]
fn a_connection_that_the_backend_takes_for_another_is_in_vain() {
    let mut flow = begun(&tcp(SYN, CLIENT, 0));
    assert!(!flow.is_in_vain(SYN));
    flow.may_be_passed_over(RST);
    assert!(!flow.is_in_vain(SYN));
    flow.may_be_passed_over(ACK);
    assert!(flow.is_in_vain(SYN) && !flow.is_in_vain(ACK));
    flow.sent_by_backend(&tcp(SYN | ACK, BACKEND, CLIENT.wrapping_add(1)));
    assert!(!flow.is_in_vain(SYN), "the backend has changed its mind");
    let mut flow = established();
    flow.may_be_passed_over(ACK);
    assert!(!flow.is_in_vain(SYN));
}

#[test]
fn ages_are_right_wherever_the_clock_is() {
    assert_eq!(age_ns(5, 9), 4);
    assert_eq!(age_ns(9, 5), 0, "another CPU's clock was a tick ahead");
    assert_eq!(age_ns(3u64.wrapping_sub(10), 3), 10, "from before the machine's start");
}
