//! Updates of the image: a signed file becomes a further entry of the boot loader, beside the running one.
//!
//! The boot loader starts the new entry twice at most; unless a start is found healthy, which removes the counter from
//! the file's name, it goes back to the old entry. So nothing here may touch the entry of the running version.
//! `plan` decides, `esp` carries out; what is in the file is believed only after `signature`.

mod entry;
mod esp;
mod os_release;
mod plan;
mod signature;
#[cfg(test)]
mod tests;
mod uki;
mod version;

pub(crate) use entry::Entry;
pub(crate) use version::Version;

use esp::{Esp, EspError, NoEsp};
use os_release::NotOurs;
use plan::{Refused, Situation};
use signature::Untrusted;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use uki::NoUki;

/// No update is larger; a mistaken file shall not fill the memory.
const MAX_FILE_BYTES: u64 = 512 << 20;

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
    /// The unified kernel image.
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
        let esp = Esp::open(&self.boot_dir, &self.firmware)?;
        let running = self.running()?;
        // Read once: what is written is what was verified, whatever becomes of the file meanwhile.
        let file = read(&request.file)?;
        let comment = signature::verify(&file, &request.signature, &request.key)
            .map_err(|source| UpdateError::Untrusted { file: request.file.clone(), source })?;
        let new = uki::version(&file)
            .map_err(|source| UpdateError::NoUki { file: request.file.clone(), source })?;
        esp.clean()?;
        let (entries, free_bytes) = (esp.entries()?, esp.free_bytes()?);
        let situation = Situation { running, entries, free_bytes };
        let plan = plan::plan(&situation, new, file.len() as u64, request.force)?;
        esp.install(&plan, &file)?;
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

    fn running(&self) -> Result<Version, UpdateError> {
        let path = &self.os_release;
        let words = std::fs::read_to_string(path)
            .map_err(|source| UpdateError::Read { path: path.clone(), source })?;
        os_release::version(&words)
            .map_err(|source| UpdateError::Running { path: path.clone(), source })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, UpdateError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let words = format!("it is larger than any update ({} MiB)", MAX_FILE_BYTES >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
        }
        Ok(())
    });
    read.map_err(|source| UpdateError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}
