//! Leadership by a Lease, as client-go does it. Sans-IO: what the API server says and `now` go in, requests come out.
//!
//! Nobody's clock is compared with anybody else's: a Lease has run out when *we* have seen it unchanged for its whole
//! duration. A leader counts from the moment it asked for a renewal, not from the answer, and stops before any other
//! replica may begin.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often a follower looks, so that a Lease that was given away (an upgrade) lies free for no longer than this. A
/// leader renews less often, since renewing is writing.
const LOOK: Duration = Duration::from_millis(500);

/// How patient one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A Lease that is not renewed for so long is free.
    pub duration: Duration,
    /// A leader that could not renew for so long stops; shorter than `duration`.
    pub renew_deadline: Duration,
    /// Between two renewals.
    pub retry: Duration,
}

/// A Lease as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Resource version; another one after every write.
    pub version: String,
    /// Who holds it; empty for nobody.
    pub holder: String,
    /// How often the holder has changed.
    pub transitions: u32,
}

/// A Lease to be written. The driver adds the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Resource version it replaces; none to create it.
    pub version: Option<String>,
    /// Who will hold it; empty to release it.
    pub holder: String,
    /// How often the holder has changed.
    pub transitions: u32,
}

/// Whether this replica acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// Another one does.
    Follower {
        /// Its identity; empty for nobody.
        leader: String,
    },
    /// This one does.
    Leader {
        /// Number of the term; higher than that of any earlier leader.
        term: u32,
    },
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// The Lease was read; none when there is none.
    Read(Option<Seen>),
    /// The claim was accepted.
    Written(Seen),
    /// A request failed, or somebody else was faster.
    Failed,
    /// The deadline passed.
    Time,
    /// This replica is about to end.
    Release,
}

/// What goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Read the Lease.
    Read,
    /// Write the Lease.
    Write(Claim),
    /// Another standing.
    Standing(Standing),
}

/// One replica's view of the Lease.
#[derive(Debug)]
pub struct Machine {
    identity: String,
    timing: Timing,
    standing: Standing,
    seen: Option<(Seen, Instant)>,
    /// When the request that is under way was made.
    asked: Option<Instant>,
    next_try: Instant,
    /// While leading: when to stop unless renewed.
    lapses: Option<Instant>,
    outputs: VecDeque<Output>,
}

// === impl Machine ===

impl Machine {
    /// A replica called `identity`: `POD_RANDOM`. Holders with the same pod are earlier lives of this one.
    #[must_use]
    pub fn new(identity: String, timing: Timing, now: Instant) -> Self {
        Machine {
            identity,
            timing,
            standing: Standing::Unknown,
            seen: None,
            asked: None,
            next_try: now,
            lapses: None,
            outputs: VecDeque::new(),
        }
    }

