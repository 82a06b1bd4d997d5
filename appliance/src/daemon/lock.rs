//! One daemon for each state directory: a lock that the kernel gives back when the process ends, however it ends.

use crate::files;
use anyhow::{Context as _, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::path::Path;

/// Held as long as it lives.
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock, and writes our process id into its file for whoever comes second.
pub(super) fn acquire(state_dir: &Path) -> anyhow::Result<Lock> {
    files::create_own_dir(state_dir)
        .with_context(|| format!("cannot create the state directory {}", state_dir.display()))?;
    let path = state_dir.join("sluice.lock");
    let (mut file, is_ours) =
        open(&path).with_context(|| format!("cannot open the lock {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid);
            let pid = read.ok().map(|_| pid.trim().to_owned()).filter(|pid| !pid.is_empty());
            let pid = pid.unwrap_or_else(|| "unknown".to_owned());
            bail!("sluice is already running, pid {pid} (it holds {})", path.display());
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    if is_ours {
        // Who runs is a courtesy; a full disk does not keep anybody from running.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        drop(written);
    }
    Ok(Lock { _file: file })
}

/// The file, and whether it can be written. On a file system that has become read-only the daemon starts all the same:
/// what it does not keep it does not promise.
fn open(path: &Path) -> std::io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    match files::open_own(path, options.read(true).write(true).create(true).truncate(false)) {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
            Ok((files::open_own(path, OpenOptions::new().read(true))?, false))
        }
        opened => Ok((opened?, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_second_one_is_told_who_is_first() {
        let scratch = Scratch::new();
        let first = acquire(scratch.path()).unwrap();
        let second = acquire(scratch.path()).err().unwrap().to_string();
        let expected = format!("sluice is already running, pid {} ", std::process::id());
        assert!(second.starts_with(&expected), "{second}");
        drop(first);
        acquire(scratch.path()).unwrap();
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("victim"), "precious").unwrap();
        std::os::unix::fs::symlink("victim", scratch.path().join("sluice.lock")).unwrap();
        assert!(acquire(scratch.path()).is_err());
        assert_eq!(std::fs::read_to_string(scratch.path().join("victim")).unwrap(), "precious");
    }

    #[test]
    fn a_file_left_behind_is_no_lock() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("sluice.lock"), "4194304\n").unwrap();
        acquire(scratch.path()).unwrap();
        let pid = std::fs::read_to_string(scratch.path().join("sluice.lock")).unwrap();
        assert_eq!(pid.trim(), std::process::id().to_string());
    }
}
