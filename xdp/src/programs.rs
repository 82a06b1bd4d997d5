//! One frontend's program into the maps, so that no packet sees half of it.
//!
//! New backends are written before anything leads to them; a fresh Maglev table is filled before the service points at
//! it; the service changes in one store; only then do backends go that it no longer has. The epoch comes last, since
//! what caches hold until then was right a moment ago.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluice_xdp_abi::counter::Traffic;
use sluice_xdp_abi::limits::{MAGLEV_SLOTS, MAX_BACKENDS_PER_SERVICE, MAX_SERVICES_PER_ENDPOINT};
use sluice_xdp_abi::prefix::NO_LIST;
use sluice_xdp_abi::program::{Backend as Entry, Endpoint, MaglevTable, NO_TABLE, Service, Spread};

use crate::convert::{
    address, endpoint_key, next_hop, no_backend, plain_socket, seconds, service_key,
};
use crate::error::{MapFailure, ProgramError};
use crate::index::Held;
use crate::types::{Backend, Frontend, Program};
use crate::{DataPlane, lists, maglev};

const _: () = assert!(maglev::is_prime(MAGLEV_SLOTS));

// === impl DataPlane ===

impl DataPlane {
    /// Makes a frontend's program this one. Backends that stay keep their flows and counters.
    ///
    /// # Errors
    /// A limit, a backend that the VIP's family does not reach, a map. The old program goes on.
    pub fn put_program(
        &mut self,
        frontend: Frontend,
        program: &Program,
    ) -> Result<(), ProgramError> {
        let wanted = normalise(&frontend, program, self.control.nat64_source != 0)?;
        let held = self.index.services.get(&frontend).cloned();
        if held.as_ref().is_some_and(|held| held.program == wanted) {
            return Ok(());
        }
        self.check_limits(&frontend, &wanted, held.as_ref())?;
        let is_new = held.is_none();
        let mut next = match held {
            Some(held) => held,
            None => self.new_service(&frontend, &wanted)?,
        };
        let old_lists = self.write_lists(&mut next, &wanted)?;
        let before = std::mem::replace(&mut next.program, wanted);
        self.write_backends(&frontend, &mut next)?;
        let old_table = self.write_table(&mut next, &before)?;
        self.write_service(&frontend, &next)?;
        // From here on packets see the new program.
        if let Some(old_table) = old_table {
            self.index.tables.put_back(old_table);
        }
        old_lists.into_iter().try_for_each(|list| self.put_list_back(list))?;
        let gone = absent(&next);
        self.is_filter_stale |= !gone.is_empty();
        for address in &gone {
            if let Some(id) = next.backends.remove(address) {
                self.free_backend(&frontend, next.id, *address, id)?;
            }
        }
        self.index.services.insert(frontend, next);
        // Nothing is cached of a frontend that was not there.
        if !is_new {
            self.flush_cache()?;
        }
        Ok(())
    }

    /// Forgets a frontend; its flows end. One that is not there is fine.
    ///
    /// # Errors
    /// When the kernel refuses a map update.
    pub fn remove_program(&mut self, frontend: &Frontend) -> Result<(), ProgramError> {
        let Some(held) = self.index.services.get(frontend).cloned() else {
            return Ok(());
        };
        self.maps.services.remove(&service_key(frontend))?;
        for (address, id) in &held.backends {
            self.free_backend(frontend, held.id, *address, *id)?;
        }
        self.maps.retired.set(u32::from(held.id), &Traffic::default())?;
        if let Some(table) = held.table {
            self.index.tables.put_back(table);
        }
        for list in [held.source_list, held.full_nat_list] {
            self.put_list_back(list)?;
        }
        self.index.service_ids.put_back(u32::from(held.id));
        self.index.services.remove(frontend);
        self.is_filter_stale = true;
        self.flush_cache()?;
        Ok(())
    }

