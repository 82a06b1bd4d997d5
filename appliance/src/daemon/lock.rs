//! One daemon for each state directory: a lock that the kernel gives back when the process ends, however it ends.

use anyhow::{Context as _, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

/// Held as long as it lives.
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock, and writes our process id into its file for whoever comes second.
pub(super) fn acquire(state_dir: &Path) -> anyhow::Result<Lock> {
    std::fs::create_dir_all(state_dir)
        .with_context(|| format!("cannot create the state directory {}", state_dir.display()))?;
    let path = state_dir.join("sluice.lock");
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.with_context(|| format!("cannot open the lock {}", path.display()))?;
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
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Lock { _file: file })
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
    fn a_file_left_behind_is_no_lock() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path().join("sluice.lock"), "4194304\n").unwrap();
        acquire(scratch.path()).unwrap();
        let pid = std::fs::read_to_string(scratch.path().join("sluice.lock")).unwrap();
        assert_eq!(pid.trim(), std::process::id().to_string());
    }
}
