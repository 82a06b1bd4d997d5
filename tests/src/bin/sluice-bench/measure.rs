//! Clock, CPU and statistics.

use std::time::Duration;

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;

/// CPU time of this thread: a test run waits for RCU, so wall time is quantised to milliseconds.
pub(crate) fn cpu_time() -> anyhow::Result<Duration> {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now().context("CLOCK_THREAD_CPUTIME_ID")?;
    Ok(now.into())
}

/// Keeps this thread on one CPU, ahead of everything else there.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("sched_setaffinity")?;
    realtime()
}

#[expect(unsafe_code, reason = "nix has no sched_setscheduler")]
fn realtime() -> anyhow::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a live struct of the type the call wants.
    let failed = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) };
    if failed != 0 {
        return Err(std::io::Error::last_os_error()).context("sched_setscheduler");
    }
    Ok(())
}

/// Median and quartiles of one case over its runs, ns per packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quartiles {
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
}

// === impl Quartiles ===

impl Quartiles {
    /// Nearest-rank quartiles; `None` without values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get(values.len().checked_sub(1)? * quarter / 4).copied();
        Some(Self { lower: at(1)?, median: at(2)?, upper: at(3)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_nearest_ranks() {
        let values = vec![9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(Quartiles::of(values), Some(Quartiles { lower: 3.0, median: 5.0, upper: 7.0 }));
        assert_eq!(Quartiles::of(Vec::new()), None);
    }
}
