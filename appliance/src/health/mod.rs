//! Health checks: a task for each target, verdicts on one watch channel.

mod machine;
mod probe;
#[cfg(test)]
mod tests;

use crate::descriptors;
use machine::{Machine, Outcome, first_pause};
use sluice_model::{Target, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// What is known of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The verdict.
    pub(crate) verdict: Verdict,
    /// When the verdict last changed.
    pub(crate) since: SystemTime,
    /// Why the last probe failed; absent after a success.
    pub(crate) reason: Option<String>,
    /// Why the last probe could not be made; the verdict is an older one then.
    pub(crate) not_made: Option<String>,
}

/// Reports of all targets.
pub(crate) type Reports = BTreeMap<Target, Report>;

/// The running checks. Dropping it ends them.
pub(crate) struct Checks {
    tasks: BTreeMap<Target, JoinHandle<()>>,
    reports: Arc<watch::Sender<Reports>>,
    /// One permit per probe under way.
    room: Arc<Semaphore>,
}

// === impl Checks ===

impl Checks {
    /// No checks yet.
    pub(crate) fn new() -> Self {
        Checks {
            tasks: BTreeMap::new(),
            reports: Arc::new(watch::Sender::new(Reports::new())),
            room: Arc::new(Semaphore::new(descriptors::probes())),
        }
    }

    /// Reports, now and at each change of a verdict or a reason.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Reports> {
        self.reports.subscribe()
    }

    /// Makes the running checks equal to the set; those that stay keep what they know. Must run inside a runtime.
    pub(crate) fn set_targets(&mut self, targets: &BTreeSet<Target>) {
        self.tasks.retain(|target, task| {
            let keep = targets.contains(target);
            if !keep {
                task.abort();
            }
            keep
        });
        self.reports.send_if_modified(|reports| {
            let before = reports.len();
            reports.retain(|target, _| targets.contains(target));
            let gone = reports.len() != before;
            for target in targets {
                reports.entry(target.clone()).or_insert_with(Report::unknown);
            }
            gone || reports.len() != before
        });
        for target in targets {
            if !self.tasks.contains_key(target) {
                let (reports, room) = (Arc::clone(&self.reports), Arc::clone(&self.room));
                let task = tokio::spawn(check(target.clone(), reports, room));
                self.tasks.insert(target.clone(), task);
            }
        }
    }
}

// === impl Report ===

impl Report {
    fn unknown() -> Self {
        Report { verdict: Verdict::Unknown, since: SystemTime::now(), reason: None, not_made: None }
    }

    /// Follows one probe; true when that changed something.
    fn take(&mut self, verdict: Verdict, outcome: Outcome) -> bool {
        let (reason, not_made) = match outcome {
            Outcome::Passed => (None, None),
            Outcome::Failed(reason) => (Some(reason), None),
            Outcome::NotMade(why) => (self.reason.clone(), Some(why)),
        };
        let since = if self.verdict == verdict { self.since } else { SystemTime::now() };
        let after = Report { verdict, since, reason, not_made };
        let changed = *self != after;
        *self = after;
        changed
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

/// What keeps probes from being made, one sentence for each reason.
pub(crate) fn problems(reports: &Reports) -> Vec<String> {
    let mut kinds: BTreeMap<&str, (&Target, u32)> = BTreeMap::new();
    for (target, report) in reports {
        if let Some(why) = &report.not_made {
            kinds.entry(why).or_insert((target, 0)).1 += 1;
        }
    }
    let words = |(why, (first, count)): (&str, (&Target, u32))| {
        let others = if count > 1 { format!(" and {} others", count - 1) } else { String::new() };
        let first = first.address;
        format!("the probe of {first}{others} could not be made, so its verdict stays: {why}")
    };
    kinds.into_iter().map(words).collect()
}

/// Probes one target until it is aborted.
async fn check(target: Target, reports: Arc<watch::Sender<Reports>>, room: Arc<Semaphore>) {
    let mut machine = Machine::new(target.check.rise, target.check.fall);
    let mut hasher = DefaultHasher::new();
    target.hash(&mut hasher);
    let started = Instant::now();
    probe_once(&target, &mut machine, &reports, &room).await;
    let pause = first_pause(target.check.interval, hasher.finish());
    let mut ticks = interval_at(started + pause, target.check.interval);
    // A probe that took longer than the interval is not made up for by two in a row.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        probe_once(&target, &mut machine, &reports, &room).await;
    }
}

async fn probe_once(
    target: &Target,
    machine: &mut Machine,
    reports: &watch::Sender<Reports>,
    room: &Semaphore,
) {
    // Waited for outside the probe's own time-out: others that are slow are not this target's fault.
    let permit = room.acquire().await;
    let outcome = probe::ask(target).await;
    drop(permit);
    let changed = machine.observe(&outcome);
    if let Some(verdict) = changed {
        let reason = if let Outcome::Failed(reason) = &outcome { reason } else { "answers" };
        tracing::info!(backend = %target.address, ?verdict, reason, "health changed");
    }
    reports.send_if_modified(|reports| {
        // A task that is just being aborted may come here once more.
        let Some(report) = reports.get_mut(target) else { return false };
        report.take(machine.verdict(), outcome)
    });
}
