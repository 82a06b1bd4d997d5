//! How long a Service that is to go waits for appliances.

use crate::status::reports::{Holders, Why};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::time::{Duration, Instant};

/// A Service that is to go.
#[derive(Clone, Debug)]
pub(super) struct Release {
    /// Appliances that cannot be reached are waited for until then.
    until: Instant,
    /// The same for people.
    until_clock: Timestamp,
}

// === impl Release ===

impl Release {
    /// One that begins now.
    pub(super) fn new(hold: Duration, now: Instant, clock: Timestamp) -> Self {
        let length = SignedDuration::try_from(hold).unwrap_or(SignedDuration::MAX);
        let until_clock = clock.checked_add(length).unwrap_or(Timestamp::MAX);
        let until_clock = Timestamp::from_second(until_clock.as_second()).unwrap_or(until_clock);
        Release { until: now + hold, until_clock }
    }

    /// What it waits for; none when it can go.
    pub(super) fn waits_for(&self, holders: &Holders, now: Instant) -> Option<Why> {
        let why = |reason, message| Some(Why { reason, message, is_final: false });
        if !holders.serving.is_empty() {
            return why("Releasing", holders.serving.join("; "));
        }
        if holders.silent.is_empty() || now >= self.until {
            return None;
        }
        let message = format!(
            "{}; it may still serve the addresses, so they are kept until it says otherwise, until it is taken out of \
             the bridge's configuration, or until {}",
            holders.silent.join("; "),
            self.until_clock
        );
        why("ApplianceUnreachable", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_waited_for_until_a_stated_time_and_an_answer_for_ever() {
        let (start, clock) = (Instant::now(), "2026-01-01T12:00:00.5Z".parse().unwrap());
        let release = Release::new(Duration::from_secs(900), start, clock);
        let after = |seconds| start + Duration::from_secs(seconds);
        let silent = || vec!["appliance a cannot be reached: x".to_owned()];
        let reason = |holders: &Holders, seconds| {
            release.waits_for(holders, after(seconds)).map(|why| why.reason)
        };
        let held = Holders { silent: silent(), ..Holders::default() };
        assert_eq!(reason(&held, 899), Some("ApplianceUnreachable"));
        assert_eq!(reason(&held, 900), None);
        let message = release.waits_for(&held, start).unwrap().message;
        assert!(message.contains("appliance a cannot") && message.contains("2026-01-01T12:15:00Z"));
        let both = Holders { serving: vec!["b".into()], silent: silent() };
        assert_eq!(reason(&both, 5_000), Some("Releasing"));
        assert_eq!(reason(&Holders::default(), 0), None);
    }
}
