//! What user space remembers of the maps, so that it need not scan them: identifiers and last programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipnet::IpNet;
use sluice_xdp_abi::limits::{MAX_BACKENDS, MAX_SERVICES, MAX_TABLES};

use crate::ids::{Ids, Queue};
use crate::lists::Lists;
use crate::types::{Frontend, Program};

/// All frontends, and which identifiers are free.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) services: BTreeMap<Frontend, Held>,
    pub(crate) service_ids: Ids,
    pub(crate) backend_ids: Ids,
    pub(crate) tables: Queue,
    pub(crate) lists: Lists,
}

/// One frontend as the maps hold it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) id: u16,
    /// `None` while no backend has weight.
    pub(crate) table: Option<u16>,
    /// Number of the list of its source ranges.
    pub(crate) source_list: u16,
    /// Number of the list of its clients under full NAT.
    pub(crate) full_nat_list: u16,
    /// Normalised: sorted, without duplicates.
    pub(crate) program: Program,
    /// Identifiers by address.
    pub(crate) backends: BTreeMap<SocketAddr, u16>,
}

// === impl Index ===

impl Default for Index {
    fn default() -> Self {
        Self::new(BTreeMap::new(), BTreeMap::new())
    }
}

impl Index {
    /// Takes the identifiers of these services and lists as used.
    pub(crate) fn new(
        services: BTreeMap<Frontend, Held>,
        lists: BTreeMap<u16, Vec<IpNet>>,
    ) -> Self {
        let uses = services.values().flat_map(|held| [held.source_list, held.full_nat_list]);
        let lists = Lists::new(lists, uses);
        let ids = services.values().map(|held| u32::from(held.id)).collect();
        let backends: BTreeSet<u32> = services
            .values()
            .flat_map(|held| held.backends.values())
            .map(|id| u32::from(*id))
            .collect();
        let tables = services.values().filter_map(|held| held.table).collect();
        // In range: asserted where the limits are defined.
        let table_limit = u16::try_from(MAX_TABLES).unwrap_or(u16::MAX);
        Self {
            service_ids: Ids::new(0, MAX_SERVICES, &ids),
            backend_ids: Ids::new(1, MAX_BACKENDS, &backends),
            tables: Queue::new(table_limit, &tables),
            lists,
            services,
        }
    }
}
