//! What is remembered while the ledger could not be read: whom to hear before anything is taken away.
//!
//! What the kernel carries and nobody claims is held. It is let go when each source that is known by name has sent
//! everything again and, since others may have written too, none that is new has spoken for [`QUIET`]. No time alone lets
//! anything go: a bridge that is gone may come back in an hour. An operator may end it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// After the last source that was not heard before. A bridge tries every five seconds; one whose pod is scheduled anew
/// on another node, image and all, is there in a few minutes.
pub(crate) const QUIET: Duration = Duration::from_secs(15 * 60);

/// Who may have written to the ledger that was lost, as far as the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Sources that tokens are limited to.
    pub(crate) named: BTreeSet<String>,
    /// There is a way in for bridges, so some source must speak.
    pub(crate) some: bool,
}

/// How far it is. Kept in the ledger's file, so that a further start goes on with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recovery {
    /// What has happened to the ledger.
    pub(crate) reason: String,
    /// Sources that have not sent everything since.
    #[serde(default)]
    pub(crate) awaited: BTreeSet<String>,
    /// Some source must have.
    #[serde(default)]
    pub(crate) some: bool,
    /// Those that have.
    #[serde(default)]
    pub(crate) heard: BTreeSet<String>,
}

// === impl Recovery ===

impl Recovery {
    /// At a start; of a further one nothing is new.
    pub(super) fn expect(&mut self, expected: Expected) {
        let Expected { named, some } = expected;
        let heard = &self.heard;
        self.awaited.extend(named.into_iter().filter(|name| !heard.contains(name)));
        self.some = some || !self.awaited.is_empty();
    }

    /// A source has sent everything; true when that is news.
    pub(super) fn hear(&mut self, source: &str) -> bool {
        self.awaited.remove(source);
        self.heard.insert(source.to_owned())
    }

    /// Whether everybody has been heard who can be waited for. `quiet` is the time since one was heard that was not heard
    /// before.
    pub(crate) fn is_over(&self, held: usize, quiet: Duration) -> bool {
        let is_heard = self.awaited.is_empty() && !(self.some && self.heard.is_empty());
        is_heard && (held == 0 || !self.heard.is_empty() && quiet >= QUIET)
    }

    /// For operators.
    pub(crate) fn words(&self, held: usize) -> String {
        let mut words = format!("degraded: {}", self.reason);
        if held > 0 {
            words += &format!("; {held} frontends that nobody has claimed yet stay as they are");
        }
        let names: Vec<&str> = self.awaited.iter().map(String::as_str).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            words += &format!(
                "; waiting until everything is sent by {names} (if one is gone: sluice sources forget NAME)"
            );
        } else if self.some && self.heard.is_empty() {
            words += "; waiting for a source";
        } else if held > 0 {
            let minutes = QUIET.as_secs() / 60;
            words +=
                &format!("; waiting for further sources, {minutes} minutes after the last new one");
        }
        if held > 0 {
            words += "; sluice sources forget --held ends it and removes them";
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_heard_before_anything_is_taken_away() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let of = |awaited: &[&str], some, heard: &[&str]| Recovery {
            reason: "it is gone".to_owned(),
            awaited: set(awaited),
            some,
            heard: set(heard),
        };
        let (soon, late) = (Duration::ZERO, QUIET);
        for (name, recovery, held, quiet, over) in [
            ("no bridge, nothing held", of(&[], false, &[]), 0, soon, true),
            ("no bridge, something held", of(&[], false, &[]), 1, late, false),
            ("a bridge somewhere", of(&[], true, &[]), 0, late, false),
            ("it has spoken", of(&[], true, &["a"]), 0, soon, true),
            ("it has, but somebody else had something", of(&[], true, &["a"]), 1, soon, false),
            ("who did not come for long", of(&[], true, &["a"]), 1, late, true),
            ("one is missing", of(&["b"], true, &["a"]), 0, late, false),
            ("one is missing, however long", of(&["b"], true, &["a"]), 1, late * 99, false),
        ] {
            assert_eq!(recovery.is_over(held, quiet), over, "{name}");
            let words = recovery.words(held);
            assert!(words.starts_with("degraded: it is gone"), "{words}");
            assert_eq!(words.contains("--held"), held > 0, "{words}");
        }
    }
}
