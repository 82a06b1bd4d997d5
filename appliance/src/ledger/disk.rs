//! The ledger's place on the disk: the newest state, the one before it, and what becomes of a file that cannot be read.

use super::Content;
use super::file;
use crate::files;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// No ledger of ours is larger: 10,000 services with 100 backends each are 60 MB.
const MAX_BYTES: u64 = 1 << 30;

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// The newest state.
    Current(Content),
    /// There never was one, as far as can be told.
    Nothing,
    /// The one before: the newest one is lost, and why.
    Previous(Content, String),
    /// Neither can be read, and why.
    Lost(String),
}

/// The state before the newest one.
pub(super) fn previous(path: &Path) -> PathBuf {
    path.with_extension("json.1")
}

/// Reads what is there. What cannot be understood is moved aside, not deleted.
pub(super) fn read(path: &Path, nat64_source: Option<Ipv4Addr>) -> Found {
    let reason = match content(path, nat64_source) {
        Ok(Some(content)) => return Found::Current(content),
        Ok(None) => None,
        Err(reason) => Some(set_aside(path, &reason)),
    };
    match (content(&previous(path), nat64_source), reason) {
        (Ok(Some(content)), reason) => {
            let reason = reason.unwrap_or_else(|| "the ledger is gone".to_owned());
            Found::Previous(
                content,
                format!("{reason}; the state before its last change is in force"),
            )
        }
        (Ok(None), None) => Found::Nothing,
        (Ok(None), Some(reason)) => Found::Lost(reason),
        (Err(before), reason) => {
            let reason = reason.unwrap_or_else(|| "the ledger is gone".to_owned());
            Found::Lost(format!("{reason}; the one before it cannot be read either ({before})"))
        }
    }
}

/// Replaces the newest state, which becomes the one before.
pub(super) fn write(path: &Path, content: &Content) -> io::Result<()> {
    files::replace_own(path, &previous(path), &file::bytes(content)?)
}

fn content(path: &Path, nat64_source: Option<Ipv4Addr>) -> Result<Option<Content>, String> {
    match files::read_own(path, MAX_BYTES) {
        Ok(bytes) => file::content(&bytes, nat64_source).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            Err("a symbolic link is in its place".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn set_aside(path: &Path, reason: &str) -> String {
    let aside = path.with_extension("json.unreadable");
    match std::fs::rename(path, &aside) {
        Ok(()) => {
            format!("the ledger could not be read ({reason}); it is kept as {}", aside.display())
        }
        Err(error) => format!("the ledger could not be read ({reason}), nor moved aside ({error})"),
    }
}
