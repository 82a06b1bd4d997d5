//! The ledger's one writer. Whoever submits waits in line; all who wait when a write begins are answered by it.
//!
//! A write costs the disk's time, not that of what is written: under a flood of changes each waits for two writes at most,
//! and a change that comes alone is written at once.

use super::{Accepted, Ledger, Submission, SubmitError};
use crate::sources::Merged;
use sluice_api::Held;
use sluice_model::is_held;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Longest line, and so the most that one write can carry. Beyond it, connections wait.
const LINE: usize = 256;

/// The ledger, for the daemon's loop and for everybody who may submit.
#[derive(Clone)]
pub(crate) struct SharedLedger {
    line: mpsc::Sender<Waiting>,
    merged: watch::Receiver<Arc<Merged>>,
}

/// Somebody in line.
struct Waiting {
    submission: Submission,
    answer: oneshot::Sender<Result<Accepted, SubmitError>>,
}

// === impl SharedLedger ===

impl SharedLedger {
    /// Starts the writer, a thread of its own because it waits for a disk. It ends when nobody can submit any longer.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(ledger: Ledger) -> std::io::Result<Self> {
        let (line, waiting) = mpsc::channel(LINE);
        let merged = ledger.subscribe();
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || write_all(ledger, waiting))?;
        Ok(SharedLedger { line, merged })
    }

    /// Submits, and returns when what was said is kept or refused. Who gives up waiting is not forgotten: it may be kept
    /// all the same.
    pub(crate) async fn submit(&self, submission: Submission) -> Result<Accepted, SubmitError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { submission, answer };
        self.line.send(waiting).await.map_err(|_| SubmitError::Ended)?;
        answered.await.unwrap_or(Err(SubmitError::Ended))
    }

    /// What is held since the ledger was lost.
    pub(crate) fn held(&self) -> Held {
        let merged = self.merged.borrow();
        let Some(recovery) = &merged.recovery else { return Held::default() };
        let held = merged.desired.services().filter(|service| is_held(&service.name));
        Held {
            reason: Some(recovery.reason.clone()),
            awaited: recovery.awaited.iter().cloned().collect(),
            services: held.map(|service| service.name.0.clone()).collect(),
        }
    }

    /// The newest generation of a bridge that is kept.
    pub(crate) fn generation(&self, source: &str) -> Option<u64> {
        self.merged.borrow().bridges.get(source).map(|bridge| bridge.generation)
    }
}

fn write_all(mut ledger: Ledger, mut line: mpsc::Receiver<Waiting>) {
    let mut group = Vec::new();
    while line.blocking_recv_many(&mut group, LINE) > 0 {
        let all = group.drain(..).map(|waiting| (waiting.submission, waiting.answer));
        let (submissions, answers): (Vec<_>, Vec<_>) = all.unzip();
        // A panic leaves the ledger as it was, since what is accepted is replaced as a whole; its message is logged.
        let Ok(outcomes) = catch_unwind(AssertUnwindSafe(|| ledger.commit(submissions))) else {
            continue;
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Fails only when nobody waits for it any longer.
            drop(answer.send(outcome));
        }
    }
}
