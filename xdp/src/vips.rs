//! Owned VIPs, and the filter that lets foreign packets by.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sluice_xdp_abi::filter::Filter;
use sluice_xdp_abi::limits::MAX_VIPS;

use crate::DataPlane;
use crate::convert::{address, ip};
use crate::error::{MapFailure, VipError};
use crate::index::Held;
use crate::types::Frontend;

// === impl DataPlane ===

impl DataPlane {
    /// VIPs for which the kernel's stack must never answer.
    ///
    /// # Errors
    /// When the kernel refuses to read the map.
    pub fn vips(&self) -> Result<BTreeSet<IpAddr>, VipError> {
        Ok(self.read_vips()?)
    }

    /// From now on the kernel's stack never answers for this address. One that is owned already is fine.
    ///
    /// # Errors
    /// A limit, or a map.
    pub fn add_vip(&mut self, vip: IpAddr) -> Result<(), VipError> {
        if self.vips.contains(&vip) {
            return Ok(());
        }
        if self.vips.len() >= MAX_VIPS as usize {
            return Err(VipError::TooMany);
        }
        self.maps.vips.insert(&address(vip), &1)?;
        self.vips.insert(vip);
        Ok(self.rebuild_filter()?)
    }

    /// Leaves the address to the kernel's stack. One that is not owned is fine.
    ///
    /// # Errors
    /// When the kernel refuses a map update.
    pub fn remove_vip(&mut self, vip: IpAddr) -> Result<(), VipError> {
        self.maps.vips.remove(&address(vip))?;
        self.vips.remove(&vip);
        Ok(self.rebuild_filter()?)
    }

    pub(crate) fn read_vips(&self) -> Result<BTreeSet<IpAddr>, MapFailure> {
        Ok(self.maps.vips.entries()?.iter().map(|(vip, _)| ip(vip)).collect())
    }

    /// Sets the bits of everything that is ours, and no others.
    pub(crate) fn rebuild_filter(&mut self) -> Result<(), MapFailure> {
        let filter = self.filter();
        if self.maps.filter.get(0)? == filter {
            return Ok(());
        }
        self.maps.filter.set(0, &filter)
    }

    /// Adds the bits of a service that is about to come.
    pub(crate) fn open_filter(
        &mut self,
        frontend: &Frontend,
        held: &Held,
    ) -> Result<(), MapFailure> {
        let mut filter = self.maps.filter.get(0)?;
        filter.add_vip(&address(frontend.vip));
        held.backends.keys().for_each(|backend| filter.add_backend(&address(backend.ip())));
        self.maps.filter.set(0, &filter)
    }

    fn filter(&self) -> Filter {
        let mut filter = Filter::EMPTY;
        let frontends = self.index.services.keys().map(|frontend| frontend.vip);
        self.vips.iter().copied().chain(frontends).for_each(|vip| filter.add_vip(&address(vip)));
        let backends = self.index.services.values().flat_map(|held| held.backends.keys());
        backends.for_each(|backend| filter.add_backend(&address(backend.ip())));
        filter
    }
}
