//! Owned VIPs, and the filter that lets foreign packets by.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use sluice_xdp_abi::filter::Filter;
use sluice_xdp_abi::limits::MAX_VIPS;

use crate::DataPlane;
use crate::convert::{address, ip};
use crate::error::{MapFailure, VipError};

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
        self.open_filter(&vip, [])?;
        self.maps.vips.insert(&address(vip), &1)?;
        self.vips.insert(vip);
        Ok(())
    }

    /// Leaves the address to the kernel's stack. One that is not owned is fine.
    ///
    /// # Errors
    /// When the kernel refuses a map update.
    pub fn remove_vip(&mut self, vip: IpAddr) -> Result<(), VipError> {
        self.maps.vips.remove(&address(vip))?;
        self.vips.remove(&vip);
        self.is_filter_stale = true;
        Ok(())
    }

    pub(crate) fn read_vips(&self) -> Result<BTreeSet<IpAddr>, MapFailure> {
        Ok(self.maps.vips.entries()?.iter().map(|(vip, _)| ip(vip)).collect())
    }

    /// Sets the bits of everything that is ours, and no others. After removals this waits for the next sweep: a bit too
    /// many costs a packet a look-up and no more, and walking everything for each of many removals costs seconds.
    pub(crate) fn rebuild_filter(&mut self) -> Result<(), MapFailure> {
        let filter = self.filter();
        self.is_filter_stale = false;
        self.set_filter(filter)
    }

    /// Adds the bits of what is about to come.
    pub(crate) fn open_filter<'a>(
        &mut self,
        vip: &IpAddr,
        backends: impl IntoIterator<Item = &'a SocketAddr>,
    ) -> Result<(), MapFailure> {
        let mut filter = *self.filter;
        filter.add_vip(&address(*vip));
        backends.into_iter().for_each(|backend| filter.add_backend(&address(backend.ip())));
        self.set_filter(filter)
    }

    fn set_filter(&mut self, filter: Filter) -> Result<(), MapFailure> {
        if *self.filter != filter {
            self.maps.filter.set(0, &filter)?;
            *self.filter = filter;
        }
        Ok(())
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
