//! Attachments: one pinned BPF link each, whose program is replaced atomically.

use std::collections::{BTreeMap, BTreeSet};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{ProgramError, XdpError};
use sluice_xdp_abi::limits::MAX_LINKS;
use sluice_xdp_abi::names;

use crate::DataPlane;
use crate::error::{AttachError, DetachError, OpenError, RemoveError};
use crate::open::program;
use crate::pins::{self, link_name};
use crate::types::{AttachMode, AttachPolicy};

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
        let path = self.pin_dir.join(link_name(link_index, mode));
        let pin_error = |source| AttachError::Pin { link_index, source };
        pins::unpin(&path).map_err(|error| pin_error(Box::new(error)))?;
        link.pin(&path).map_err(|error| pin_error(Box::new(error)))?;
        self.maps.links.insert(&link_index, &1)?;
        self.links.insert(link_index, mode);
        Ok(mode)
    }

    /// Detaches from a link. One that is not attached is fine.
    ///
    /// # Errors
    /// When the pin cannot be removed or the kernel refuses a map update.
    pub fn detach(&mut self, link_index: u32) -> Result<(), DetachError> {
        if let Some(mode) = self.links.get(&link_index) {
            pins::unpin(&self.pin_dir.join(link_name(link_index, *mode)))?;
            self.links.remove(&link_index);
            self.maps.links.remove(&link_index)?;
            self.flush_cache()?;
        }
        Ok(())
    }

    /// Attached links by index.
    pub fn attached(&self) -> BTreeMap<u32, AttachMode> {
        self.links.clone()
    }

    /// Detaches from every link and removes every pin.
    ///
    /// # Errors
    /// When a pin cannot be removed; the others are.
    pub fn remove(self) -> Result<(), RemoveError> {
        pins::clear(&self.pin_dir)?;
        std::fs::remove_dir(&self.pin_dir).map_err(pins::io_error(&self.pin_dir))?;
        Ok(())
    }

    /// Finds the attachments of a predecessor, and forgets those whose link is gone.
    pub(crate) fn read_links(&mut self) -> Result<(), OpenError> {
        // A link that is gone took its attachment with it; only the pin is left.
        let present = present_links();
        for (link_index, mode) in pins::links(&self.pin_dir)? {
            if present.as_ref().is_none_or(|present| present.contains(&link_index)) {
                self.links.insert(link_index, mode);
            } else {
                pins::unpin(&self.pin_dir.join(link_name(link_index, mode)))?;
            }
        }
        for (link_index, _) in self.maps.links.entries()? {
            if !self.links.contains_key(&link_index) {
                self.maps.links.remove(&link_index)?;
            }
        }
        Ok(())
    }

    /// Puts our program where an attachment is. `None` when there is none, or none that can be kept: its link may be
    /// gone and its index another link's now.
    fn replace(&mut self, link_index: u32) -> Option<AttachMode> {
        let mode = *self.links.get(&link_index)?;
        let path = self.pin_dir.join(link_name(link_index, mode));
        let is_wanted = match self.attach {
            AttachPolicy::Auto => true,
            AttachPolicy::Native => mode == AttachMode::Native,
            AttachPolicy::Generic => mode == AttachMode::Generic,
        };
        let result = if is_wanted { self.update(&path) } else { Err("other mode".into()) };
        match result {
            Ok(()) => Some(mode),
            Err(error) => {
                tracing::info!(link_index, error, "attaching anew");
                self.links.remove(&link_index);
                if let Err(error) = pins::unpin(&path) {
                    tracing::warn!(link_index, %error, "cannot remove the old attachment");
                }
                None
            }
        }
    }

    /// BPF_LINK_UPDATE: from one packet to the next, nothing is lost.
    fn update(&mut self, path: &std::path::Path) -> Result<(), String> {
        let link = FdLink::from(PinnedLink::from_pin(path).map_err(|e| e.to_string())?);
        let link = XdpLink::try_from(link).map_err(|e| e.to_string())?;
        let program = program(&mut self.bpf, names::PROGRAM).ok_or(names::PROGRAM)?;
        let id = program.attach_to_link(link).map_err(|e| e.to_string())?;
        // Closing our handle leaves the pin in charge.
        drop(program.take_link(id).map_err(|e| e.to_string())?);
        Ok(())
    }

    fn attach_by_policy(&mut self, link_index: u32) -> Result<(FdLink, AttachMode), AttachError> {
        match self.attach {
            AttachPolicy::Native => self.attach_in_mode(link_index, AttachMode::Native),
            AttachPolicy::Generic => self.attach_in_mode(link_index, AttachMode::Generic),
            AttachPolicy::Auto => match self.attach_in_mode(link_index, AttachMode::Native) {
                Err(AttachError::Kernel { source, .. }) => {
                    tracing::warn!(
                        link_index, error = %source,
                        "the driver does not take the program; attaching behind it"
                    );
                    self.attach_in_mode(link_index, AttachMode::Generic)
                }
                result => result,
            },
        }
    }

    fn attach_in_mode(
        &mut self,
        link_index: u32,
        mode: AttachMode,
    ) -> Result<(FdLink, AttachMode), AttachError> {
        let kernel = |source: ProgramError| classify(link_index, source);
        let xdp_mode = match mode {
            AttachMode::Native => XdpMode::Driver,
            AttachMode::Generic => XdpMode::Skb,
        };
        let program = program(&mut self.bpf, names::PROGRAM)
            .ok_or_else(|| kernel(ProgramError::NotLoaded))?;
        let id = program.attach_to_if_index(link_index, xdp_mode).map_err(kernel)?;
        let link = program.take_link(id).map_err(kernel)?;
        // aya falls back to netlink where the kernel has no links for XDP (before 5.9); dropped, it detaches.
        let link = FdLink::try_from(link)
            .map_err(|error| AttachError::Pin { link_index, source: Box::new(error) })?;
        Ok((link, mode))
    }
}

/// Indexes of the links in this namespace; `None` when they cannot be listed.
fn present_links() -> Option<BTreeSet<u32>> {
    let interfaces = nix::net::if_::if_nameindex().ok()?;
    Some(interfaces.iter().map(|interface| interface.index()).collect())
}

/// The errors with a name of their own.
fn classify(link_index: u32, source: ProgramError) -> AttachError {
    let code = match &source {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    };
    match code {
        Some(libc::ENODEV) => AttachError::NoSuchLink(link_index),
        Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy(link_index),
        _ => AttachError::Kernel { link_index, source: Box::new(source) },
    }
}
