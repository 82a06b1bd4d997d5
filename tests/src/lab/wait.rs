//! Waiting for a condition, never for time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at; short against what is measured, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(10);

thread_local! {
    /// That a wait on this thread was in vain: a lab dropped afterwards shows its logs, as it does in a panic.
    pub(super) static GAVE_UP: Cell<bool> = const { Cell::new(false) };
}

/// Calls `look` until it answers `Ok`, and returns its value with the time that took.
///
/// # Errors
/// When `deadline` passes: names `what` and the last `Err`, which should say what was seen instead.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<T>,
) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        let last = match look() {
            Ok(value) => return Ok((value, start.elapsed())),
            Err(error) => error,
        };
        if start.elapsed() >= deadline {
            GAVE_UP.set(true);
            bail!("gave up after {deadline:.1?} waiting for {what}; last seen: {last:#}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// Like [`until`] for a plain yes or no with a description of what is there.
///
/// # Errors
/// As [`until`].
pub fn eventually(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> (bool, String),
) -> Result<Duration> {
    until(what, deadline, || match look() {
        (true, _) => Ok(()),
        (false, seen) => Err(anyhow::anyhow!(seen)),
    })
    .map(|((), took)| took)
}
