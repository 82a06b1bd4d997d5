//! Attachments: one BPF link each, held by a descriptor and by a pin, whose program is replaced atomically.
//!
//! What is attached is asked of the kernel, link by link: others may detach it, put another program there, or take the
//! link away and give its index to a new one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::programs::ProgramFd;
use sluice_xdp_abi::limits::MAX_LINKS;
use sluice_xdp_abi::names;

use crate::error::{AttachError, DetachError, MapFailure, OpenError, PinError, RemoveError};
use crate::findings::Finding;
use crate::open::program;
use crate::pinned::Pinned;
use crate::pins::{self, link_name};
use crate::types::{AttachMode, AttachPolicy};
use crate::{DataPlane, sys};

/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE` of linux/if_link.h.
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;

/// The program on a link.
pub(crate) struct Attachment {
    mode: AttachMode,
    link: Pinned,
    /// Our program was put there; a predecessor's runs there otherwise.
    is_current: bool,
}

// === impl DataPlane ===

impl DataPlane {
    /// Attaches to a link, or atomically replaces the program of an adopted attachment.
    ///
    /// # Errors
    /// No such link, another program there, a driver that cannot (only with [`AttachPolicy::Native`]).
    pub fn attach(&mut self, link_index: u32) -> Result<AttachMode, AttachError> {
        if let Some(mode) = self.replace(link_index) {
            return Ok(mode);
        }
        if self.links.len() >= MAX_LINKS as usize {
            return Err(AttachError::TooManyLinks);
        }
        let (link, mode) = self.attach_by_policy(link_index)?;
        self.keep(link_index, link, mode)?;
        Ok(mode)
    }

    /// Detaches from a link. One that is not attached is fine.
    ///
    /// # Errors
    /// When the pin cannot be removed or the kernel refuses a map update.
    pub fn detach(&mut self, link_index: u32) -> Result<(), DetachError> {
        if let Some(attachment) = self.links.get(&link_index) {
            pins::unpin(attachment.link.path())?;
            attachment.end();
            self.links.remove(&link_index);
            self.maps.links.remove(&link_index)?;
            self.flush_cache()?;
        }
        Ok(())
    }

    /// Attached links by index, as the kernel says. A program that somebody put in place of ours is replaced; an
    /// attachment that has left its link is forgotten, and [`DataPlane::attach`] makes a new one.
    pub fn attached(&mut self) -> BTreeMap<u32, AttachMode> {
        let ours = self.program_id();
        let found: Vec<Finding> = self
            .links
            .iter()
            .filter_map(|(link_index, attachment)| attachment.inspect(*link_index, ours))
            .collect();
        for finding in found {
            match finding {
                Finding::ProgramReplaced(link_index) => drop(self.replace(link_index)),
                Finding::Detached(link_index) => self.forget(link_index),
                _ => {}
            }
            self.findings.push(finding);
        }
        self.links.iter().map(|(link_index, attachment)| (*link_index, attachment.mode)).collect()
    }

    /// Why links are attached behind their drivers although they need not be, in the words of the kernel: the link
    /// whose driver does not take the program. Frames cannot be redirected from a driver to such a link.
    pub fn fallback(&self) -> Option<(u32, &str)> {
        let (link_index, why) = self.fallback.as_ref()?;
        Some((*link_index, why))
    }

    /// Detaches from every link and removes every pin.
    ///
    /// # Errors
    /// When a pin cannot be removed; the others are.
    pub fn remove(self) -> Result<(), RemoveError> {
        for attachment in self.links.values() {
            attachment.end();
        }
        pins::clear(&self.pin_dir)?;
        match std::fs::remove_dir(&self.pin_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(pins::io_error(&self.pin_dir)(error).into())
            }
            _ => Ok(()),
        }
    }

    /// Finds the attachments of a predecessor, and forgets those whose link is gone.
    pub(crate) fn read_links(&mut self) -> Result<(), OpenError> {
        for (link_index, mode) in pins::links(&self.pin_dir)? {
            let path = self.pin_dir.join(link_name(link_index, mode));
            let link = Pinned::open(path.clone());
            // A link that is gone took its attachment with it; only the pin is left.
            let link = link.ok().filter(|link| attached_to(link) == Some(link_index));
            match link {
                Some(link) => {
                    let attachment = Attachment { mode, link, is_current: false };
                    self.links.insert(link_index, attachment);
                }
                None => pins::unpin(&path)?,
            }
        }
        self.set_links()?;
        Ok(())
    }

    /// Makes the map of attached links equal to what is attached. True when it was not.
    pub(crate) fn set_links(&mut self) -> Result<bool, MapFailure> {
        let macs = macs();
        let is: BTreeMap<u32, u64> = self.maps.links.entries()?.into_iter().collect();
        for link_index in is.keys().filter(|link_index| !self.links.contains_key(link_index)) {
            self.maps.links.remove(link_index)?;
        }
        for link_index in self.links.keys() {
            let mac = macs.get(link_index).copied().unwrap_or_default();
            if is.get(link_index) != Some(&mac) {
                self.maps.links.insert(link_index, &mac)?;
            }
        }
        // A MAC that is another one now is nobody's meddling with the map.
        Ok(!is.keys().eq(self.links.keys()))
    }

    /// Names of attachments that lead elsewhere are set right; returns how many.
    pub(crate) fn name_links(&self) -> Result<usize, PinError> {
        let named = self.links.values().map(|attachment| attachment.link.see_to_name());
        let named: Vec<bool> = named.collect::<Result<_, _>>()?;
        Ok(named.into_iter().filter(|was_lost| *was_lost).count())
    }

    fn program_id(&mut self) -> Option<u32> {
        sys::id(self.program_fd().ok()?.as_fd()).ok()
    }

    fn program_fd(&mut self) -> io::Result<&ProgramFd> {
        let missing = || io::Error::other("the program is not loaded");
        let program = program(&mut self.bpf, names::PROGRAM).ok_or_else(missing)?;
        program.fd().map_err(io::Error::other)
    }

    /// Puts our program where an attachment is. `None` when there is none, or none that can be kept: its link may be
    /// gone and its index another link's now.
    fn replace(&mut self, link_index: u32) -> Option<AttachMode> {
        let mode = self.links.get(&link_index)?.mode;
        let result = if mode == self.wanted_mode(mode) {
            self.update(link_index).map_err(|error| error.to_string())
        } else {
            Err("another mode is wanted".to_owned())
        };
        match result {
            Ok(()) => Some(mode),
            Err(error) => {
                tracing::info!(link_index, error, "attaching again");
                self.forget(link_index);
                None
            }
        }
    }

    /// The mode by policy of a link that is, or may be, in this one. Links go together: none stays in its driver while
    /// another one is behind its own.
    fn wanted_mode(&self, mode: AttachMode) -> AttachMode {
        match self.attach {
            AttachPolicy::Native => AttachMode::Native,
            AttachPolicy::Generic => AttachMode::Generic,
            AttachPolicy::Auto if self.has_generic() => AttachMode::Generic,
            AttachPolicy::Auto => mode,
        }
    }

    fn has_generic(&self) -> bool {
        self.links.values().any(|attachment| attachment.mode == AttachMode::Generic)
    }

    /// `BPF_LINK_UPDATE`: from one packet to the next, nothing is lost.
    fn update(&mut self, link_index: u32) -> io::Result<()> {
        let program = self.program_fd()?.try_clone().map_err(io::Error::other)?;
        let Some(attachment) = self.links.get_mut(&link_index) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        // The kernel updates an attachment that has left its link without a word.
        if attached_to(&attachment.link) != Some(link_index) {
            return Err(io::Error::other("the attachment has left its link"));
        }
        sys::update_link(attachment.link.fd(), program.as_fd())?;
        attachment.is_current = true;
        Ok(())
    }

    /// Ends an attachment as far as it is still there.
    fn forget(&mut self, link_index: u32) {
        let Some(attachment) = self.links.remove(&link_index) else { return };
        attachment.end();
        if let Err(error) = pins::unpin(attachment.link.path()) {
            tracing::warn!(link_index, %error, "cannot remove the old attachment's name");
        }
        // A frame may still be redirected there: that works without a program of ours too.
        if let Err(error) = self.maps.links.remove(&link_index) {
            tracing::warn!(link_index, %error, "cannot forget the link");
        }
    }

    fn attach_by_policy(&mut self, link_index: u32) -> Result<(OwnedFd, AttachMode), AttachError> {
        let mode = self.wanted_mode(AttachMode::Native);
        match self.attach_in_mode(link_index, mode) {
            Err(AttachError::Kernel { source, .. })
                if self.attach == AttachPolicy::Auto && mode == AttachMode::Native =>
            {
                tracing::warn!(
                    link_index, error = %source,
                    "the driver does not take the program; attaching all links behind theirs"
                );
                let link = self.attach_in_mode(link_index, AttachMode::Generic)?;
                self.fallback = Some((link_index, source.to_string()));
                self.leave_drivers();
                Ok((link, AttachMode::Generic))
            }
            result => result.map(|link| (link, mode)),
        }
    }

    /// Moves every attachment behind its driver. What does not let itself be moved is detached, which the next look at
    /// [`DataPlane::attached`] shows.
    fn leave_drivers(&mut self) {
        let indexes: Vec<u32> = self.links.keys().copied().collect();
        for link_index in indexes {
            self.forget(link_index);
            let moved = self
                .attach_in_mode(link_index, AttachMode::Generic)
                .and_then(|link| self.keep(link_index, link, AttachMode::Generic));
            if let Err(error) = moved {
                tracing::warn!(link_index, %error, "cannot attach behind the driver");
            }
        }
    }

    fn attach_in_mode(
        &mut self,
        link_index: u32,
        mode: AttachMode,
    ) -> Result<OwnedFd, AttachError> {
        let flags = match mode {
            AttachMode::Native => DRV_MODE,
            AttachMode::Generic => SKB_MODE,
        };
        self.program_fd()
            .and_then(|program| sys::create_link(program.as_fd(), link_index, flags))
            .map_err(|source| classify(link_index, source))
    }

    fn keep(
        &mut self,
        link_index: u32,
        link: OwnedFd,
        mode: AttachMode,
    ) -> Result<(), AttachError> {
        let path = self.pin_dir.join(link_name(link_index, mode));
        let pinned = pins::prepare(&self.pin_dir).and_then(|()| Pinned::pin(path, link));
        let link =
            pinned.map_err(|error| AttachError::Pin { link_index, source: Box::new(error) })?;
        let mac = macs().get(&link_index).copied().unwrap_or_default();
        self.maps.links.insert(&link_index, &mac)?;
        self.links.insert(link_index, Attachment { mode, link, is_current: true });
        Ok(())
    }
}

// === impl Attachment ===

impl Attachment {
    /// What others did to it. `ours` is the program that should run.
    fn inspect(&self, link_index: u32, ours: Option<u32>) -> Option<Finding> {
        let info = sys::link_info(self.link.fd()).ok();
        match info.filter(|info| info.link_index == link_index) {
            None => Some(Finding::Detached(link_index)),
            // One that was adopted runs its old program until it is attached.
            Some(info) if self.is_current && ours.is_some_and(|ours| ours != info.program_id) => {
                Some(Finding::ProgramReplaced(link_index))
            }
            Some(_) => None,
        }
    }

    /// Leaves the link at once. Without this it would last until the kernel has let go of the name.
    fn end(&self) {
        if let Err(error) = sys::detach_link(self.link.fd()) {
            tracing::debug!(%error, "the attachment has left its link already");
        }
    }
}

/// The link that this is attached to; `None` when it is to none any more.
fn attached_to(link: &Pinned) -> Option<u32> {
    sys::link_info(link.fd()).ok().map(|info| info.link_index).filter(|index| *index != 0)
}

/// The MACs of all links that have one, as the map has them. The program answers with them.
fn macs() -> BTreeMap<u32, u64> {
    let mac = |address: nix::ifaddrs::InterfaceAddress| {
        let link = *address.address.as_ref()?.as_link_addr()?;
        let [a, b, c, d, e, f] = link.addr()?;
        Some((u32::try_from(link.ifindex()).ok()?, u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])))
    };
    // Without the list nobody is answered until the next look.
    nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(mac).collect()
}

/// The errors with a name of their own.
fn classify(link_index: u32, source: io::Error) -> AttachError {
    match source.raw_os_error() {
        Some(libc::ENODEV) => AttachError::NoSuchLink(link_index),
        Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy(link_index),
        _ => AttachError::Kernel { link_index, source },
    }
}
