//! Deadlines of one connection, the jitter on them, and the wait between attempts.
//!
//! Nothing here reads a clock or a random source: `now` and the seed are given in.

use std::time::{Duration, Instant};

/// RFC 4271 §8: the timers a connection can have running (RFC 9687 adds the send hold timer).
///
/// `IdleHold` is missing on purpose: the wait between attempts belongs to the peer, not to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A dial that gets no answer is given up and started anew.
    ConnectRetry,
    /// The peer must be heard from before it fires.
    Hold,
    /// We must be heard from before it fires.
    Keepalive,
    /// RFC 9687: the peer must take what we write before it fires.
    SendHold,
}

impl Timer {
    /// In the order in which several that fire at once are handled: what ends the session first.
    pub const ALL: [Timer; 4] =
        [Timer::Hold, Timer::SendHold, Timer::ConnectRetry, Timer::Keepalive];
}

/// The running timers of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    connect_retry: Option<Instant>,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
    send_hold: Option<Instant>,
}

impl Timers {
    fn slot(&mut self, timer: Timer) -> &mut Option<Instant> {
        match timer {
            Timer::ConnectRetry => &mut self.connect_retry,
            Timer::Hold => &mut self.hold,
            Timer::Keepalive => &mut self.keepalive,
            Timer::SendHold => &mut self.send_hold,
        }
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        match timer {
            Timer::ConnectRetry => self.connect_retry,
            Timer::Hold => self.hold,
            Timer::Keepalive => self.keepalive,
            Timer::SendHold => self.send_hold,
        }
    }

    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        *self.slot(timer) = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        *self.slot(timer) = None;
    }

    pub(super) fn stop_all(&mut self) {
        *self = Timers::default();
    }

    /// Takes the first timer that has fired; it is stopped by that.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<Timer> {
        let timer = Timer::ALL.into_iter().find(|t| self.get(*t).is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        Timer::ALL.into_iter().filter_map(|t| self.get(t)).min()
    }
}

/// A seeded source of jitter (splitmix64): enough to keep peers from marching in step, not for secrets.
#[derive(Clone, Debug)]
pub struct Jitter {
    state: u64,
}

impl Jitter {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Jitter { state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// RFC 4271 §10: 75 to 100 % of the base.
    pub fn of(&mut self, base: Duration) -> Duration {
        base * 3 / 4 + base / 4 * (u32::from(self.draw().to_le_bytes()[0])) / 255
    }
}

/// How long to wait before dialling again.
///
/// After a session that held, at once (≤ 100 ms); then 1 s doubling up to `cap`, each with jitter.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    failures: u32,
}

/// Longest wait before the first attempt after a session that held was lost: the SYN is to be out within 100 ms, and a
/// timer on a busy machine is late.
const FIRST_RETRY: Duration = Duration::from_millis(80);
/// The wait after the first failure; doubles with each further one.
const SECOND_RETRY: Duration = Duration::from_secs(1);
/// No configuration makes the doubling go beyond this number of steps (2^16 s is more than any cap).
const MAX_DOUBLINGS: u32 = 16;
/// A session that lasted less is counted as a failure, or a peer that drops us right after the handshake would be
/// dialled ten times a second.
const STABLE_AFTER: Duration = Duration::from_secs(1);

impl Backoff {
    pub(super) fn new() -> Self {
        Backoff { failures: 0 }
    }

    /// The wait after a session that was Established for `uptime`.
    pub(super) fn after_session(
        &mut self,
        uptime: Duration,
        cap: Duration,
        jitter: &mut Jitter,
    ) -> Duration {
        if uptime < STABLE_AFTER.min(cap) {
            return self.after_failure(cap, jitter);
        }
        self.failures = 0;
        jitter.of(FIRST_RETRY.min(cap))
    }

    /// The wait after an attempt that never became Established.
    pub(super) fn after_failure(&mut self, cap: Duration, jitter: &mut Jitter) -> Duration {
        let doublings = self.failures.min(MAX_DOUBLINGS);
        self.failures = self.failures.saturating_add(1);
        jitter.of((SECOND_RETRY * (1 << doublings)).min(cap))
    }
}

/// How many connections the peer's address may open: some at once, then one per [`ADMIT_EVERY`].
#[derive(Clone, Debug, Default)]
pub(super) struct Admission {
    /// When the last of those admitted is paid for.
    paid_at: Option<Instant>,
}

/// A router that is willing tries less often; each connection costs us a look at the addresses of the machine.
const ADMIT_EVERY: Duration = Duration::from_millis(500);
/// Admitted at once after a while of quiet: more than a peer has connections.
const ADMIT_BURST: u32 = 8;

impl Admission {
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let paid_at = self.paid_at.map_or(now, |at| at.max(now)) + ADMIT_EVERY;
        let admitted = paid_at <= now + ADMIT_EVERY * ADMIT_BURST;
        if admitted {
            self.paid_at = Some(paid_at);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_admitted_then_one_at_a_time() {
        let now = Instant::now();
        let mut admission = Admission::default();
        let admitted =
            |admission: &mut Admission, at| (0..100).filter(|_| admission.take(at)).count();
        assert_eq!(admitted(&mut admission, now), 8);
        assert_eq!(admitted(&mut admission, now + ADMIT_EVERY / 2), 0);
        assert_eq!(admitted(&mut admission, now + ADMIT_EVERY), 1);
        assert_eq!(admitted(&mut admission, now + ADMIT_EVERY * 100), 8);
    }

    #[test]
    fn jitter_stays_between_75_and_100_percent() {
        let mut jitter = Jitter::new(7);
        let base = Duration::from_secs(30);
        let drawn: Vec<_> = (0..1000).map(|_| jitter.of(base)).collect();
        assert!(drawn.iter().all(|d| *d >= base * 3 / 4 && *d <= base));
        let spread = *drawn.iter().max().unwrap() - *drawn.iter().min().unwrap();
        assert!(spread > base / 5, "jitter hardly varies: {spread:?}");
    }

    #[test]
    fn waits_double_up_to_the_cap_and_start_over_after_a_session() {
        let (mut jitter, mut backoff) = (Jitter::new(1), Backoff::new());
        let cap = Duration::from_secs(30);
        for base in [1, 2, 4, 8, 16, 30, 30] {
            let base = Duration::from_secs(base);
            let wait = backoff.after_failure(cap, &mut jitter);
            assert!(wait >= base * 3 / 4 && wait <= base, "{wait:?} against {base:?}");
        }
        let wait = backoff.after_session(Duration::from_secs(60), cap, &mut jitter);
        assert!(wait <= FIRST_RETRY);
        assert!(backoff.after_failure(cap, &mut jitter) <= SECOND_RETRY);
    }

    #[test]
    fn a_session_that_did_not_last_counts_as_a_failure() {
        let (mut jitter, mut backoff) = (Jitter::new(1), Backoff::new());
        let cap = Duration::from_secs(5);
        let wait = backoff.after_session(Duration::from_millis(3), cap, &mut jitter);
        assert!(wait >= Duration::from_millis(750));
    }

    #[test]
    fn expired_timers_come_out_once_and_the_fatal_one_first() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(Timer::Keepalive, now);
        timers.set(Timer::Hold, now);
        assert_eq!(timers.next(), Some(now));
        assert_eq!(timers.take_expired(now), Some(Timer::Hold));
        assert_eq!(timers.take_expired(now), Some(Timer::Keepalive));
        assert_eq!(timers.take_expired(now), None);
    }
}
