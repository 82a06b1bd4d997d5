//! The maps, typed.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, IterableMap as _, MapData, MapError};
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::counter::{CpuState, Traffic};
use sluice_xdp_abi::filter::Filter;
use sluice_xdp_abi::flow::{Flow, FlowKey, NextHop};
use sluice_xdp_abi::names;
use sluice_xdp_abi::nat::NatKey;
use sluice_xdp_abi::prefix::PrefixKey;
use sluice_xdp_abi::program::{
    Backend, Control, Endpoint, EndpointKey, MaglevTable, Service, ServiceKey,
};
use sluice_xdp_abi::way::Way;

use crate::batch;
use crate::error::{MapFailure, OpenError};
use crate::shared::{Plain, Shared};

/// Every map of the program that user space touches.
pub(crate) struct Maps {
    pub(crate) control: Table<Control>,
    pub(crate) filter: Table<Filter>,
    pub(crate) vips: Set<Address, u32>,
    pub(crate) services: Set<ServiceKey, Service>,
    pub(crate) frontends: Table<ServiceKey>,
    pub(crate) tables: Table<MaglevTable>,
    pub(crate) backends: Table<Backend>,
    pub(crate) next_hops: Table<NextHop>,
    pub(crate) endpoints: Set<EndpointKey, Endpoint>,
    pub(crate) prefixes: Trie<PrefixKey, u32>,
    pub(crate) ways: Trie<PrefixKey, Way>,
    pub(crate) routers: Table<NextHop>,
    pub(crate) nats: Set<NatKey, FlowKey>,
    pub(crate) links: Set<u32, u64>,
    pub(crate) flows: Set<FlowKey, Flow>,
    pub(crate) unconfirmed: Set<FlowKey, Flow>,
    pub(crate) cpus: Table<CpuState>,
    pub(crate) traffic: Table<Traffic>,
    pub(crate) retired: Table<Traffic>,
}

/// An array map.
pub(crate) struct Table<V: Plain> {
    name: &'static str,
    map: Array<MapData, Shared<V>>,
}

/// A hash map.
pub(crate) struct Set<K: Plain, V: Plain> {
    name: &'static str,
    map: HashMap<MapData, Shared<K>, Shared<V>>,
}

/// A trie of longest prefixes.
pub(crate) struct Trie<K: Plain, V: Plain> {
    name: &'static str,
    map: LpmTrie<MapData, Shared<K>, Shared<V>>,
}

/// What a trie holds at one key.
pub(crate) type Row<K, V> = (Key<Shared<K>>, V);

// === impl Maps ===

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(crate) fn take(bpf: &mut Ebpf) -> Result<Self, OpenError> {
        Ok(Self {
            control: Table::take(bpf, names::CONTROL)?,
            filter: Table::take(bpf, names::FILTER)?,
            vips: Set::take(bpf, names::VIPS)?,
            services: Set::take(bpf, names::SERVICES)?,
            frontends: Table::take(bpf, names::FRONTENDS)?,
            tables: Table::take(bpf, names::TABLES)?,
            backends: Table::take(bpf, names::BACKENDS)?,
            next_hops: Table::take(bpf, names::NEXT_HOPS)?,
            endpoints: Set::take(bpf, names::ENDPOINTS)?,
            prefixes: Trie::take(bpf, names::PREFIXES)?,
            ways: Trie::take(bpf, names::WAYS)?,
            routers: Table::take(bpf, names::ROUTERS)?,
            nats: Set::take(bpf, names::NATS)?,
            links: Set::take(bpf, names::LINKS)?,
            flows: Set::take(bpf, names::FLOWS)?,
            unconfirmed: Set::take(bpf, names::UNCONFIRMED)?,
            cpus: Table::take(bpf, names::CPUS)?,
            traffic: Table::take(bpf, names::TRAFFIC)?,
            retired: Table::take(bpf, names::RETIRED)?,
        })
    }
}

/// A key that is gone already is fine; an LRU map forgets by itself.
fn removed(name: &'static str, result: Result<(), MapError>) -> Result<(), MapFailure> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(failure(name)(error)),
    }
}

fn failure(map: &'static str) -> impl Fn(MapError) -> MapFailure {
    move |source| MapFailure { map, source: Box::new(source) }
}

