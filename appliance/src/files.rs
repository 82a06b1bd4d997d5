//! Files. Those of the state directory are the daemon's own: a symbolic link in their place is never followed, and they
//! are replaced as a whole. Those that people edit are read with what editors do to them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What UTF-8 texts of some editors begin with (U+FEFF).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Only root needs what is in here.
const OWN_FILE: u32 = 0o600;
const OWN_DIRECTORY: u32 = 0o700;

/// Opens a file of the daemon's own. A symbolic link is refused, and so is what is no file; nothing here waits for the
/// other end of a pipe.
pub(crate) fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = options.mode(OWN_FILE).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok(file)
}

/// Reads a file of the daemon's own, of `most` bytes at most.
pub(crate) fn read_own(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_own(path, OpenOptions::new().read(true))?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let words = format!("it is larger than {} MiB", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, words));
    }
    Ok(bytes)
}

/// Makes a directory of the daemon's own, if it is not there.
pub(crate) fn create_own_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(OWN_DIRECTORY).create(path)
}

/// Replaces a file of the daemon's own so that at every moment, also after a power cut, the old content or the new one
/// is there; what the old one was is kept as `previous`.
///
/// # Errors
/// When it cannot be kept. The old content is then still there, and the room of the new one is free again.
pub(crate) fn replace_own(path: &Path, previous: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    create_own_dir(directory)?;
    let fresh = path.with_extension("json.new");
    let written = write_new(&fresh, bytes)
        .and_then(|()| keep(path, previous))
        .and_then(|()| std::fs::rename(&fresh, path));
    if let Err(error) = written {
        // Whatever is left of it only takes room.
        drop(std::fs::remove_file(&fresh));
        return Err(error);
    }
    // The rename itself is only safe once the directory is.
    File::open(directory)?.sync_all()
}

/// An empty file in the place of whatever had this name. Creating it exclusively follows no link.
pub(crate) fn create_own(path: &Path) -> io::Result<File> {
    remove(path)?;
    open_own(path, OpenOptions::new().write(true).create_new(true))
}

/// A file that is on the disk before this returns.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create_own(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The file gets a second name, so that it is never without one.
fn keep(path: &Path, previous: &Path) -> io::Result<()> {
    let step = previous.with_extension("1.new");
    remove(&step)?;
    match std::fs::hard_link(path, &step) {
        Ok(()) => std::fs::rename(&step, previous),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A file system without second names: for a moment there is only the previous one, and that is read then.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            std::fs::rename(path, previous)
        }
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads what people write, without the byte order mark that some editors put in front.
pub(crate) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = std::fs::read(path)?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// [`bytes`] as text; line ends stay as they are, every reader here takes CRLF too.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    let bytes = bytes(path)?;
    let is_wide = matches!(bytes.get(..2), Some([0xff, 0xfe] | [0xfe, 0xff]));
    String::from_utf8(bytes).map_err(|error| {
        let words = if is_wide {
            "it is UTF-16; save it as UTF-8".to_owned()
        } else {
            let at = error.utf8_error().valid_up_to();
            format!("byte {} is no UTF-8; save it as UTF-8", at.saturating_add(1))
        };
        io::Error::new(io::ErrorKind::InvalidData, words)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_link_is_never_followed() {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name);
        std::fs::write(at("victim"), "precious").unwrap();
        for name in ["x.json", "x.json.new", "x.json.1", "x.json.1.new"] {
            symlink(at("victim"), at(name)).unwrap();
        }
        assert!(read_own(&at("x.json"), 100).is_err());
        replace_own(&at("x.json"), &at("x.json.1"), b"one").unwrap();
        replace_own(&at("x.json"), &at("x.json.1"), b"two").unwrap();
        assert_eq!(std::fs::read_to_string(at("victim")).unwrap(), "precious");
        assert_eq!(read_own(&at("x.json"), 100).unwrap(), b"two");
        assert_eq!(read_own(&at("x.json.1"), 100).unwrap(), b"one");
        let mode = std::fs::metadata(at("x.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 3, "nothing else is left");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let scratch = Scratch::new();
        let pipe = scratch.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read_own(&pipe, 100).unwrap_err().to_string().contains("no regular file"));
        assert!(read_own(scratch.path(), 100).is_err());
        std::fs::write(scratch.path().join("big"), [0; 101]).unwrap();
        assert!(read_own(&scratch.path().join("big"), 100).is_err());
    }

    #[test]
    fn marks_of_editors_are_no_content() {
        let scratch = Scratch::new();
        let path = scratch.path().join("text");
        for (content, read) in [
            (&b"\xef\xbb\xbfa = 1\r\n"[..], Ok("a = 1\r\n")),
            (b"a = 1", Ok("a = 1")),
            (b"\xff\xfea\0", Err("UTF-16")),
            (b"\xfe\xff\0a", Err("UTF-16")),
            (b"abc\xff", Err("byte 4")),
        ] {
            std::fs::write(&path, content).unwrap();
            match (text(&path), read) {
                (Ok(text), Ok(wanted)) => assert_eq!(text, wanted),
                (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{error}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
