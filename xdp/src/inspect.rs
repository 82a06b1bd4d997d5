//! Asks the kernel whether everything is as it was left, and sets it right: attachments, names, contents of maps.
//!
//! Everything here is ours alone, so what differs is somebody's meddling and what is remembered is right. What is not
//! looked at: flows, affinities and counters, which the kernel program writes, and caches, which forget by themselves.

use std::collections::{BTreeMap, BTreeSet};

use sluice_xdp_abi::limits::MAX_SERVICES_PER_ENDPOINT;
use sluice_xdp_abi::names;
use sluice_xdp_abi::program::{Backend as Entry, Endpoint, EndpointKey, ServiceKey};

use crate::convert::{address, endpoint_key, next_hop, prefix_key, service_key};
use crate::error::{MapFailure, PinError};
use crate::findings::{Finding, Inspection};
use crate::index::Held;
use crate::programs::{service_entry, table_of};
use crate::types::Frontend;
use crate::{DataPlane, pins, successors};

/// Maglev tables that one inspection compares, in turn: with 8 KiB each and a table to be computed for each, this many
/// take a few milliseconds. 2,000 services have their turn within ten minutes.
const TABLES_PER_INSPECTION: usize = 32;

/// Sets a map right; true when it was not.
type Check = fn(&mut DataPlane) -> Result<bool, MapFailure>;

// === impl DataPlane ===

