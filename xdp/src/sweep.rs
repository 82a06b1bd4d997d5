//! Expiry of idle flows. The kernel program expires a flow it meets; this is for those it does not meet again.

use std::io;

use nix::time::{ClockId, clock_gettime};
use sluice_xdp_abi::flow::{Flow, FlowKey};

use crate::error::SweepError;
use crate::{DataPlane, batch};

// === impl DataPlane ===

impl DataPlane {
    /// Expires idle flows; called every few seconds by the daemon's loop. Returns the live count.
    ///
    /// # Errors
    /// When the flow table cannot be read or changed.
    pub fn sweep(&mut self) -> Result<u64, SweepError> {
        let now_ns = coarse_now_ns()?;
        let mut live = 0;
        let mut expired: Vec<FlowKey> = Vec::new();
        let fd = self.maps.flows.fd();
        batch::for_each(
            fd,
            |key: &FlowKey, flow: &Flow| {
                if flow.is_expired(now_ns) { expired.push(*key) } else { live += 1 }
            },
        )
        .map_err(SweepError::Read)?;
        for key in &expired {
            // It may have come back since; the read is not atomic with the removal, but a flow that is refreshed in
            // between is cached as well and found again by its next packet.
            match self.maps.flows.get(key)? {
                Some(flow) if !flow.is_expired(now_ns) => live += 1,
                Some(_) => self.maps.flows.remove(key)?,
                None => {}
            }
        }
        self.live_flows = live;
        Ok(live)
    }
}

/// The clock of [`Flow::last_seen_ns`].
fn coarse_now_ns() -> Result<u64, SweepError> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map_err(|errno| SweepError::Clock(io::Error::from(errno)))?;
    let (seconds, nanoseconds) = (now.tv_sec(), now.tv_nsec());
    Ok(u64::try_from(seconds).unwrap_or(0) * 1_000_000_000
        + u64::try_from(nanoseconds).unwrap_or(0))
}
