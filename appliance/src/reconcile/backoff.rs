//! Steps that failed, and when each may be tried again. `now` is a parameter.

use super::port::Prospect;
use sluice_model::Frontend;
use sluice_plan::Step;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// After the first failure; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// An operator who repairs something should not wait longer than this to see it work.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A limit that is reached is tried again this often all the same: somebody else may have freed something.
const LIMIT_PAUSE: Duration = Duration::from_secs(300);

/// Steps that reach one limit and are tried again in one pass: the first may want much, and the next one little.
const LIMIT_TRIES: usize = 16;

/// The others that reach that limit come later, so that all have their turn.
const LIMIT_TURN: Duration = Duration::from_secs(30);

/// Failures for one reason that are told each by itself; the others are a number.
const TOLD: usize = 8;

/// What a step is about. A plan has one step of each.
type Key = (u8, Option<Frontend>, IpAddr);

fn key(step: &Step) -> Key {
    let kind = match step {
        Step::Withdraw(_) => 0,
        Step::PutProgram(..) => 1,
        Step::GuardVip(_) => 2,
        Step::AddVip(_) => 3,
        Step::Announce(..) => 4,
        Step::RemoveProgram(_) => 5,
        Step::RemoveVip(_) => 6,
        Step::UnguardVip(_) => 7,
    };
    (kind, step.frontend().copied(), step.vip())
}

/// One step that does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    step: Step,
    /// The services it is about.
    service: String,
    /// The whole chain of causes.
    error: String,
    attempts: u32,
    prospect: Prospect,
    /// `None`: never.
    next_attempt: Option<Instant>,
}

/// Everything that does not work.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<Key, Failure>);

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
        self.0.values()
    }

    /// One sentence each; of many with one reason the first, and how many more there are.
    pub(super) fn sentences(&self) -> Vec<String> {
        let mut reasons: BTreeMap<&str, Vec<&Failure>> = BTreeMap::new();
        for failure in self.0.values() {
            reasons.entry(&failure.error).or_default().push(failure);
        }
        let mut sentences = Vec::new();
        for (reason, failures) in reasons {
            sentences.extend(failures.iter().take(TOLD).map(ToString::to_string));
            if let Some(others) = failures.len().checked_sub(TOLD).filter(|others| *others > 0) {
                sentences.push(format!("and {others} others: {reason}"));
            }
        }
        sentences
    }

    /// A new pass of attempts begins.
    pub(super) fn pass(&self) -> Pass {
        Pass::default()
    }

    /// True when the step has not failed, or its time has come again.
    pub(super) fn is_due(&self, step: &Step, now: Instant) -> bool {
        let failed = self.0.get(&key(step)).filter(|failure| failure.step == *step);
        failed.is_none_or(|failure| failure.next_attempt.is_some_and(|at| now >= at))
    }

    /// True when the step has not failed, or may be tried again in this pass. A step that asks for something else than the one
    /// that failed is another step.
    pub(super) fn may_try(&mut self, step: &Step, pass: &Pass, now: Instant) -> bool {
        let Some(failure) = self.0.get_mut(&key(step)).filter(|failure| failure.step == *step)
        else {
            return true;
        };
        if failure.next_attempt.is_none_or(|at| now < at) {
            return false;
        }
        let is_limit = failure.prospect == Prospect::WhenFreed;
        if is_limit && pass.count(&failure.error) >= LIMIT_TRIES {
            failure.next_attempt = Some(now + LIMIT_TURN);
            return false;
        }
        true
    }

    pub(super) fn succeeded(&mut self, step: &Step) {
        self.0.remove(&key(step));
    }

    /// Something was freed: what has reached a limit may be tried again.
    pub(super) fn freed(&mut self, now: Instant) {
        let limits = self.0.values_mut().filter(|f| f.prospect == Prospect::WhenFreed);
        limits.for_each(|failure| failure.next_attempt = Some(now));
    }

    pub(super) fn failed(
        &mut self,
        step: &Step,
        error: String,
        prospect: Prospect,
        service: &str,
        now: Instant,
    ) {
        let known = self.0.get(&key(step)).filter(|failure| failure.step == *step);
        let attempts = known.map_or(0, |failure| failure.attempts).saturating_add(1);
        let next_attempt = match prospect {
            Prospect::Soon => Some(now + pause(attempts)),
            Prospect::WhenFreed => Some(now + LIMIT_PAUSE),
            Prospect::Never => None,
        };
        let (step, service) = (step.clone(), service.to_owned());
        let failure = Failure { step, service, error, attempts, prospect, next_attempt };
        self.0.insert(key(&failure.step), failure);
    }

    /// Forgets steps that nobody wants any more.
    pub(super) fn retain(&mut self, planned: &[Step]) {
        let planned: BTreeMap<Key, &Step> = planned.iter().map(|step| (key(step), step)).collect();
        self.0.retain(|key, failure| planned.get(key).is_some_and(|step| **step == failure.step));
    }

    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.0.values().filter_map(|failure| failure.next_attempt).min()
    }
}

/// What has failed in one pass, by reason.
#[derive(Debug, Default)]
pub(super) struct Pass(BTreeMap<String, usize>);

// === impl Pass ===

impl Pass {
    fn count(&self, reason: &str) -> usize {
        self.0.get(reason).copied().unwrap_or_default()
    }

    /// Counts a failure; true when it is to be told by itself.
    pub(super) fn failed(&mut self, reason: &str) -> bool {
        let count = self.0.entry(reason.to_owned()).or_default();
        *count += 1;
        *count <= TOLD
    }

    /// Reasons of failures that were not told by themselves, and how many those are.
    pub(super) fn others(&self) -> impl Iterator<Item = (&str, usize)> {
        let others = |count: &usize| count.checked_sub(TOLD).filter(|others| *others > 0);
        self.0.iter().filter_map(move |(reason, count)| Some((reason.as_str(), others(count)?)))
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
