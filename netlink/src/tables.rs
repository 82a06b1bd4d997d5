//! What the kernel holds, kept up to date by its notifications, and what each of them changes.

use crate::address_table::AddressTable;
use crate::decode::{self, Neigh, NeighKey};
use crate::kernel::Dump;
use crate::types::Link;
use ipnet::IpNet;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::RouteMessage;
use std::collections::{BTreeMap, HashMap};
use tokio::sync::watch;

/// Links and neighbours; the addresses are shared with the handles through their channel.
pub(crate) struct Tables {
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) neighs: HashMap<NeighKey, Neigh>,
    pub(crate) addresses: watch::Sender<AddressTable>,
}

/// What one notification changed. Routes are not kept: the kernel is asked where they matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// A link: its routes may come or go without a word of their own.
    Links,
    /// An address that is not ours; the same holds for routes that prefer it as source.
    Addresses,
    /// A route with this prefix; `beyond` this host, not to one of its own addresses on `lo`.
    Route {
        prefix: IpNet,
        beyond: bool,
    },
    /// A routing rule: any destination may be concerned.
    Rules,
    /// A neighbour's state; `moved` when the MAC that packets may use is another or none.
    Neigh {
        key: NeighKey,
        moved: bool,
    },
}

// === impl Tables ===

impl Tables {
    pub(crate) fn new(dump: Dump) -> Self {
        Self {
            links: dump.links.into_iter().map(|link| (link.index, link)).collect(),
            neighs: dump.neighs.into_iter().collect(),
            addresses: watch::Sender::new(AddressTable::from_dump(&dump.addrs)),
        }
    }

    /// Takes over a later dump, in place.
    pub(crate) fn replace(&mut self, dump: Dump) {
        self.links = dump.links.into_iter().map(|link| (link.index, link)).collect();
        self.neighs = dump.neighs.into_iter().collect();
        self.addresses.send_replace(AddressTable::from_dump(&dump.addrs));
    }

    pub(crate) fn apply(&mut self, message: &RouteNetlinkMessage) -> Change {
        use RouteNetlinkMessage as M;
        match message {
            M::NewLink(message) => match decode::link(message) {
                Some(link) if self.links.get(&link.index) != Some(&link) => {
                    self.links.insert(link.index, link);
                    Change::Links
                }
                _ => Change::Nothing,
            },
            M::DelLink(message) => match decode::link(message) {
                Some(link) if self.links.remove(&link.index).is_some() => Change::Links,
                _ => Change::Nothing,
            },
            M::NewAddress(message) => match decode::addr(message) {
                Some(addr) => self.change_addresses(|table| table.insert(&addr)),
                None => Change::Nothing,
            },
            M::DelAddress(message) => match decode::addr(message) {
                Some(addr) => self.change_addresses(|table| table.remove(&addr)),
                None => Change::Nothing,
            },
            M::NewNeighbour(message) => match decode::neigh(message) {
                Some((key, neigh)) => {
                    let before = self.neighs.insert(key, neigh);
                    moved(key, before, Some(neigh))
                }
                None => Change::Nothing,
            },
            M::DelNeighbour(message) => match decode::neigh(message) {
                Some((key, _)) => moved(key, self.neighs.remove(&key), None),
                None => Change::Nothing,
            },
            M::NewRoute(message) | M::DelRoute(message) => route_change(message),
            M::NewRule(_) | M::DelRule(_) => Change::Rules,
            _ => Change::Nothing,
        }
    }

    /// Readers borrow the table in place; nobody waits for its changes, so none is signalled.
    fn change_addresses(&self, change: impl FnOnce(&mut AddressTable) -> bool) -> Change {
        let mut foreign = false;
        self.addresses.send_if_modified(|table| {
            foreign = change(table);
            false
        });
        if foreign { Change::Addresses } else { Change::Nothing }
    }
}

fn moved(key: NeighKey, before: Option<Neigh>, after: Option<Neigh>) -> Change {
    let mac = |neigh: Option<Neigh>| neigh.and_then(|neigh| neigh.usable_mac());
    Change::Neigh { key, moved: mac(before) != mac(after) }
}

fn route_change(message: &RouteMessage) -> Change {
    match decode::route_prefix(message) {
        Some(prefix) => Change::Route { prefix, beyond: !decode::is_loopback_route(message) },
        None => Change::Nothing,
    }
}
