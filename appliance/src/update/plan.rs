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
    /// The entries with the sizes of their files.
    pub(crate) entries: Vec<(Entry, u64)>,
    /// Room on the ESP, without what earlier attempts left over.
    pub(crate) free_bytes: u64,
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
    /// The ESP is too small.
    #[error(
        "{needed} MiB are needed on the ESP and {free} MiB are free, also without older entries; remove files that are \
         not Sluice's, or make the ESP larger"
    )]
    NoRoom {
        /// In MiB.
        needed: u64,
        /// In MiB, with the entries counted that would be removed.
        free: u64,
    },
}

/// Decides; `force` is the operator's word that he wants it in spite of a missing fallback, or an older version.
pub(crate) fn plan(
    situation: &Situation,
    new: Version,
    size_bytes: u64,
    force: bool,
) -> Result<Plan, Refused> {
    let Situation { running, entries, free_bytes } = situation;
    match new.order(running) {
        Ordering::Equal => return Err(Refused::Running(new)),
        Ordering::Less if !force => {
            return Err(Refused::Older { new, running: running.clone() });
        }
        Ordering::Less | Ordering::Greater => {}
    }
    let runs = |entry: &Entry| entry.version == *running;
    let mut fallbacks = entries.iter().map(|(entry, _)| entry).filter(|entry| runs(entry));
    if !force {
        if !fallbacks.clone().any(|_| true) {
            return Err(Refused::NoFallback(running.clone()));
        }
        if fallbacks.all(Entry::is_bad) {
            return Err(Refused::Unproven(running.clone()));
        }
    }
    let others = || entries.iter().filter(|(entry, _)| !runs(entry));
    let freed: u64 = others().map(|(_, bytes)| bytes).sum();
    let (needed, free) = (size_bytes.saturating_add(SPARE_BYTES), free_bytes.saturating_add(freed));
    if needed > free {
        return Err(Refused::NoRoom { needed: needed.div_ceil(1 << 20), free: free >> 20 });
    }
    let write = Entry::fresh(new);
    let first = |entry: &&Entry| entry.preference(&write) == Ordering::Less;
    let shadowed_by =
        entries.iter().map(|(entry, _)| entry).filter(|e| runs(e)).find(first).cloned();
    let remove = others().map(|(entry, _)| entry.clone()).collect();
    Ok(Plan { remove, write, shadowed_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn situation(entries: &[&str], free_mib: u64) -> Situation {
        let entry = |name: &&str| (Entry::parse(&format!("sluice_{name}.efi")).unwrap(), 40 * MIB);
        Situation {
            running: version("0.2.0"),
            entries: entries.iter().map(entry).collect(),
            free_bytes: free_mib * MIB,
        }
    }

    fn names(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_running_one_and_the_new_one_stay() {
        let situation = situation(&["0.1.0", "0.2.0", "0.3.0+0-2", "0.4.0+2"], 50);
        let plan = plan(&situation, version("0.3.0"), 45 * MIB, false).unwrap();
        assert_eq!(plan.write.to_string(), "sluice_0.3.0+2.efi");
        let removed = ["sluice_0.1.0.efi", "sluice_0.3.0+0-2.efi", "sluice_0.4.0+2.efi"];
        assert_eq!(names(&plan.remove), removed);
        assert_eq!(plan.shadowed_by, None);
    }

    #[test]
    fn refusals() {
        let one = |entries: &[&str], free, new, force| {
            plan(&situation(entries, free), version(new), 45 * MIB, force)
        };
        let (running, older) = (version("0.2.0"), version("0.1.9"));
        for (entries, free, new, expected) in [
            (&["0.2.0"][..], 50, "0.2.0", Refused::Running(running.clone())),
            (&["0.2.0"], 50, "0.1.9", Refused::Older { new: older, running: running.clone() }),
            (&["0.1.0"], 50, "0.3.0", Refused::NoFallback(running.clone())),
            (&["0.2.0+0-2"], 50, "0.3.0", Refused::Unproven(running)),
            (&["0.2.0"], 45, "0.3.0", Refused::NoRoom { needed: 46, free: 45 }),
        ] {
            assert_eq!(one(entries, free, new, false), Err(expected.clone()));
            let meant = matches!(expected, Refused::Running(_) | Refused::NoRoom { .. });
            assert_eq!(one(entries, free, new, true).is_err(), meant, "{expected:?}");
        }
        // Older entries make room.
        assert!(one(&["0.2.0", "0.1.0"], 6, "0.3.0", false).is_ok());
        // Not proven yet, but there is a try left.
        assert!(one(&["0.2.0+1-1"], 50, "0.3.0", false).is_ok());
    }

    #[test]
    fn an_older_one_is_not_what_starts_next() {
        let plan = plan(&situation(&["0.2.0"], 50), version("0.1.0"), MIB, true).unwrap();
        assert_eq!(plan.shadowed_by, Entry::parse("sluice_0.2.0.efi"));
    }
}
