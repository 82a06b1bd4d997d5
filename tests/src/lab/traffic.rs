//! Steady traffic in the background, with every failure kept and timed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::client::{Attempt, Outcome, Transport, request};
use super::netns::Netns;
use super::wait::until;

/// One request that was not answered.
#[derive(Clone, Debug)]
pub struct Failure {
    /// When it began.
    pub at: Instant,
    /// Where it went.
    pub to: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a run of traffic saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests made.
    pub sent: u64,
    /// Answers by backend.
    pub answers: BTreeMap<String, u64>,
    /// Answers in which the backend saw another client address or port than the client's own.
    pub disguised: u64,
    /// Requests without an answer, oldest first.
    pub failures: Vec<Failure>,
    /// Sum of the times of all answered requests.
    pub busy: Duration,
    /// The longest time of an answered request.
    pub slowest: Duration,
}

impl Report {
    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Mean time of an answered request.
    pub fn mean(&self) -> Duration {
        let answered = u32::try_from(self.answered().max(1)).unwrap_or(u32::MAX);
        self.busy / answered
    }

    /// Failures that began after `moment`.
    pub fn failures_after(&self, moment: Instant) -> Vec<&Failure> {
        self.failures.iter().filter(|failure| failure.at > moment).collect()
    }

    /// From `moment` to the begin of the last failure after it; `None` when there was none.
    pub fn last_failure_after(&self, moment: Instant) -> Option<Duration> {
        self.failures_after(moment).iter().map(|failure| failure.at - moment).max()
    }

    fn add(&mut self, transport: Transport, to: SocketAddr, at: Instant, attempt: Attempt) {
        self.sent += 1;
        match attempt.outcome {
            Outcome::Answered { seen, local } => {
                self.busy += attempt.took;
                self.slowest = self.slowest.max(attempt.took);
                self.disguised += u64::from(seen.client != local);
                *self.answers.entry(seen.backend).or_default() += 1;
            }
            outcome => self.failures.push(Failure { at, to, transport, outcome }),
        }
    }

    fn merge(&mut self, other: Self) {
        self.sent += other.sent;
        self.disguised += other.disguised;
        self.busy += other.busy;
        self.slowest = self.slowest.max(other.slowest);
        for (backend, count) in other.answers {
            *self.answers.entry(backend).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.failures.sort_by_key(|failure| failure.at);
    }
}

/// A few requests one after the other to each target.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn burst(
    from: &Netns,
    targets: &[(Transport, SocketAddr)],
    count: u32,
    timeout: Duration,
) -> Result<Report> {
    from.run(|| {
        let mut report = Report::default();
        for _ in 0..count {
            for (transport, to) in targets {
                let at = Instant::now();
                report.add(*transport, *to, at, request(*transport, *to, timeout));
            }
        }
        report
    })
}

/// Running background traffic; one thread per target.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
    report: Arc<Mutex<Report>>,
}

impl Traffic {
    /// Starts sending to every target, one request each `pace`, each allowed `timeout`.
    pub fn start(
        from: &Netns,
        targets: &[(Transport, SocketAddr)],
        pace: Duration,
        timeout: Duration,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(Report::default()));
        let threads = targets
            .iter()
            .map(|&(transport, to)| {
                let (stop, report) = (Arc::clone(&stop), Arc::clone(&report));
                from.thread(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let at = Instant::now();
                        let attempt = request(transport, to, timeout);
                        report
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .add(transport, to, at, attempt);
                        std::thread::sleep(pace.saturating_sub(at.elapsed()));
                    }
                })
            })
            .collect();
        Self { stop, threads, report }
    }

    /// What was seen so far.
    pub fn so_far(&self) -> Report {
        let mut whole = Report::default();
        whole.merge(self.report.lock().unwrap_or_else(PoisonError::into_inner).clone());
        whole
    }

    /// Waits until so many more requests are answered than by now.
    ///
    /// # Errors
    /// When they are not, in this time.
    pub fn wait_answered(&self, more: u64, deadline: Duration) -> Result<()> {
        let before = self.so_far().answered();
        until("further answers", deadline, || {
            let answered = self.so_far().answered();
            ensure!(answered > before + more, "{answered} answers, {before} before");
            Ok(())
        })?;
        Ok(())
    }

    /// Ends the traffic, of which every request must have been answered.
    ///
    /// # Errors
    /// Those of [`Traffic::stop`]; which requests failed, and how.
    pub fn stop_unharmed(self) -> Result<Report> {
        let report = self.stop()?;
        let (failed, sent) = (report.failures.len(), report.sent);
        ensure!(failed == 0, "{failed} of {sent} requests failed: {:?}", report.failures);
        Ok(report)
    }

    /// Ends the traffic and waits for the requests under way.
    ///
    /// # Errors
    /// When a thread could not enter its namespace.
    pub fn stop(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a traffic thread panicked"))??;
        }
        Ok(self.so_far())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}
