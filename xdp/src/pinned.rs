//! Descriptors of everything that is pinned: whatever happens to the pins, what runs goes on.
//!
//! A pin is only a name. Without a descriptor the kernel ends an attachment with its last name, at once and on every
//! link, and empties the table of programs that packets are handed over to.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::PinError;
use crate::{pins, sys};

/// A map, program or attachment with its name.
pub(crate) struct Pinned {
    path: PathBuf,
    fd: OwnedFd,
    id: u32,
}

// === impl Pinned ===

impl Pinned {
    /// Opens what is pinned here.
    pub(crate) fn open(path: PathBuf) -> Result<Self, PinError> {
        let fd = sys::open_pin(&path).map_err(pins::io_error(&path))?;
        let id = sys::id(fd.as_fd()).map_err(pins::io_error(&path))?;
        Ok(Self { path, fd, id })
    }

    /// Names this object, in place of another one of that name.
    pub(crate) fn pin(path: PathBuf, fd: OwnedFd) -> Result<Self, PinError> {
        let id = sys::id(fd.as_fd()).map_err(pins::io_error(&path))?;
        let held = Self { path, fd, id };
        held.rename()?;
        Ok(held)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Sees to it that the name leads to this object. True when it did not.
    pub(crate) fn see_to_name(&self) -> Result<bool, PinError> {
        if self.is_named() {
            return Ok(false);
        }
        self.rename()?;
        Ok(true)
    }

    fn is_named(&self) -> bool {
        let id = |found: io::Result<OwnedFd>| found.and_then(|fd| sys::id(fd.as_fd()));
        id(sys::open_pin(&self.path)).is_ok_and(|id| id == self.id)
    }

    fn rename(&self) -> Result<(), PinError> {
        pins::unpin(&self.path)?;
        sys::pin(self.fd.as_fd(), &self.path).map_err(pins::io_error(&self.path))
    }
}
