//! Expiry of idle flows. The kernel program expires a flow it meets; this is for those it does not meet again.

use std::collections::{BTreeMap, HashMap};
use std::io;

use nix::time::{ClockId, clock_gettime};
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::flow::{Flow, FlowKey};
use sluice_xdp_abi::nat::{NO_SOURCE, NatKey};
use sluice_xdp_abi::program::Backend;

use crate::error::{MapFailure, SweepError};
use crate::{DataPlane, batch};

// === impl DataPlane ===

impl DataPlane {
    /// Expires idle flows and frees what they held; called every few seconds by the daemon's loop. Returns the live count.
    ///
    /// # Errors
    /// When the flow table cannot be read or changed.
    pub fn sweep(&mut self) -> Result<u64, SweepError> {
        if self.is_filter_stale {
            self.rebuild_filter()?;
        }
        let now_ns = coarse_now_ns()?;
        // Before the flows: a port is claimed first and its flow entered a moment later.
        let claimed = self.maps.nats.entries()?;
        let mut under_nat: HashMap<FlowKey, Flow> = HashMap::new();
        let mut live = 0;
        for table in [&self.maps.flows, &self.maps.unconfirmed] {
            // One that comes back between the look at it and its removal is balanced like any segment of a flow that is
            // not known.
            batch::remove_if(table.fd(), |key: &FlowKey, flow: &Flow| {
                let is_over = flow.is_expired(now_ns);
                if !is_over {
                    live += 1;
                    if flow.nat_port_be != 0 {
                        under_nat.insert(*key, *flow);
                    }
                }
                is_over
            })
            .map_err(SweepError::Table)?;
        }
        self.free_ports(&claimed, &under_nat)?;
        self.live_flows = live;
        Ok(live)
    }

    /// Frees source ports whose flow is over, has another port or went to another backend.
    fn free_ports(
        &mut self,
        claimed: &[(NatKey, FlowKey)],
        flows: &HashMap<FlowKey, Flow>,
    ) -> Result<(), MapFailure> {
        let mut backends: BTreeMap<u32, Backend> = BTreeMap::new();
        for (key, flow_key) in claimed {
            if let Some(flow) = flows.get(flow_key)
                && self.has_port(flow_key, flow, key, &mut backends)?
            {
                continue;
            }
            // Asked again, since it may have come back. One that comes back between this and the removal claims its
            // port anew when it next visits the flow table.
            let is_used = match self.flow(flow_key)? {
                Some(flow) => self.has_port(flow_key, &flow, key, &mut backends)?,
                None => false,
            };
            if !is_used {
                self.maps.nats.remove(key)?;
            }
        }
        Ok(())
    }

    fn flow(&self, key: &FlowKey) -> Result<Option<Flow>, MapFailure> {
        match self.maps.flows.get(key)? {
            Some(flow) => Ok(Some(flow)),
            None => self.maps.unconfirmed.get(key),
        }
    }

    /// Whether a flow holds this source port towards this backend, or is of this association with it.
    fn has_port(
        &self,
        flow_key: &FlowKey,
        flow: &Flow,
        key: &NatKey,
        known: &mut BTreeMap<u32, Backend>,
    ) -> Result<bool, MapFailure> {
        let nat64_source = Address::v4_word(self.control.nat64_source);
        let backend = self.backend_of(flow, known)?;
        let is_between_families = backend.address.is_v4() && !flow_key.vip.is_v4();
        let source = if is_between_families { nat64_source } else { flow_key.vip };
        let is_its = if key.source == NO_SOURCE {
            flow_key.client_port_be == key.port_be && flow.nat_port_be == 0
        } else {
            flow.nat_port_be == key.port_be && key.source == source
        };
        Ok(is_its
            && backend.generation == flow.backend_generation
            && backend.address == key.backend
            && backend.port_be == key.backend_port_be)
    }

    fn backend_of<'a>(
        &self,
        flow: &Flow,
        known: &'a mut BTreeMap<u32, Backend>,
    ) -> Result<&'a Backend, MapFailure> {
        use std::collections::btree_map::Entry;
        Ok(match known.entry(flow.backend) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.maps.backends.get(flow.backend)?),
        })
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
