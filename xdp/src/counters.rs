//! Reading the counters, and keeping those of backends that go.

use std::collections::BTreeMap;

use sluice_xdp_abi::counter::Traffic as Row;
use sluice_xdp_abi::drop_reason::DropReason;
use sluice_xdp_abi::limits::MAX_BACKENDS;

use crate::DataPlane;
use crate::convert::counters;
use crate::error::{MapFailure, SnapshotError};
use crate::types::{Snapshot, Traffic};

// === impl DataPlane ===

impl DataPlane {
    /// Reads every counter: one system call for each backend and CPU.
    ///
    /// # Errors
    /// When the kernel refuses to read a map.
    pub fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let mut snapshot =
            Snapshot { flows: self.live_flows, max_flows: self.max_flows, ..Snapshot::default() };
        for (frontend, held) in &self.index.services {
            let mut total = counters(&self.maps.retired.get(u32::from(held.id))?);
            for (backend, id) in &held.backends {
                let own = counters(&self.traffic(u32::from(*id))?);
                total += own;
                snapshot.backends.insert((*frontend, *backend), own);
            }
            snapshot.frontends.insert(*frontend, total);
        }
        let mut drops: BTreeMap<DropReason, u64> =
            DropReason::ALL.iter().map(|reason| (*reason, 0)).collect();
        for cpu in 0..self.maps.cpus.len() {
            let state = self.maps.cpus.get(cpu)?;
            snapshot.passed += Traffic { packets: state.passed_packets, bytes: state.passed_bytes };
            for (count, on_cpu) in drops.values_mut().zip(state.drops) {
                *count += on_cpu;
            }
        }
        snapshot.drops = drops.iter().map(|(reason, count)| (reason.name(), *count)).collect();
        Ok(snapshot)
    }

    /// A backend's counters over all CPUs.
    fn traffic(&self, backend: u32) -> Result<Row, MapFailure> {
        let mut sum = Row::default();
        for cpu in 0..self.maps.cpus.len() {
            add(&mut sum, &self.maps.traffic.get(cpu * MAX_BACKENDS + backend)?);
        }
        Ok(sum)
    }

    /// Zeroes a backend's counters before somebody else gets its identifier.
    pub(crate) fn clear_traffic(&mut self, backend: u32) -> Result<(), MapFailure> {
        for cpu in 0..self.maps.cpus.len() {
            self.maps.traffic.set(cpu * MAX_BACKENDS + backend, &Row::default())?;
        }
        Ok(())
    }

    /// Adds a leaving backend's counters to its service's.
    pub(crate) fn retire_traffic(&mut self, service: u16, backend: u32) -> Result<(), MapFailure> {
        let mut sum = self.maps.retired.get(u32::from(service))?;
        add(&mut sum, &self.traffic(backend)?);
        self.maps.retired.set(u32::from(service), &sum)
    }
}

fn add(sum: &mut Row, row: &Row) {
    sum.to_backend_packets += row.to_backend_packets;
    sum.to_backend_bytes += row.to_backend_bytes;
    sum.to_client_packets += row.to_client_packets;
    sum.to_client_bytes += row.to_client_bytes;
    sum.new_flows += row.new_flows;
}