    fn check_limits(
        &self,
        frontend: &Frontend,
        wanted: &Program,
        held: Option<&Held>,
    ) -> Result<(), ProgramError> {
        if held.is_none() && self.index.service_ids.free() == 0 {
            return Err(ProgramError::TooManyFrontends);
        }
        if !self.index.lists.has_room_for(&[&wanted.source_ranges, &wanted.full_nat]) {
            return Err(ProgramError::TooManyPrefixes);
        }
        let weighted = wanted.backends.iter().filter(|backend| backend.weight > 0).count();
        if weighted > MAX_BACKENDS_PER_SERVICE as usize {
            return Err(ProgramError::TooManyBackendsPerFrontend);
        }
        let is_new =
            |address: &&SocketAddr| held.is_none_or(|h| !h.backends.contains_key(*address));
        let added: Vec<_> = wanted.backends.iter().map(|b| &b.address).filter(is_new).collect();
        if added.len() > self.index.backend_ids.free() {
            return Err(ProgramError::TooManyBackends);
        }
        for backend in added {
            let endpoint = self.maps.endpoints.get(&endpoint_key(*backend, frontend.protocol))?;
            if endpoint.is_some_and(|e| e.count as usize >= MAX_SERVICES_PER_ENDPOINT) {
                return Err(ProgramError::EndpointShared(*backend));
            }
        }
        Ok(())
    }

    /// An identifier for a frontend. The row is written before anything refers to it.
    fn new_service(&mut self, frontend: &Frontend, wanted: &Program) -> Result<Held, ProgramError> {
        let id = self.index.service_ids.take().ok_or(ProgramError::TooManyFrontends)?;
        self.maps.frontends.set(id, &service_key(frontend))?;
        self.maps.retired.set(id, &Traffic::default())?;
        let id = u16::try_from(id).map_err(|_| ProgramError::TooManyFrontends)?;
        let program = Program { backends: Vec::new(), ..wanted.clone() };
        let (source_list, full_nat_list) = (NO_LIST, NO_LIST);
        Ok(Held { id, table: None, source_list, full_nat_list, program, backends: BTreeMap::new() })
    }

    /// Has the wanted lists in the maps; returns those that are no longer needed after the service's change.
    fn write_lists(&mut self, next: &mut Held, wanted: &Program) -> Result<[u16; 2], ProgramError> {
        let source_list = self.take_list(&wanted.source_ranges)?;
        let full_nat_list = self.take_list(&wanted.full_nat)?;
        Ok([
            std::mem::replace(&mut next.source_list, source_list),
            std::mem::replace(&mut next.full_nat_list, full_nat_list),
        ])
    }

    /// Gives new backends an identifier, and everyone its weight.
    fn write_backends(&mut self, frontend: &Frontend, next: &mut Held) -> Result<(), ProgramError> {
        for backend in next.program.backends.clone() {
            let is_new = !next.backends.contains_key(&backend.address);
            let id = match next.backends.get(&backend.address) {
                Some(id) => *id,
                None => self.new_backend(next.id, backend.address)?,
            };
            let row = u32::from(id);
            let old = self.maps.backends.get(row)?;
            let entry = Entry {
                address: address(backend.address.ip()),
                port_be: backend.address.port().to_be(),
                service: next.id,
                generation: old.generation,
                weight: backend.weight,
                used: 1,
            };
            if old != entry {
                self.maps.backends.set(row, &entry)?;
            }
            next.backends.insert(backend.address, id);
            if is_new {
                self.join_endpoint(frontend, backend.address, next.id)?;
            }
        }
        Ok(())
    }

    fn new_backend(&mut self, _service: u16, backend: SocketAddr) -> Result<u16, ProgramError> {
        let id = self.index.backend_ids.take().ok_or(ProgramError::TooManyBackends)?;
        self.clear_traffic(id)?;
        let hop = next_hop(self.next_hops.get(&backend.ip()));
        self.maps.next_hops.set(id, &hop)?;
        u16::try_from(id).map_err(|_| ProgramError::TooManyBackends)
    }

