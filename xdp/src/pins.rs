//! Where everything lives while no process holds it: one directory on a bpffs.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};

use crate::error::PinError;
use crate::types::AttachMode;

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS: FsType = FsType(0xcafe_4a11);

/// Makes the pin directory, and the bpffs at its parent when there is none.
pub(crate) fn prepare(pin_dir: &Path) -> Result<(), PinError> {
    let parent = pin_dir
        .parent()
        .filter(|parent| pin_dir.is_absolute() && parent.parent().is_some())
        .ok_or_else(|| PinError::NoParent(pin_dir.to_owned()))?;
    if !is_bpffs(parent) {
        std::fs::create_dir_all(parent).map_err(io_error(parent))?;
        mount(parent)?;
    }
    match std::fs::create_dir(pin_dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error(pin_dir)(error)),
        _ => Ok(()),
    }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS)
}

#[expect(unsafe_code, reason = "mount(2) is a system call with pointers")]
fn mount(path: &Path) -> Result<(), PinError> {
    let target = CString::new(path.as_os_str().as_bytes())
        .map_err(|error| io_error(path)(io::Error::other(error)))?;
    // SAFETY: three strings that live during the call, and no data.
    let result = unsafe {
        libc::mount(c"bpf".as_ptr(), target.as_ptr(), c"bpf".as_ptr(), 0, std::ptr::null())
    };
    if result == 0 {
        tracing::info!(path = %path.display(), "mounted a bpffs");
        return Ok(());
    }
    Err(PinError::Mount { path: path.to_owned(), source: io::Error::last_os_error() })
}

/// The file name of a link's attachment: the kernel does not tell the mode of one that is adopted.
pub(crate) fn link_name(link_index: u32, mode: AttachMode) -> String {
    let mode = match mode {
        AttachMode::Native => "native",
        AttachMode::Generic => "generic",
    };
    format!("link-{link_index}-{mode}")
}

/// The inverse of [`link_name`].
fn parse_link_name(name: &str) -> Option<(u32, AttachMode)> {
    let (link_index, mode) = name.strip_prefix("link-")?.split_once('-')?;
    let mode = match mode {
        "native" => AttachMode::Native,
        "generic" => AttachMode::Generic,
        _ => return None,
    };
    Some((link_index.parse().ok()?, mode))
}

/// The attachments pinned here.
pub(crate) fn links(pin_dir: &Path) -> Result<Vec<(u32, AttachMode)>, PinError> {
    Ok(files(pin_dir)?
        .iter()
        .filter_map(|path| parse_link_name(path.file_name()?.to_str()?))
        .collect())
}

/// Every pin here.
pub(crate) fn files(pin_dir: &Path) -> Result<Vec<PathBuf>, PinError> {
    let entries = match std::fs::read_dir(pin_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error(pin_dir))?,
    };
    entries.map(|entry| Ok(entry.map_err(io_error(pin_dir))?.path())).collect()
}

/// Removes a pin; one that is gone already is fine.
pub(crate) fn unpin(path: &Path) -> Result<(), PinError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

/// Removes every pin. Attachments go first, so that no packet meets a program without maps.
pub(crate) fn clear(pin_dir: &Path) -> Result<(), PinError> {
    let (links, others): (Vec<_>, Vec<_>) =
        files(pin_dir)?.into_iter().partition(|path| path.to_string_lossy().contains("/link-"));
    links.iter().chain(&others).try_for_each(|path| unpin(path))
}

pub(crate) fn io_error(path: &Path) -> impl Fn(io::Error) -> PinError {
    move |source| PinError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_come_back_and_others_are_not_ours() {
        for mode in [AttachMode::Native, AttachMode::Generic] {
            assert_eq!(parse_link_name(&link_name(12, mode)), Some((12, mode)));
        }
        for name in ["link-x-native", "link-1", "FLOWS", "link-1-offload"] {
            assert_eq!(parse_link_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_relative_or_shallow_directory_is_refused() {
        for path in ["pins", "/pins"] {
            assert!(matches!(prepare(Path::new(path)), Err(PinError::NoParent(_))), "{path}");
        }
    }
}
