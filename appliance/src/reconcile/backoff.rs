//! Steps that failed, and when each may be tried again. `now` is a parameter.

use sluice_plan::Step;
use std::fmt;
use std::time::{Duration, Instant};

/// After the first failure; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// An operator who repairs something should not wait longer than this to see it work.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One step that does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    step: Step,
    /// The services it is about.
    service: String,
    /// The whole chain of causes.
    error: String,
    attempts: u32,
    next_attempt: Instant,
}

/// Everything that does not work.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<Failure>);

// === impl Failure ===

impl Failure {
    /// The services it is about.
    pub(super) fn services(&self) -> impl Iterator<Item = &str> + '_ {
        self.service.split(',')
    }

    /// What does not work, without whose it is.
    pub(super) fn words(&self) -> String {
        format!("cannot {}: {}", self.step, self.error)
    }
}

// === impl Failures ===

impl Failures {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Failure> + '_ {
        self.0.iter()
    }

    /// True when the step has not failed, or long enough ago. A step that asks for something else than the one that
    /// failed is another step.
    pub(super) fn may_try(&self, step: &Step, now: Instant) -> bool {
        self.0.iter().find(|f| f.step == *step).is_none_or(|f| now >= f.next_attempt)
    }

    pub(super) fn succeeded(&mut self, step: &Step) {
        self.0.retain(|failure| failure.step != *step);
    }

    pub(super) fn failed(&mut self, step: &Step, error: String, service: &str, now: Instant) {
        let known = self.0.iter_mut().find(|failure| failure.step == *step);
        match known {
            Some(failure) => {
                failure.attempts = failure.attempts.saturating_add(1);
                failure.error = error;
                failure.next_attempt = now + pause(failure.attempts);
            }
            None => self.0.push(Failure {
                step: step.clone(),
                service: service.to_owned(),
                error,
                attempts: 1,
                next_attempt: now + pause(1),
            }),
        }
    }

    /// Forgets steps that nobody wants any more.
    pub(super) fn retain(&mut self, planned: &[Step]) {
        self.0.retain(|failure| planned.contains(&failure.step));
    }

    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.0.iter().map(|failure| failure.next_attempt).min()
    }
}

/// The pause after so many failures in a row.
pub(crate) fn pause(attempts: u32) -> Duration {
    let doubled = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { step, service, error, attempts, .. } = self;
        write!(f, "service {service}: cannot {step}: {error}")?;
        if *attempts > 1 { write!(f, " (tried {attempts} times)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u128> = [1, 2, 3, 6, 7, 8, 32, 33, u32::MAX]
            .map(|attempts| pause(attempts).as_millis())
            .to_vec();
        assert_eq!(pauses, [500, 1000, 2000, 16000, 30000, 30000, 30000, 30000, 30000]);
    }
}