    /// Lets replies of this endpoint find flows of this service.
    pub(crate) fn join_endpoint(
        &mut self,
        frontend: &Frontend,
        backend: SocketAddr,
        service: u16,
    ) -> Result<(), ProgramError> {
        let key = endpoint_key(backend, frontend.protocol);
        let mut endpoint = self.maps.endpoints.get(&key)?.unwrap_or(EMPTY);
        let count = endpoint.count as usize;
        if endpoint.services.iter().take(count).any(|id| *id == service) {
            return Ok(());
        }
        let free = endpoint.services.get_mut(count).ok_or(ProgramError::EndpointShared(backend))?;
        *free = service;
        endpoint.count += 1;
        Ok(self.maps.endpoints.insert(&key, &endpoint)?)
    }

    fn leave_endpoint(
        &mut self,
        frontend: &Frontend,
        backend: SocketAddr,
        service: u16,
    ) -> Result<(), MapFailure> {
        let key = endpoint_key(backend, frontend.protocol);
        let Some(endpoint) = self.maps.endpoints.get(&key)? else {
            return Ok(());
        };
        let mut left = EMPTY;
        let stay =
            endpoint.services.iter().take(endpoint.count as usize).filter(|id| **id != service);
        for (slot, id) in left.services.iter_mut().zip(stay) {
            *slot = *id;
            left.count += 1;
        }
        if left.count == 0 {
            return self.maps.endpoints.remove(&key);
        }
        self.maps.endpoints.insert(&key, &left)
    }

    /// Fills a fresh table when shares changed; returns the one that is no longer needed after the service's change.
    fn write_table(
        &mut self,
        next: &mut Held,
        before: &Program,
    ) -> Result<Option<u16>, ProgramError> {
        if next.table.is_some() && weighted(before).eq(weighted(&next.program)) {
            return Ok(None);
        }
        let Some(table) = table_of(next) else {
            return Ok(next.table.take());
        };
        // One per service and spare ones: there is a free table for every service id.
        let number = self.index.tables.take().ok_or(ProgramError::TooManyFrontends)?;
        self.maps.tables.set(u32::from(number), &table)?;
        Ok(next.table.replace(number))
    }

    pub(crate) fn write_service(
        &mut self,
        frontend: &Frontend,
        next: &Held,
    ) -> Result<(), MapFailure> {
        self.open_filter(&frontend.vip, next.backends.keys())?;
        self.maps.services.insert(&service_key(frontend), &service_entry(next))
    }

    /// Frees a backend: flows that chose it see another generation, and are given another.
    fn free_backend(
        &mut self,
        frontend: &Frontend,
        service: u16,
        backend: SocketAddr,
        id: u16,
    ) -> Result<(), MapFailure> {
        let row = u32::from(id);
        let old = self.maps.backends.get(row)?;
        let entry = Entry { generation: old.generation.wrapping_add(1), ..Entry::default() };
        self.maps.backends.set(row, &entry)?;
        self.leave_endpoint(frontend, backend, service)?;
        self.retire_traffic(service, row)?;
        self.index.backend_ids.put_back(row);
        Ok(())
    }
}

const EMPTY: Endpoint = Endpoint { count: 0, services: [0; MAX_SERVICES_PER_ENDPOINT] };

/// Backends sorted and unique by address, of a family that the VIP's clients can be given; whole seconds.
fn normalise(
    frontend: &Frontend,
    program: &Program,
    has_nat64: bool,
) -> Result<Program, ProgramError> {
    let mut backends = BTreeMap::new();
    for Backend { address, weight } in &program.backends {
        let address = plain_socket(*address);
        let (vip, backend) = (frontend.vip, address);
        match (vip, address) {
            (IpAddr::V4(_), SocketAddr::V6(_)) => {
                return Err(ProgramError::FamilyMismatch { vip, backend });
            }
            (IpAddr::V6(_), SocketAddr::V4(_)) if !has_nat64 => {
                return Err(ProgramError::NoNat64Source { vip, backend });
            }
            _ => {}
        }
        backends.insert(address, *weight);
    }
    let backends = backends.into_iter().map(|(address, weight)| Backend { address, weight });
    Ok(Program {
        backends: backends.collect(),
        no_backend: program.no_backend,
        idle_timeout: whole_seconds(program.idle_timeout),
        source_ranges: lists::normalise(&program.source_ranges),
        affinity: program.affinity.map(whole_seconds),
        full_nat: lists::normalise(&program.full_nat),
        multihomed: program.multihomed,
    })
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(seconds(duration).into())
}

