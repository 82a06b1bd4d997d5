//! Health checks: a task for each target, verdicts on one watch channel.

mod machine;
mod probe;
#[cfg(test)]
mod tests;

use machine::{Machine, first_pause};
use sluice_model::{Target, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
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
}

/// Reports of all targets.
pub(crate) type Reports = BTreeMap<Target, Report>;

/// The running checks. Dropping it ends them.
pub(crate) struct Checks {
    tasks: BTreeMap<Target, JoinHandle<()>>,
    reports: Arc<watch::Sender<Reports>>,
}

// === impl Checks ===

impl Checks {
    /// No checks yet.
    pub(crate) fn new() -> Self {
        Checks { tasks: BTreeMap::new(), reports: Arc::new(watch::Sender::new(Reports::new())) }
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
                let task = tokio::spawn(check(target.clone(), Arc::clone(&self.reports)));
                self.tasks.insert(target.clone(), task);
            }
        }
    }
}

// === impl Report ===

impl Report {
    fn unknown() -> Self {
        Report { verdict: Verdict::Unknown, since: SystemTime::now(), reason: None }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

/// Probes one target until it is aborted.
async fn check(target: Target, reports: Arc<watch::Sender<Reports>>) {
    let mut machine = Machine::new(target.check.rise, target.check.fall);
    let mut hasher = DefaultHasher::new();
    target.hash(&mut hasher);
    let started = Instant::now();
    probe_once(&target, &mut machine, &reports).await;
    let pause = first_pause(target.check.interval, hasher.finish());
    let mut ticks = interval_at(started + pause, target.check.interval);
    // A probe that took longer than the interval is not made up for by two in a row.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        probe_once(&target, &mut machine, &reports).await;
    }
}

async fn probe_once(target: &Target, machine: &mut Machine, reports: &watch::Sender<Reports>) {
    let outcome = probe::ask(target).await;
    let changed = machine.observe(outcome.is_ok());
    let reason = outcome.err().map(|error| error.to_string());
    if let Some(verdict) = changed {
        let (backend, reason) = (target.address, reason.as_deref().unwrap_or("answers"));
        tracing::info!(%backend, ?verdict, reason, "health changed");
    }
    reports.send_if_modified(|reports| {
        // A task that is just being aborted may come here once more.
        let Some(report) = reports.get_mut(target) else { return false };
        let verdict = machine.verdict();
        if report.verdict == verdict && report.reason == reason {
            return false;
        }
        if report.verdict != verdict {
            report.since = SystemTime::now();
        }
        (report.verdict, report.reason) = (verdict, reason);
        true
    });
}