impl DataPlane {
    /// Compares the kernel with what this process has made of it, and repairs what differs. What has left its link is
    /// only forgotten; [`DataPlane::attach`] makes it anew.
    pub fn inspect(&mut self) -> Inspection {
        self.attached();
        let mut failures = Vec::new();
        match self.see_to_names() {
            Ok(0) => {}
            Ok(count) => self.findings.push(Finding::Unpinned(count)),
            Err(error) => failures.push(format!(
                "a restart could not take over the data plane, which is not pinned: {}; mount a bpffs there",
                chain(&error)
            )),
        }
        let checks: [(&'static str, Check); 13] = [
            (names::CONTROL, Self::see_to_control),
            (names::FILTER, Self::see_to_filter),
            (names::VIPS, Self::see_to_vips),
            (names::LINKS, Self::set_links),
            (names::BACKENDS, Self::see_to_backends),
            (names::NEXT_HOPS, Self::see_to_next_hops),
            (names::ENDPOINTS, Self::see_to_endpoints),
            (names::PREFIXES, Self::see_to_prefixes),
            (names::WAYS, Self::see_to_ways),
            (names::ROUTERS, Self::see_to_routers),
            (names::TABLES, Self::see_to_tables),
            (names::FRONTENDS, Self::see_to_frontends),
            (names::SERVICES, Self::see_to_services),
        ];
        let mut is_changed = false;
        for (name, check) in checks {
            match check(self) {
                Ok(false) => {}
                Ok(true) => {
                    is_changed = true;
                    self.findings.push(Finding::Map(name));
                }
                Err(error) => failures.push(chain(&error)),
            }
        }
        // Caches hold what the maps said.
        if is_changed && let Err(error) = self.flush_cache() {
            failures.push(chain(&error));
        }
        if let Err(error) = successors::install(&mut self.bpf, &mut self.successors) {
            failures.push(chain(&error));
        }
        for finding in &self.findings {
            tracing::warn!(%finding, "somebody else has changed the data plane; repaired");
        }
        Inspection { found: std::mem::take(&mut self.findings), failures }
    }

    /// Returns how many names had to be given again.
    fn see_to_names(&self) -> Result<usize, PinError> {
        pins::prepare(&self.pin_dir)?;
        let mut count = self.name_links()?;
        for pinned in &self.pinned {
            count += usize::from(pinned.see_to_name()?);
        }
        Ok(count)
    }

    fn see_to_control(&mut self) -> Result<bool, MapFailure> {
        let differs = self.maps.control.get(0)? != self.control;
        if differs {
            self.maps.control.set(0, &self.control)?;
        }
        Ok(differs)
    }

    fn see_to_filter(&mut self) -> Result<bool, MapFailure> {
        let differs = self.maps.filter.get(0)? != *self.filter;
        if differs {
            self.maps.filter.set(0, &self.filter)?;
        }
        Ok(differs)
    }

    fn see_to_vips(&mut self) -> Result<bool, MapFailure> {
        let is = self.read_vips()?;
        for vip in self.vips.difference(&is) {
            self.maps.vips.insert(&address(*vip), &1)?;
        }
        for vip in is.difference(&self.vips) {
            self.maps.vips.remove(&address(*vip))?;
        }
        Ok(is != self.vips)
    }

    fn see_to_backends(&mut self) -> Result<bool, MapFailure> {
        let wanted: BTreeMap<u16, Entry> =
            self.index.services.values().flat_map(backend_entries).collect();
        let mut is_changed = false;
        for (id, is) in (0..=u16::MAX).zip(self.maps.backends.all()?) {
            // The generation lives in the map alone: it also counts who had the row before.
            let should = match wanted.get(&id) {
                Some(entry) => Entry { generation: is.generation, ..*entry },
                None if is.used == 0 => continue,
                None => Entry { generation: is.generation.wrapping_add(1), ..Entry::default() },
            };
            if is != should {
                is_changed = true;
                self.maps.backends.set(u32::from(id), &should)?;
            }
        }
        Ok(is_changed)
    }

    fn see_to_next_hops(&mut self) -> Result<bool, MapFailure> {
        let is = self.maps.next_hops.all()?;
        let mut is_changed = false;
        for (backend, id) in self.index.services.values().flat_map(|held| &held.backends) {
            let should = next_hop(self.next_hops.get(&backend.ip()));
            if is.get(usize::from(*id)) != Some(&should) {
                is_changed = true;
                self.maps.next_hops.set(u32::from(*id), &should)?;
            }
        }
        Ok(is_changed)
    }

    fn see_to_endpoints(&mut self) -> Result<bool, MapFailure> {
        let mut wanted: BTreeMap<EndpointKey, BTreeSet<u16>> = BTreeMap::new();
        for (frontend, held) in &self.index.services {
            for backend in held.backends.keys() {
                let key = endpoint_key(*backend, frontend.protocol);
                wanted.entry(key).or_default().insert(held.id);
            }
        }
        let mut is_changed = false;
        let is: BTreeMap<EndpointKey, Endpoint> =
            self.maps.endpoints.entries()?.into_iter().collect();
        for key in is.keys().filter(|key| !wanted.contains_key(key)) {
            is_changed = true;
            self.maps.endpoints.remove(key)?;
        }
        for (key, services) in &wanted {
            if is.get(key).is_none_or(|endpoint| services_of(endpoint) != *services) {
                is_changed = true;
                self.maps.endpoints.insert(key, &endpoint_of(services))?;
            }
        }
        Ok(is_changed)
    }

    fn see_to_prefixes(&mut self) -> Result<bool, MapFailure> {
        let is = self.read_lists()?;
        let should = self.index.lists.by_number();
        for (list, nets) in &is {
            let wanted = should.get(list).copied().unwrap_or_default();
            for net in nets.iter().filter(|net| !wanted.contains(net)) {
                self.maps.prefixes.remove(&prefix_key(*list, net))?;
            }
        }
        for (list, wanted) in &should {
            let nets = is.get(list).map(Vec::as_slice).unwrap_or_default();
            for net in wanted.iter().filter(|net| !nets.contains(net)) {
                self.maps.prefixes.put(&prefix_key(*list, net), 1)?;
            }
        }
        Ok(!is.iter().map(|(list, nets)| (*list, nets.as_slice())).eq(should))
    }

    /// Some of them, in turn.
    fn see_to_tables(&mut self) -> Result<bool, MapFailure> {
        let mut is_changed = false;
        let services = &self.index.services;
        let from = self.inspected_to;
        let behind = services.iter().filter(|(frontend, _)| from.is_none_or(|to| **frontend > to));
        let turn: Vec<(&Frontend, &Held)> = behind.take(TABLES_PER_INSPECTION).collect();
        // From the beginning again after the last one.
        self.inspected_to = turn.get(TABLES_PER_INSPECTION - 1).map(|(frontend, _)| **frontend);
        for (_, held) in turn {
            if let (Some(number), Some(should)) = (held.table.map(u32::from), table_of(held))
                && self.maps.tables.get(number)? != should
            {
                is_changed = true;
                self.maps.tables.set(number, &should)?;
            }
        }
        Ok(is_changed)
    }

    fn see_to_frontends(&mut self) -> Result<bool, MapFailure> {
        let is = self.maps.frontends.all()?;
        let mut is_changed = false;
        for (frontend, held) in &self.index.services {
            let should = service_key(frontend);
            if is.get(usize::from(held.id)) != Some(&should) {
                is_changed = true;
                self.maps.frontends.set(u32::from(held.id), &should)?;
            }
        }
        Ok(is_changed)
    }

    fn see_to_services(&mut self) -> Result<bool, MapFailure> {
        let services = self.index.services.iter();
        let wanted: BTreeMap<ServiceKey, _> =
            services.map(|(frontend, held)| (service_key(frontend), service_entry(held))).collect();
        let is: BTreeMap<ServiceKey, _> = self.maps.services.entries()?.into_iter().collect();
        for key in is.keys().filter(|key| !wanted.contains_key(key)) {
            self.maps.services.remove(key)?;
        }
        for (key, service) in wanted.iter().filter(|(key, service)| is.get(key) != Some(service)) {
            self.maps.services.insert(key, service)?;
        }
        Ok(is != wanted)
    }
}

/// Rows of a service's backends, but for their generations.
fn backend_entries(held: &Held) -> impl Iterator<Item = (u16, Entry)> + '_ {
    held.program.backends.iter().filter_map(|backend| {
        let entry = Entry {
            address: address(backend.address.ip()),
            port_be: backend.address.port().to_be(),
            service: held.id,
            generation: 0,
            weight: backend.weight,
            used: 1,
        };
        Some((*held.backends.get(&backend.address)?, entry))
    })
}

fn services_of(endpoint: &Endpoint) -> BTreeSet<u16> {
    endpoint.services.iter().take(endpoint.count as usize).copied().collect()
}

fn endpoint_of(services: &BTreeSet<u16>) -> Endpoint {
    let mut endpoint = Endpoint { count: 0, services: [0; MAX_SERVICES_PER_ENDPOINT] };
    for (slot, id) in endpoint.services.iter_mut().zip(services) {
        *slot = *id;
        endpoint.count += 1;
    }
    endpoint
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
