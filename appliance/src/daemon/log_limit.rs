//! Log lines of one kind are limited: 16,000 services that fail for one reason, or a peer that fails a thousand times a
//! second, fill no disk. What is left out is counted and told.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind at once: a reader wants the first ones, and no more of a burst.
const BURST: u32 = 64;
/// One more of that kind after each such time.
const PACE: Duration = Duration::from_secs(1);
/// What was left out is told this often at most.
const TOLD: Duration = Duration::from_secs(10);

/// A kind of line: the place in the source that writes it.
type Kind = (&'static str, u32);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    room: u32,
    refilled_at: Instant,
    left_out: u64,
}

/// Lines by kind.
#[derive(Debug, Default)]
struct Buckets {
    kinds: BTreeMap<Kind, Bucket>,
    told_at: Option<Instant>,
}

// === impl Bucket ===

impl Bucket {
    fn new(now: Instant) -> Self {
        Bucket { room: BURST, refilled_at: now, left_out: 0 }
    }

    /// One line: true when it may be written.
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled_at).as_nanos() / PACE.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed > 0 {
            self.room = self.room.saturating_add(passed).min(BURST);
            self.refilled_at = now;
        }
        match self.room.checked_sub(1) {
            Some(room) => {
                self.room = room;
                true
            }
            None => {
                self.left_out += 1;
                false
            }
        }
    }
}

// === impl Buckets ===

impl Buckets {
    fn take(&mut self, kind: Kind, now: Instant) -> bool {
        self.kinds.entry(kind).or_insert_with(|| Bucket::new(now)).take(now)
    }

    /// Kinds of which lines were left out, and how many since it was asked last.
    fn left_out(&mut self, now: Instant) -> Vec<(Kind, u64)> {
        if self.told_at.is_some_and(|at| now < at + TOLD) {
            return Vec::new();
        }
        let some = self.kinds.iter_mut().filter(|(_, bucket)| bucket.left_out > 0);
        let left_out: Vec<_> =
            some.map(|(kind, bucket)| (*kind, std::mem::take(&mut bucket.left_out))).collect();
        if !left_out.is_empty() {
            self.told_at = Some(now);
        }
        left_out
    }
}

fn buckets() -> &'static Mutex<Buckets> {
    static BUCKETS: OnceLock<Mutex<Buckets>> = OnceLock::new();
    BUCKETS.get_or_init(Mutex::default)
}

/// The part of the subscriber that decides.
pub(super) struct Limit;

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Whoever asks for more than the usual lines wants all of them.
        if *metadata.level() > Level::INFO {
            return true;
        }
        let kind = (metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
        buckets().lock().unwrap_or_else(PoisonError::into_inner).take(kind, Instant::now())
    }
}

/// Tells what was left out. Asked once a second.
pub(super) fn tell() {
    let left_out =
        buckets().lock().unwrap_or_else(PoisonError::into_inner).left_out(Instant::now());
    for ((file, line), lines) in left_out {
        tracing::warn!(lines, of = format!("{file}:{line}"), "log lines of one kind were left out");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = ("a.rs", 1);

    #[test]
    fn a_burst_is_cut_and_counted_and_other_kinds_are_not_touched() {
        let start = Instant::now();
        let mut buckets = Buckets::default();
        let written = (0..477_180).filter(|_| buckets.take(KIND, start)).count();
        assert_eq!(written, 64);
        assert!(buckets.take(("a.rs", 2), start));
        assert_eq!(buckets.left_out(start), [(KIND, 477_180 - 64)]);
        assert_eq!(buckets.left_out(start + TOLD), []);
    }

    #[test]
    fn a_steady_stream_is_a_line_a_second() {
        let start = Instant::now();
        let mut buckets = Buckets::default();
        let ms = |after| start + Duration::from_millis(after);
        let written = (0..100_000).filter(|after| buckets.take(KIND, ms(*after))).count();
        assert!((64..=64 + 100).contains(&written), "{written}");
        assert_eq!(buckets.left_out(ms(100_000))[0].1, 100_000 - written as u64);
        assert!(buckets.take(KIND, ms(200_000)), "after a quiet time as before");
    }
}
