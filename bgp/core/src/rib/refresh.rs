//! When a peer that wants our routes again gets them (RFC 2918 §4): at once, but not for every request.
//!
//! What is asked while an answer is being written, or soon after the one before, is one further answer for all of it.

use crate::wire::Family;
use std::time::{Duration, Instant};

/// Between two answers of one family. An operator's second `clear` is answered within it; a peer that asks without end
/// costs one table a second.
pub const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// The requests of one session.
#[derive(Clone, Debug, Default)]
pub struct Refreshes {
    /// Only negotiated families come here, so there are two at most.
    families: Vec<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    family: Family,
    waits: bool,
    answered_at: Option<Instant>,
}

// === impl Asked ===

impl Asked {
    fn due_at(&self, now: Instant) -> Option<Instant> {
        self.waits.then(|| self.answered_at.map_or(now, |at| at + REFRESH_PAUSE))
    }
}

// === impl Refreshes ===

impl Refreshes {
    /// The peer wants everything of the family again.
    pub fn ask(&mut self, family: Family) {
        match self.families.iter_mut().find(|asked| asked.family == family) {
            Some(asked) => asked.waits = true,
            None => self.families.push(Asked { family, waits: true, answered_at: None }),
        }
    }

    /// What is to be answered now; asked when the answer before has been written.
    pub fn take(&mut self, now: Instant) -> Option<Family> {
        let is_due = |asked: &&mut Asked| asked.due_at(now).is_some_and(|at| at <= now);
        let asked = self.families.iter_mut().find(is_due)?;
        (asked.waits, asked.answered_at) = (false, Some(now));
        Some(asked.family)
    }

    /// When there is something to take.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        self.families.iter().filter_map(|asked| asked.due_at(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_requests_is_one_answer_at_once_and_one_after_a_while() {
        let (now, mut refreshes) = (Instant::now(), Refreshes::default());
        let (v4, v6) = (Family::IPV4_UNICAST, Family::IPV6_UNICAST);
        assert_eq!((refreshes.due_at(now), refreshes.take(now)), (None, None));
        for _ in 0..1000 {
            refreshes.ask(v4);
        }
        assert_eq!(refreshes.due_at(now), Some(now));
        assert_eq!((refreshes.take(now), refreshes.take(now)), (Some(v4), None));
        refreshes.ask(v4);
        refreshes.ask(v4);
        let later = now + REFRESH_PAUSE;
        assert_eq!(refreshes.due_at(now), Some(later));
        assert_eq!(refreshes.take(later - Duration::from_millis(1)), None);
        // The other family does not wait for this one.
        refreshes.ask(v6);
        assert_eq!(refreshes.take(now), Some(v6));
        assert_eq!((refreshes.take(later), refreshes.take(later)), (Some(v4), None));
        assert_eq!(refreshes.due_at(later), None);
    }
}
