//! Boot entries: files `sluice_VERSION.efi` in `EFI/Linux`, with the boot loader's counters in their names
//! (systemd-boot, "automatic boot assessment"): `+LEFT` or `+LEFT-DONE`.

use super::version::Version;
use std::cmp::Ordering;
use std::fmt;

const PREFIX: &str = "sluice_";
const SUFFIX: &str = ".efi";

/// How often a new version is started before the boot loader falls back: one bad start may be bad luck.
const TRIES: u32 = 2;

/// One of our entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of the image inside.
    pub(crate) version: Version,
    /// Counted while it has not proven itself.
    pub(crate) tries: Option<Tries>,
}

/// Starts of an entry that has not proven itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Still to be made.
    pub(crate) left: u32,
    /// Made without success.
    pub(crate) done: Option<u32>,
}

// === impl Entry ===

impl Entry {
    /// A version that has not been started yet.
    pub(crate) fn fresh(version: Version) -> Self {
        Entry { version, tries: Some(Tries { left: TRIES, done: None }) }
    }

    /// The entry of a file name; `None` when the file is none of ours.
    pub(crate) fn parse(file: &str) -> Option<Self> {
        let name = file.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let (version, tries) = match name.split_once('+') {
            None => (name, None),
            Some((version, counters)) => (version, Some(Tries::parse(counters)?)),
        };
        Some(Entry { version: version.parse().ok()?, tries })
    }

    /// Tried as often as it may be, without success.
    pub(crate) fn is_bad(&self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }

    /// The boot loader's order, what it starts first at the front: bad ones last, then the newest.
    pub(crate) fn preference(&self, other: &Entry) -> Ordering {
        let bad = self.is_bad().cmp(&other.is_bad());
        bad.then_with(|| other.version.order(&self.version))
            .then_with(|| left(other).cmp(&left(self)))
    }
}

/// Whoever has proven himself does not run out of tries.
fn left(entry: &Entry) -> u32 {
    entry.tries.map_or(u32::MAX, |tries| tries.left)
}

/// The file name.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.version)?;
        if let Some(Tries { left, done }) = self.tries {
            write!(f, "+{left}")?;
            if let Some(done) = done {
                write!(f, "-{done}")?;
            }
        }
        f.write_str(SUFFIX)
    }
}

// === impl Tries ===

impl Tries {
    fn parse(counters: &str) -> Option<Self> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        match counters.split_once('-') {
            None => Some(Tries { left: number(counters)?, done: None }),
            Some((left, done)) => Some(Tries { left: number(left)?, done: Some(number(done)?) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["sluice_0.1.0.efi", "sluice_0.1.0+2.efi", "sluice_0.1.0~rc1+0-2.efi"] {
            assert_eq!(Entry::parse(name).unwrap().to_string(), name);
        }
        for name in [
            "sluice_.efi",
            "sluice_0.1.0+.efi",
            "sluice_0.1.0+2-.efi",
            "sluice_0.1.0++2.efi",
            "sluice_0.1.0+2.efi.tmp",
            "debian_12.efi",
            "sluice_0.1.0+-1.efi",
        ] {
            assert_eq!(Entry::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_boot_loader_prefers_the_newest_that_is_not_bad() {
        let mut entries = ["0.2.0+0-2", "0.1.0", "0.1.1+1-1", "0.3.0+0-2", "0.1.1"]
            .map(|name| Entry::parse(&format!("sluice_{name}.efi")).unwrap());
        entries.sort_by(Entry::preference);
        let names = entries.map(|entry| entry.to_string());
        assert_eq!(
            names,
            ["0.1.1", "0.1.1+1-1", "0.1.0", "0.3.0+0-2", "0.2.0+0-2"]
                .map(|name| format!("sluice_{name}.efi"))
        );
    }
}
