//! Updates of the image: a signed file becomes a further entry of the boot loader, beside the running one.
//!
//! The boot loader starts the new entry twice at most; unless a start is found healthy, which removes the counter from
//! the file's name, it goes back to the old entry. So nothing here may touch the entry of the running version.
//! The file goes straight to the boot partition, under a name that nobody starts, so that it takes no memory; `signature`
//! hears it pass. Only then `uki` looks into it, `plan` decides, and `esp` gives it its name.

mod entry;
mod esp;
mod loader;
mod os_release;
mod plan;
mod signature;
#[cfg(test)]
mod tests;
mod uki;
mod version;

pub(crate) use entry::Entry;
pub(crate) use version::Version;

use esp::{Esp, EspError, NoEsp, Stop};
use os_release::NotOurs;
use plan::{Refused, Situation};
use signature::{Claim, Untrusted};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use uki::NoUki;

/// Stands for standard input in the place of a file's name.
const STANDARD_INPUT: &str = "-";

/// The machine to be updated.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Where the ESP is mounted.
    pub(crate) boot_dir: PathBuf,
    /// Exists when UEFI has started the machine.
    pub(crate) firmware: PathBuf,
    /// The running system's os-release.
    pub(crate) os_release: PathBuf,
}

/// What to install.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The unified kernel image; `-` is standard input.
    pub(crate) file: PathBuf,
    /// Its signature.
    pub(crate) signature: PathBuf,
    /// Who may have signed.
    pub(crate) key: PathBuf,
    /// Also an older version, also without a way back.
    pub(crate) force: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// The new entry.
    pub(crate) entry: Entry,
    /// What runs, and is fallen back to.
    pub(crate) running: Version,
    /// Entries that made room.
    pub(crate) removed: Vec<Entry>,
    /// The comment that was signed.
    pub(crate) comment: String,
    /// The boot loader prefers this one, since it is newer.
    pub(crate) shadowed_by: Option<Entry>,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The running version.
    pub(crate) running: Version,
    /// Entries, what the boot loader starts first at the front.
    pub(crate) entries: Vec<(Entry, u64)>,
}

/// Why nothing was installed. Whatever it says, the machine starts what it started before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpdateError {
    /// Not here.
    #[error(transparent)]
    Esp(#[from] NoEsp),
    /// This is no image of ours.
    #[error("the running system cannot be updated ({})", path.display())]
    Running {
        /// os-release.
        path: PathBuf,
        /// Why not.
        #[source]
        source: NotOurs,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Not signed by whom we trust.
    #[error("{} is not installed", file.display())]
    Untrusted {
        /// The update.
        file: PathBuf,
        /// Why not.
        #[source]
        source: Untrusted,
    },
    /// Signed, and no update for this machine.
    #[error("{} is no update for this machine", file.display())]
    NoUki {
        /// The update.
        file: PathBuf,
        /// Why not.
        #[source]
        source: NoUki,
    },
    /// Not wanted or not possible.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The ESP failed.
    #[error(transparent)]
    Io(#[from] EspError),
}

// === impl Machine ===

impl Machine {
    /// Installs an update beside the running version.
    pub(crate) fn install(&self, request: &Request) -> Result<Done, UpdateError> {
        let file = named(&request.file);
        let untrusted = |source| UpdateError::Untrusted { file: file.clone(), source };
        let unreadable = |source| UpdateError::Read { path: file.clone(), source };
        let esp = Esp::open(&self.boot_dir, &self.firmware)?;
        let running = self.running()?;
        let claim = Claim::read(&request.signature, &request.key).map_err(untrusted)?;
        let (source, len) = open(&request.file).map_err(unreadable)?;
        esp.clean()?;
        let entries = esp.entries()?.into_iter().map(|(entry, _)| entry).collect();
        let situation = Situation { running, entries };
        situation.room(len, esp.free_bytes()?)?;

        let mut listener = claim.listen().map_err(untrusted)?;
        let incoming =
            esp.receive(source, |piece| listener.hear(piece)).map_err(|stop| match stop {
                Stop::Source(error) => unreadable(error),
                Stop::Esp(error) => error.into(),
            })?;
        let comment = listener.finish().map_err(untrusted)?;
        let new = uki::version(incoming.open()?)
            .map_err(|source| UpdateError::NoUki { file: file.clone(), source })?;
        let plan = plan::plan(&situation, new, request.force)?;
        esp.install(&plan, incoming)?;
        Ok(Done {
            entry: plan.write,
            running: situation.running,
            removed: plan.remove,
            comment,
            shadowed_by: plan.shadowed_by,
        })
    }

    /// What there is to start.
    pub(crate) fn list(&self) -> Result<Listing, UpdateError> {
        let esp = Esp::open(&self.boot_dir, &self.firmware)?;
        Ok(Listing { running: self.running()?, entries: esp.entries()? })
    }

    /// What the boot loader says that it has started; where none has, what the system says that it is.
    fn running(&self) -> Result<Version, UpdateError> {
        if let Some(entry) = loader::selected(&self.firmware) {
            return Ok(entry.version);
        }
        let path = &self.os_release;
        let words = std::fs::read_to_string(path)
            .map_err(|source| UpdateError::Read { path: path.clone(), source })?;
        os_release::version(&words)
            .map_err(|source| UpdateError::Running { path: path.clone(), source })
    }
}

/// What a file is called in errors.
fn named(file: &Path) -> PathBuf {
    if file == Path::new(STANDARD_INPUT) { "standard input".into() } else { file.to_owned() }
}

/// The file and its length, as far as that is known.
fn open(path: &Path) -> io::Result<(Box<dyn Read>, u64)> {
    if path == Path::new(STANDARD_INPUT) {
        return Ok((Box::new(io::stdin().lock()), 0));
    }
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    Ok((Box::new(file), len))
}
