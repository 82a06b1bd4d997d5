//! What the maps hold, as programs: for whoever compares, and to go on where another process stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use sluice_xdp_abi::program::{Backend as Entry, NO_TABLE, Service, Spread};

use crate::DataPlane;
use crate::convert::{frontend, ip, no_backend_policy, socket};
use crate::error::{MapFailure, OpenError, ProgramError};
use crate::index::{Held, Index};
use crate::programs::table_of;
use crate::types::{Backend, Frontend, NextHop, Program};

// === impl DataPlane ===

impl DataPlane {
    /// What the maps hold, read back from the kernel.
    ///
    /// # Errors
    /// When the kernel refuses to read a map.
    pub fn programs(&self) -> Result<BTreeMap<Frontend, Program>, ProgramError> {
        let services = self.read_services(&self.read_lists()?)?;
        Ok(services.into_iter().map(|(frontend, held)| (frontend, held.program)).collect())
    }

    fn read_services(
        &self,
        lists: &BTreeMap<u16, Vec<IpNet>>,
    ) -> Result<BTreeMap<Frontend, Held>, MapFailure> {
        let mut by_service: BTreeMap<u16, Vec<(u16, Entry)>> = BTreeMap::new();
        for (id, entry) in self.used_backends()? {
            by_service.entry(entry.service).or_default().push((id, entry));
        }
        let held = self.maps.services.entries()?.into_iter().filter_map(|(key, service)| {
            let backends = by_service.get(&service.id).map_or(&[][..], Vec::as_slice);
            Some((frontend(&key)?, held(&service, backends, lists)))
        });
        Ok(held.collect())
    }

    fn used_backends(&self) -> Result<Vec<(u16, Entry)>, MapFailure> {
        let entries = (0..=u16::MAX).zip(self.maps.backends.all()?);
        Ok(entries.skip(1).filter(|(_, entry)| entry.used != 0).collect())
    }

    /// Rebuilds the index from adopted maps, and finishes what a killed process may have left half done: backends
    /// without a service, a service whose table or endpoints lag behind its backends.
    pub(crate) fn read_index(&mut self) -> Result<(), OpenError> {
        if !self.adopted {
            return Ok(());
        }
        let mut lists = self.read_lists()?;
        let services = self.read_services(&lists)?;
        let owned: std::collections::BTreeSet<u16> =
            services.values().map(|held| held.id).collect();
        for (id, entry) in self.used_backends()? {
            if !owned.contains(&entry.service) {
                let free =
                    Entry { generation: entry.generation.wrapping_add(1), ..Entry::default() };
                self.maps.backends.set(u32::from(id), &free)?;
            }
            self.adopt_next_hop(id, &entry)?;
        }
        self.remove_stray_lists(&mut lists, |id| {
            services.values().any(|held| held.source_list == id || held.full_nat_list == id)
        })?;
        self.index = Index::new(services, lists);
        for (frontend, held) in self.index.services.clone() {
            self.repair(&frontend, held)?;
        }
        Ok(())
    }

    fn adopt_next_hop(&mut self, id: u16, entry: &Entry) -> Result<(), MapFailure> {
        let hop = self.maps.next_hops.get(u32::from(id))?;
        if hop.link_index != 0 {
            let [first, second, third] = hop.macs.map(u32::to_ne_bytes);
            let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) = (first, second, third);
            let hop = NextHop {
                link_index: hop.link_index,
                destination_mac: [a, b, c, d, e, f],
                source_mac: [g, h, i, j, k, l],
            };
            self.next_hops.insert(ip(&entry.address), hop);
        }
        Ok(())
    }

    fn repair(&mut self, frontend: &Frontend, mut held: Held) -> Result<(), OpenError> {
        for backend in held.backends.keys() {
            // Full only if it was full before; then the backend is already among its services or never was.
            if let Err(ProgramError::Map(failure)) = self.join_endpoint(frontend, *backend, held.id)
            {
                return Err(failure.into());
            }
        }
        let wanted = table_of(&held);
        let is = match held.table {
            Some(number) => Some(self.maps.tables.get(u32::from(number))?),
            None => None,
        };
        if wanted != is {
            tracing::warn!(
                ?frontend,
                "the adopted Maglev table lags behind its backends; refilled"
            );
            let fresh = match wanted {
                Some(table) => self.index.tables.take().map(|number| (number, table)),
                None => None,
            };
            if let Some((number, table)) = &fresh {
                self.maps.tables.set(u32::from(*number), table)?;
            }
            let old = std::mem::replace(&mut held.table, fresh.map(|(number, _)| number));
            self.write_service(frontend, &held)?;
            if let Some(old) = old {
                self.index.tables.put_back(old);
            }
            self.index.services.insert(*frontend, held);
        }
        Ok(())
    }
}

fn held(service: &Service, backends: &[(u16, Entry)], lists: &BTreeMap<u16, Vec<IpNet>>) -> Held {
    let prefixes = |id: u16| lists.get(&id).cloned().unwrap_or_default();
    let seconds = |s: u32| Duration::from_secs(s.into());
    let ids: BTreeMap<_, _> = backends.iter().map(|(id, entry)| (socket(entry), *id)).collect();
    let weights: BTreeMap<_, _> =
        backends.iter().map(|(_, entry)| (socket(entry), entry.weight)).collect();
    let backends = weights.into_iter().map(|(address, weight)| Backend { address, weight });
    Held {
        id: service.id,
        table: (service.table != NO_TABLE).then_some(service.table),
        source_list: service.source_list,
        full_nat_list: service.full_nat_list,
        program: Program {
            backends: backends.collect(),
            no_backend: no_backend_policy(service.no_backend),
            idle_timeout: seconds(service.idle_timeout_s),
            source_ranges: prefixes(service.source_list),
            affinity: (service.affinity_s != 0).then(|| seconds(service.affinity_s)),
            full_nat: prefixes(service.full_nat_list),
            multihomed: service.spread == Spread::ByPorts as u16,
        },
        backends: ids,
    }
}