    /// Until when this replica may act; none when it may not.
    #[must_use]
    pub fn may_act_until(&self) -> Option<Instant> {
        self.lapses
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Time => self.time(now),
            Input::Read(None) => {
                self.asked = None;
                self.claim(None, 0, now);
            }
            Input::Read(Some(seen)) => {
                self.asked = None;
                self.observe(seen, now);
                self.decide(now);
            }
            Input::Written(seen) => {
                let asked = self.asked.take().unwrap_or(now);
                let term = seen.transitions;
                self.observe(seen, now);
                self.lapses = Some(asked + self.timing.renew_deadline);
                self.stand(Standing::Leader { term });
            }
            Input::Failed => {
                self.asked = None;
                // What is there is not known any longer; time still counts from when it was last seen to change.
                if let Some((seen, _)) = &mut self.seen {
                    seen.version.clear();
                }
            }
            Input::Release => {
                if let (Standing::Leader { term }, Some((seen, _))) = (&self.standing, &self.seen)
                    && !seen.version.is_empty()
                {
                    let version = Some(seen.version.clone());
                    let claim = Claim { version, holder: String::new(), transitions: *term };
                    self.outputs.push_back(Output::Write(claim));
                }
                self.lapses = None;
                self.stand(Standing::Follower { leader: String::new() });
            }
        }
    }

    /// What is to be done, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Time`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        // A request that takes longer than the time between two is given up.
        let patience = if self.asked.is_some() { self.timing.retry } else { Duration::ZERO };
        let next = self.next_try + patience;
        self.lapses.map_or(next, |lapses| lapses.min(next))
    }

    fn time(&mut self, now: Instant) {
        if self.lapses.is_some_and(|at| now >= at) {
            self.lapses = None;
            self.stand(Standing::Follower { leader: String::new() });
        }
        if self.asked.is_some() || now < self.next_try {
            return;
        }
        let leads = matches!(self.standing, Standing::Leader { .. });
        self.next_try = now + if leads { self.timing.retry } else { LOOK.min(self.timing.retry) };
        match (&self.standing, &self.seen) {
            (Standing::Leader { term }, Some((seen, _))) if !seen.version.is_empty() => {
                let (version, term) = (seen.version.clone(), *term);
                self.claim(Some(version), term, now);
            }
            _ => {
                self.asked = Some(now);
                self.outputs.push_back(Output::Read);
            }
        }
    }

    fn observe(&mut self, seen: Seen, now: Instant) {
        match &mut self.seen {
            // Read again unchanged after a failure: the old time counts on.
            Some((old, _)) if old.version == seen.version => *old = seen,
            Some((old, at)) if old.version.is_empty() && old.holder == seen.holder => {
                // It may have been renewed while we could not see it.
                (*old, *at) = (seen, now);
            }
            _ => self.seen = Some((seen, now)),
        }
    }

    /// What was read decides who leads.
    fn decide(&mut self, now: Instant) {
        let Some((seen, at)) = self.seen.clone() else { return };
        let is_ours = seen.holder == self.identity;
        let pod = |identity: &str| identity.rsplit_once('_').map(|(pod, _)| pod.to_owned());
        let is_past_life =
            !is_ours && pod(&seen.holder).is_some_and(|p| Some(p) == pod(&self.identity));
        let has_run_out = now.saturating_duration_since(at) >= self.timing.duration;
        if is_ours {
            self.claim(Some(seen.version), seen.transitions, now);
        } else if seen.holder.is_empty() || is_past_life || has_run_out {
            self.claim(Some(seen.version), seen.transitions.saturating_add(1), now);
        } else {
            self.lapses = None;
            self.stand(Standing::Follower { leader: seen.holder });
        }
    }

    fn claim(&mut self, version: Option<String>, transitions: u32, now: Instant) {
        self.asked = Some(now);
        let holder = self.identity.clone();
        self.outputs.push_back(Output::Write(Claim { version, holder, transitions }));
    }

    fn stand(&mut self, standing: Standing) {
        if self.standing != standing {
            self.standing = standing.clone();
            self.outputs.push_back(Output::Standing(standing));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
    };

    fn seen(version: &str, holder: &str, transitions: u32) -> Seen {
        Seen { version: version.into(), holder: holder.into(), transitions }
    }

    fn claim(version: Option<&str>, transitions: u32) -> Output {
        let version = version.map(str::to_owned);
        Output::Write(Claim { version, holder: "a_1".into(), transitions })
    }

    struct Bench(Machine, Instant);

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            let mut bench = Bench(Machine::new("a_1".into(), TIMING, now), now);
            assert_eq!(bench.put(Input::Time), [Output::Read]);
            bench
        }

        fn put(&mut self, input: Input) -> Vec<Output> {
            self.0.handle(input, self.1);
            std::iter::from_fn(|| self.0.poll_output()).collect()
        }

        fn after(&mut self, seconds: u64, input: Input) -> Vec<Output> {
            self.1 += Duration::from_secs(seconds);
            self.put(input)
        }
    }

    #[test]
    fn what_is_read_decides() {
        let other = || Output::Standing(Standing::Follower { leader: "b_9".into() });
        for (read, said) in [
            (None, claim(None, 0)),
            (Some(seen("7", "", 4)), claim(Some("7"), 5)),
            (Some(seen("7", "a_1", 4)), claim(Some("7"), 4)),
            (Some(seen("7", "a_0", 4)), claim(Some("7"), 5)),
            (Some(seen("7", "b_9", 4)), other()),
        ] {
            let name = format!("{read:?}");
            assert_eq!(Bench::new().put(Input::Read(read)), [said], "{name}");
        }
    }

    #[test]
    fn a_dead_leader_is_followed_after_the_duration_as_we_saw_it() {
        let mut bench = Bench::new();
        bench.put(Input::Read(Some(seen("7", "b_9", 4))));
        assert_eq!(bench.after(10, Input::Time), [Output::Read]);
        assert_eq!(bench.put(Input::Read(Some(seen("8", "b_9", 4)))), [], "renewed");
        assert_eq!(bench.after(14, Input::Time), [Output::Read]);
        assert_eq!(bench.put(Input::Read(Some(seen("8", "b_9", 4)))), []);
        assert_eq!(bench.after(2, Input::Time), [Output::Read]);
        assert_eq!(bench.put(Input::Read(Some(seen("8", "b_9", 4)))), [claim(Some("8"), 5)]);
        let leads = Output::Standing(Standing::Leader { term: 5 });
        assert_eq!(bench.put(Input::Written(seen("9", "a_1", 5))), [leads]);
    }

    #[test]
    fn a_leader_that_cannot_renew_stops_before_the_lease_is_free() {
        let mut bench = Bench::new();
        bench.put(Input::Read(None));
        // The answer took three seconds, which do not count.
        bench.after(3, Input::Written(seen("1", "a_1", 0)));
        assert_eq!(bench.after(1, Input::Time), [claim(Some("1"), 0)]);
        assert_eq!(bench.put(Input::Failed), []);
        assert_eq!(bench.after(2, Input::Time), [Output::Read]);
        assert_eq!(bench.put(Input::Failed), []);
        let until = bench.0.may_act_until().unwrap();
        assert_eq!(until - bench.1, Duration::from_secs(4));
        let stops = Output::Standing(Standing::Follower { leader: String::new() });
        assert_eq!(bench.after(4, Input::Time), [stops, Output::Read]);
        assert_eq!(bench.0.may_act_until(), None);
    }

    #[test]
    fn an_unanswered_request_does_not_prolong_a_term() {
        let mut bench = Bench::new();
        bench.put(Input::Read(None));
        bench.put(Input::Written(seen("1", "a_1", 0)));
        assert_eq!(bench.after(2, Input::Time), [claim(Some("1"), 0)]);
        assert_eq!(bench.0.next_deadline() - bench.1, Duration::from_secs(4));
        let stops = Output::Standing(Standing::Follower { leader: String::new() });
        assert_eq!(bench.after(8, Input::Time), [stops]);
    }

    #[test]
    fn a_term_that_was_taken_is_over_at_once() {
        let mut bench = Bench::new();
        bench.put(Input::Read(None));
        bench.put(Input::Written(seen("1", "a_1", 0)));
        bench.after(2, Input::Time);
        bench.put(Input::Failed);
        bench.after(2, Input::Time);
        let got = bench.put(Input::Read(Some(seen("5", "b_9", 1))));
        assert_eq!(got, [Output::Standing(Standing::Follower { leader: "b_9".into() })]);
        assert_eq!(bench.0.may_act_until(), None);
    }

    #[test]
    fn who_ends_gives_the_lease_away() {
        let mut bench = Bench::new();
        bench.put(Input::Read(None));
        bench.put(Input::Written(seen("1", "a_1", 3)));
        let given = Claim { version: Some("1".into()), holder: String::new(), transitions: 3 };
        let stops = Output::Standing(Standing::Follower { leader: String::new() });
        assert_eq!(bench.put(Input::Release), [Output::Write(given), stops]);
    }
}
