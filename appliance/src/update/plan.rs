//! What an update does to the entries of the boot loader: decided from what is there, carried out elsewhere.

use super::entry::Entry;
use super::version::Version;
use std::cmp::Ordering;

/// FAT allocates whole clusters and its directory grows; this much is left free.
const SPARE_BYTES: u64 = 1 << 20;

/// What is there.
#[derive(Clone, Debug)]
pub(crate) struct Situation {
    /// Of the running image.
    pub(crate) running: Version,
    /// The entries.
    pub(crate) entries: Vec<Entry>,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Entries to take away first: neither the running one nor the new one.
    pub(crate) remove: Vec<Entry>,
    /// The entry to write.
    pub(crate) write: Entry,
    /// The boot loader will start another entry all the same, since it is newer.
    pub(crate) shadowed_by: Option<Entry>,
}

/// Why nothing is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It is what runs.
    #[error("{0} is what runs already")]
    Running(Version),
    /// It is older.
    #[error("{new} is older than the running {running}; --force installs it all the same")]
    Older {
        /// In the file.
        new: Version,
        /// The running one.
        running: Version,
    },
    /// There would be nothing to fall back to.
    #[error(
        "the running {0} has no entry in EFI/Linux, so there would be nothing to fall back to; --force installs it \
         all the same"
    )]
    NoFallback(Version),
    /// What runs has not proven itself and would not be started again.
    #[error(
        "the running {0} has used up its tries and was not found healthy yet, so there would be nothing to fall back \
         to: `sluice wait` says what is missing; --force installs it all the same"
    )]
    Unproven(Version),
    /// The ESP is too small for one more file. What is there goes only once the new one is known to be good.
    #[error(
        "{needed} MiB are needed on the ESP and {free} MiB are free; remove from EFI/Linux what does not run ({}), or from \
         the ESP what is not Sluice's",
        names(others)
    )]
    NoRoom {
        /// In MiB.
        needed: u64,
        /// In MiB.
        free: u64,
        /// Which are not running.
        others: Vec<Entry>,
    },
}

fn names(entries: &[Entry]) -> String {
    let names: Vec<String> = entries.iter().map(Entry::to_string).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

// === impl Situation ===

impl Situation {
    /// Refuses a file that does not fit beside everything that is there.
    pub(crate) fn room(&self, size_bytes: u64, free_bytes: u64) -> Result<(), Refused> {
        let needed = size_bytes.saturating_add(SPARE_BYTES);
        if needed <= free_bytes {
            return Ok(());
        }
        Err(Refused::NoRoom {
            needed: needed.div_ceil(1 << 20),
            free: free_bytes >> 20,
            others: self.others().cloned().collect(),
        })
    }

    /// Those that do not run.
    fn others(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.version != self.running)
    }
}

/// Decides; `force` is the operator's word that he wants it in spite of a missing fallback, or an older version.
pub(crate) fn plan(situation: &Situation, new: Version, force: bool) -> Result<Plan, Refused> {
    let Situation { running, entries } = situation;
    match new.order(running) {
        Ordering::Equal => return Err(Refused::Running(new)),
        Ordering::Less if !force => {
            return Err(Refused::Older { new, running: running.clone() });
        }
        Ordering::Less | Ordering::Greater => {}
    }
    let runs = |entry: &Entry| entry.version == *running;
    if !force {
        let mut fallbacks = entries.iter().filter(|entry| runs(entry)).peekable();
        if fallbacks.peek().is_none() {
            return Err(Refused::NoFallback(running.clone()));
        }
        if fallbacks.all(Entry::is_bad) {
            return Err(Refused::Unproven(running.clone()));
        }
    }
    let write = Entry::fresh(new);
    let first = |entry: &&Entry| runs(entry) && entry.preference(&write) == Ordering::Less;
    let shadowed_by = entries.iter().find(first).cloned();
    let remove = situation.others().cloned().collect();
    Ok(Plan { remove, write, shadowed_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn situation(entries: &[&str]) -> Situation {
        let entry = |name: &&str| Entry::parse(&format!("sluice_{name}.efi")).unwrap();
        Situation { running: version("0.2.0"), entries: entries.iter().map(entry).collect() }
    }

    fn names(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_running_one_and_the_new_one_stay() {
        let situation = situation(&["0.1.0", "0.2.0", "0.3.0+0-2", "0.4.0+2"]);
        let plan = plan(&situation, version("0.3.0"), false).unwrap();
        assert_eq!(plan.write.to_string(), "sluice_0.3.0+2.efi");
        let removed = ["sluice_0.1.0.efi", "sluice_0.3.0+0-2.efi", "sluice_0.4.0+2.efi"];
        assert_eq!(names(&plan.remove), removed);
        assert_eq!(plan.shadowed_by, None);
    }

    #[test]
    fn refusals() {
        let one = |entries: &[&str], new, force| plan(&situation(entries), version(new), force);
        let (running, older) = (version("0.2.0"), version("0.1.9"));
        for (entries, new, expected) in [
            (&["0.2.0"][..], "0.2.0", Refused::Running(running.clone())),
            (&["0.2.0"], "0.1.9", Refused::Older { new: older, running: running.clone() }),
            (&["0.1.0"], "0.3.0", Refused::NoFallback(running.clone())),
            (&["0.2.0+0-2"], "0.3.0", Refused::Unproven(running)),
        ] {
            assert_eq!(one(entries, new, false), Err(expected.clone()));
            let meant = matches!(expected, Refused::Running(_));
            assert_eq!(one(entries, new, true).is_err(), meant, "{expected:?}");
        }
        // Not proven yet, but there is a try left.
        assert!(one(&["0.2.0+1-1"], "0.3.0", false).is_ok());
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        const MIB: u64 = 1 << 20;
        let situation = situation(&["0.2.0", "0.1.0"]);
        assert_eq!(situation.room(45 * MIB, 46 * MIB), Ok(()));
        let error = situation.room(45 * MIB, 45 * MIB).unwrap_err().to_string();
        let expected = "46 MiB are needed on the ESP and 45 MiB are free; remove from EFI/Linux what does not run \
                        (sluice_0.1.0.efi)";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn an_older_one_is_not_what_starts_next() {
        let plan = plan(&situation(&["0.2.0"]), version("0.1.0"), true).unwrap();
        assert_eq!(plan.shadowed_by, Entry::parse("sluice_0.2.0.efi"));
    }
}