/// What decides a table.
fn weighted(program: &Program) -> impl Iterator<Item = &Backend> {
    program.backends.iter().filter(|backend| backend.weight > 0)
}

/// Backends that have an identifier and are no longer in the program.
fn absent(held: &Held) -> Vec<SocketAddr> {
    let wanted: BTreeSet<_> = held.program.backends.iter().map(|b| b.address).collect();
    held.backends.keys().filter(|address| !wanted.contains(address)).copied().collect()
}

/// A service as the map has it.
pub(crate) fn service_entry(held: &Held) -> Service {
    Service {
        id: held.id,
        table: held.table.unwrap_or(NO_TABLE),
        no_backend: no_backend(held.program.no_backend),
        spread: if held.program.multihomed { Spread::ByPorts } else { Spread::ByAll } as u16,
        idle_timeout_s: seconds(held.program.idle_timeout),
        affinity_s: held.program.affinity.map_or(0, seconds),
        source_list: held.source_list,
        full_nat_list: held.full_nat_list,
    }
}

/// The Maglev table of a service; `None` when no backend has weight.
pub(crate) fn table_of(held: &Held) -> Option<MaglevTable> {
    let positions = maglev::fill(&held.program.backends, MAGLEV_SLOTS);
    let mut table = MaglevTable { slots: [0; MAGLEV_SLOTS as usize], reserved: [0; 3] };
    if positions.len() != table.slots.len() {
        return None;
    }
    for (slot, position) in table.slots.iter_mut().zip(positions) {
        let backend = held.program.backends.get(position as usize)?;
        *slot = *held.backends.get(&backend.address)?;
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NoBackend, Protocol};

    fn frontend(vip: &str) -> Frontend {
        Frontend { vip: vip.parse().unwrap(), port: 80, protocol: Protocol::Tcp }
    }

    fn program(backends: &[(&str, u16)]) -> Program {
        Program {
            backends: backends
                .iter()
                .map(|(text, weight)| Backend { address: text.parse().unwrap(), weight: *weight })
                .collect(),
            no_backend: NoBackend::Reject,
            idle_timeout: Duration::from_millis(1500),
            source_ranges: Vec::new(),
            affinity: Some(Duration::ZERO),
            full_nat: Vec::new(),
            multihomed: false,
        }
    }

    #[test]
    fn programs_are_sorted_and_of_families_that_reach_each_other() {
        let wanted = program(&[("10.0.0.2:80", 1), ("10.0.0.1:80", 3), ("10.0.0.2:80", 2)]);
        let normal = normalise(&frontend("203.0.113.1"), &wanted, false).unwrap();
        assert_eq!(normal.backends, program(&[("10.0.0.1:80", 3), ("10.0.0.2:80", 2)]).backends);
        assert_eq!(normal.idle_timeout, Duration::from_secs(2));
        assert_eq!(normal.affinity, Some(Duration::from_secs(1)));
        let v6 = frontend("2001:db8::1");
        let refused = normalise(&v6, &wanted, false);
        assert!(matches!(refused, Err(ProgramError::NoNat64Source { .. })));
        assert_eq!(normalise(&v6, &wanted, true).unwrap().backends, normal.backends);
        let other_way = program(&[("[2001:db8:1::1]:80", 1)]);
        let refused = normalise(&frontend("203.0.113.1"), &other_way, true);
        assert!(matches!(refused, Err(ProgramError::FamilyMismatch { .. })));
    }

    #[test]
    fn tables_hold_identifiers_of_weighted_backends_only() {
        let program = program(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 0)]);
        let ids = [("10.0.0.1:80", 7), ("10.0.0.2:80", 9)];
        let backends = ids.map(|(text, id)| (text.parse().unwrap(), id)).into();
        let mut held =
            Held { id: 0, table: None, source_list: 0, full_nat_list: 0, program, backends };
        assert!(table_of(&held).unwrap().slots.iter().all(|id| *id == 7));
        held.program.backends.remove(0);
        assert_eq!(table_of(&held), None);
    }
}
