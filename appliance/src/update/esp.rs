//! The EFI system partition of the running machine: what is on it, and how a file gets there whole or not at all.

use super::entry::Entry;
use super::plan::Plan;
use crate::files;
use nix::sys::statvfs::statvfs;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

/// Where the boot loader looks for unified kernel images.
const ENTRIES: &str = "EFI/Linux";

/// Where systemd-boot lies: where it is installed, and where firmware looks without being told.
const LOADERS: [&str; 2] = ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"];

/// The end of a file's name while it is being written; the boot loader does not look at such.
const UNFINISHED: &str = ".efi.tmp";

/// No update is larger; a mistaken file shall not fill the partition.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// What is read at once: an update needs no more memory than this.
const PIECE: usize = 256 << 10;

/// It is not to be updated here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoEsp {
    /// Started by a BIOS.
    #[error(
        "this machine was started by BIOS, where a bad update would not be undone by itself: that needs UEFI.\n\
         To update here, write the new disk image over the disk, and give it its configuration again; or let the machine \
         start by UEFI (the disk can do both), then update"
    )]
    Bios,
    /// Not mounted, or another partition.
    #[error(
        "{} is not an EFI system partition with systemd-boot: {missing} is not there.\n\
         Is it mounted? --boot-dir DIR names another place", dir.display()
    )]
    Missing {
        /// What was named.
        dir: PathBuf,
        /// What every such partition has.
        missing: &'static str,
    },
}

/// A file on the ESP could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub(crate) struct EspError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The partition.
#[derive(Debug)]
pub(crate) struct Esp {
    entries: PathBuf,
}

/// A file that lies on the partition and is not yet an entry. Dropped, it goes away again.
#[derive(Debug)]
pub(crate) struct Incoming {
    path: PathBuf,
    is_kept: bool,
}

/// Where an update did not arrive whole.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Its source.
    Source(io::Error),
    /// The partition.
    Esp(EspError),
}

// === impl Esp ===

impl Esp {
    /// The partition mounted at `dir`, of a machine whose firmware shows itself at `firmware` (`/sys/firmware/efi`).
    pub(crate) fn open(dir: &Path, firmware: &Path) -> Result<Self, NoEsp> {
        if !firmware.is_dir() {
            return Err(NoEsp::Bios);
        }
        let missing = |missing| Err(NoEsp::Missing { dir: dir.to_owned(), missing });
        let entries = dir.join(ENTRIES);
        if !entries.is_dir() {
            return missing(ENTRIES);
        }
        if !LOADERS.iter().any(|loader| dir.join(loader).is_file()) {
            return missing(LOADERS[0]);
        }
        Ok(Esp { entries })
    }

    /// Our entries with the sizes of their files, what the boot loader starts first at the front.
    pub(crate) fn entries(&self) -> Result<Vec<(Entry, u64)>, EspError> {
        let mut entries = Vec::new();
        for file in self.files()? {
            let name = file.file_name();
            if let Some(entry) = name.to_str().and_then(Entry::parse) {
                let meta = file.metadata().map_err(|source| error("read", file.path(), source))?;
                entries.push((entry, meta.len()));
            }
        }
        entries.sort_by(|(a, _), (b, _)| a.preference(b));
        Ok(entries)
    }

    /// Takes away what an update that was cut off has left.
    pub(crate) fn clean(&self) -> Result<(), EspError> {
        for file in self.files()? {
            if file.file_name().to_string_lossy().ends_with(UNFINISHED) {
                self.remove(&file.path())?;
            }
        }
        Ok(())
    }

    /// Room for files of ours.
    pub(crate) fn free_bytes(&self) -> Result<u64, EspError> {
        let stat = statvfs(&self.entries)
            .map_err(|errno| error("ask for the room in", self.entries.clone(), errno.into()))?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    /// Takes a file in, piece by piece, and shows each to `hear`; whether it is what it should be is known only at its end.
    pub(crate) fn receive(
        &self,
        mut source: impl Read,
        mut hear: impl FnMut(&[u8]),
    ) -> Result<Incoming, Stop> {
        let path = self.entries.join(format!("sluice_incoming{UNFINISHED}"));
        let incoming = Incoming { path, is_kept: false };
        let failed = |error| Stop::Esp(incoming.error("write", error));
        let mut file = files::create_own(&incoming.path).map_err(failed)?;
        let (mut piece, mut taken) = (vec![0; PIECE], 0);
        loop {
            let len = match source.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Source(error)),
            };
            taken += len as u64;
            if taken > MAX_FILE_BYTES {
                let words = format!("it is larger than any update ({} MiB)", MAX_FILE_BYTES >> 20);
                return Err(Stop::Source(io::Error::new(io::ErrorKind::FileTooLarge, words)));
            }
            let piece = piece.get(..len).unwrap_or_default();
            hear(piece);
            file.write_all(piece).map_err(failed)?;
        }
        if taken == 0 {
            return Err(Stop::Source(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty")));
        }
        file.sync_all().map_err(failed)?;
        Ok(incoming)
    }

    /// Carries a plan out. Until the last step, the rename, the machine starts what it started before; each step is on the
    /// disk before the next one begins.
    pub(crate) fn install(&self, plan: &Plan, mut incoming: Incoming) -> Result<(), EspError> {
        for entry in &plan.remove {
            self.remove(&self.entries.join(entry.to_string()))?;
        }
        self.sync()?;
        let finished = self.entries.join(plan.write.to_string());
        fs::rename(&incoming.path, &finished).map_err(|source| error("name", finished, source))?;
        incoming.is_kept = true;
        self.sync()
    }

    fn files(&self) -> Result<Vec<fs::DirEntry>, EspError> {
        let read = fs::read_dir(&self.entries).and_then(Iterator::collect);
        read.map_err(|source| error("read", self.entries.clone(), source))
    }

    fn remove(&self, path: &Path) -> Result<(), EspError> {
        fs::remove_file(path).map_err(|source| error("remove", path.to_owned(), source))
    }

    /// A directory's own file is what makes names durable.
    fn sync(&self) -> Result<(), EspError> {
        let synced = File::open(&self.entries).and_then(|dir| dir.sync_all());
        synced.map_err(|source| error("write", self.entries.clone(), source))
    }
}

// === impl Incoming ===

impl Incoming {
    /// To look into it.
    pub(crate) fn open(&self) -> Result<File, EspError> {
        File::open(&self.path).map_err(|source| self.error("read", source))
    }

    fn error(&self, what: &'static str, source: io::Error) -> EspError {
        error(what, self.path.clone(), source)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_kept {
            // It only takes room; if it cannot be removed now, the next update does.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn error(what: &'static str, path: PathBuf, source: io::Error) -> EspError {
    EspError { what, path, source }
}