// === impl Table ===

impl<V: Plain> Table<V> {
    fn take(bpf: &mut Ebpf, name: &'static str) -> Result<Self, OpenError> {
        let map = bpf.take_map(name).ok_or(OpenError::Incomplete(name))?;
        Ok(Self { name, map: Array::try_from(map).map_err(failure(name))? })
    }

    pub(crate) fn get(&self, index: u32) -> Result<V, MapFailure> {
        Ok(self.map.get(&index, 0).map_err(failure(self.name))?.0)
    }

    pub(crate) fn set(&mut self, index: u32, value: &V) -> Result<(), MapFailure> {
        self.map.set(index, Shared(*value), 0).map_err(failure(self.name))
    }

    /// Every element, by index.
    pub(crate) fn all(&self) -> Result<Vec<V>, MapFailure>
    where
        V: Default,
    {
        let mut all = Vec::with_capacity(self.map.len() as usize);
        batch::for_each(self.map.map().fd().as_fd(), |_: &u32, value: &V| all.push(*value))
            .map_err(|error| failure(self.name)(error.into()))?;
        Ok(all)
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> u32 {
        self.map.len()
    }
}

// === impl Set ===

impl<K: Plain, V: Plain> Set<K, V> {
    /// For calls that aya does not have.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.map.map().fd().as_fd()
    }
}

impl<K: Plain, V: Plain> Set<K, V> {
    fn take(bpf: &mut Ebpf, name: &'static str) -> Result<Self, OpenError> {
        let map = bpf.take_map(name).ok_or(OpenError::Incomplete(name))?;
        Ok(Self { name, map: HashMap::try_from(map).map_err(failure(name))? })
    }

    pub(crate) fn get(&self, key: &K) -> Result<Option<V>, MapFailure> {
        match self.map.get(&Shared(*key), 0) {
            Ok(value) => Ok(Some(value.0)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failure(self.name)(error)),
        }
    }

    pub(crate) fn insert(&mut self, key: &K, value: &V) -> Result<(), MapFailure> {
        self.map.insert(Shared(*key), Shared(*value), 0).map_err(failure(self.name))
    }

    /// Removes a key; one that is gone already is fine.
    pub(crate) fn remove(&mut self, key: &K) -> Result<(), MapFailure> {
        removed(self.name, self.map.remove(&Shared(*key)))
    }

    /// Everything in the map, in no order.
    pub(crate) fn entries(&self) -> Result<Vec<(K, V)>, MapFailure>
    where
        K: Default,
        V: Default,
    {
        let mut entries = Vec::new();
        batch::for_each(self.fd(), |key: &K, value: &V| entries.push((*key, *value)))
            .map_err(|error| failure(self.name)(error.into()))?;
        Ok(entries)
    }
}

// === impl Trie ===

impl<K: Plain, V: Plain> Trie<K, V> {
    fn take(bpf: &mut Ebpf, name: &'static str) -> Result<Self, OpenError> {
        let map = bpf.take_map(name).ok_or(OpenError::Incomplete(name))?;
        Ok(Self { name, map: LpmTrie::try_from(map).map_err(failure(name))? })
    }

    pub(crate) fn put(&mut self, key: &Key<Shared<K>>, value: V) -> Result<(), MapFailure> {
        self.map.insert(key, Shared(value), 0).map_err(failure(self.name))
    }

    /// Removes a key; one that is gone already is fine.
    pub(crate) fn remove(&mut self, key: &Key<Shared<K>>) -> Result<(), MapFailure> {
        removed(self.name, self.map.remove(key))
    }

    /// Everything in the trie, in no order.
    pub(crate) fn entries(&self) -> Result<Vec<Row<K, V>>, MapFailure> {
        let entries = self.map.iter().map(|entry| entry.map(|(key, Shared(value))| (key, value)));
        entries.map(|entry| entry.map_err(failure(self.name))).collect()
    }

    /// Every key, in no order.
    pub(crate) fn keys(&self) -> Result<Vec<Key<Shared<K>>>, MapFailure> {
        self.map.keys().map(|key| key.map_err(failure(self.name))).collect()
    }
}
