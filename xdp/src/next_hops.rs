//! Next hops of backends.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::DataPlane;
use crate::convert::next_hop;
use crate::error::NextHopError;
use crate::types::NextHop;

// === impl DataPlane ===

impl DataPlane {
    /// The whole set of resolved next hops by backend address; one that is missing makes its packets drop, counted.
    ///
    /// # Errors
    /// When the kernel refuses a map update.
    pub fn set_next_hops(
        &mut self,
        next_hops: &BTreeMap<IpAddr, NextHop>,
    ) -> Result<(), NextHopError> {
        if self.next_hops == *next_hops {
            return Ok(());
        }
        let changed: Vec<_> = self
            .index
            .services
            .values()
            .flat_map(|held| &held.backends)
            .map(|(address, id)| (address.ip(), *id))
            .filter(|(ip, _)| self.next_hops.get(ip) != next_hops.get(ip))
            .collect();
        for (ip, id) in &changed {
            self.maps.next_hops.set(u32::from(*id), &next_hop(next_hops.get(ip)))?;
        }
        self.next_hops.clone_from(next_hops);
        if !changed.is_empty() {
            self.flush_cache()?;
        }
        Ok(())
    }
}
