//! A message that strangers can cause is logged a few times, then once in a while with how often it was not.

use std::time::{Duration, Instant};

/// Lines that may come at once: enough to see who it is.
const BURST: u32 = 5;
/// Between two lines after that.
const PAUSE: Duration = Duration::from_secs(60);

/// One message's limit.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    /// Lines since the last pause began.
    lines: u32,
    resumes_at: Option<Instant>,
    left_out: u64,
}

// === impl LogLimit ===

impl LogLimit {
    /// How many were left out since the last line, if there is to be a line now.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.resumes_at.is_some_and(|at| now >= at) {
            (self.lines, self.resumes_at) = (BURST - 1, None);
        }
        if self.lines >= BURST {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        if self.lines == BURST {
            self.resumes_at = Some(now + PAUSE);
        }
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines() {
        let (now, mut limit) = (Instant::now(), LogLimit::default());
        let lines =
            |limit: &mut LogLimit, at| (0..1000).filter_map(|_| limit.pass(at)).collect::<Vec<_>>();
        assert_eq!(lines(&mut limit, now), [0; 5]);
        assert_eq!(lines(&mut limit, now + PAUSE / 2), []);
        assert_eq!(lines(&mut limit, now + PAUSE), [1995]);
        assert_eq!(lines(&mut limit, now + 3 * PAUSE), [999]);
    }
}
