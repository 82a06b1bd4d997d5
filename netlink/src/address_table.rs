//! The addresses of this host, shared with the handles: who has which, and whether it is ours.

use crate::decode::Addr;
use crate::types::OtherAddress;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is known of one address on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    ours: bool,
    global: bool,
}

/// Keyed by address first, so that "who has this address" is a range.
#[derive(Debug, Default)]
pub(crate) struct AddressTable {
    entries: BTreeMap<(IpAddr, u32, u8), Entry>,
}

// === impl AddressTable ===

impl AddressTable {
    pub(crate) fn from_dump(addrs: &[Addr]) -> Self {
        let mut table = Self::default();
        for addr in addrs {
            table.insert(addr);
        }
        table
    }

    /// Whether an address that is not ours appeared or changed.
    pub(crate) fn insert(&mut self, addr: &Addr) -> bool {
        let entry = Entry { ours: addr.ours, global: addr.global };
        self.entries.insert(key(addr), entry) != Some(entry) && !addr.ours
    }

    /// Whether an address that is not ours went away.
    pub(crate) fn remove(&mut self, addr: &Addr) -> bool {
        self.entries.remove(&key(addr)).is_some_and(|entry| !entry.ours)
    }

    /// The link that has this address without it being ours.
    pub(crate) fn foreign(&self, ip: IpAddr) -> Option<u32> {
        self.of(ip).find(|(_, entry)| !entry.ours).map(|(link_index, _)| link_index)
    }

    /// Whether this address is a VIP of ours.
    pub(crate) fn is_ours(&self, ip: IpAddr) -> bool {
        self.of(ip).any(|(_, entry)| entry.ours)
    }

    /// Global addresses of a link that are not ours, with their prefix lengths, in order.
    pub(crate) fn global_on(&self, link_index: u32) -> Vec<IpNet> {
        self.entries
            .iter()
            .filter(|((_, link, _), entry)| *link == link_index && entry.global && !entry.ours)
            .filter_map(|((ip, _, prefix_len), _)| IpNet::new(*ip, *prefix_len).ok())
            .collect()
    }

    /// Every address that is not ours.
    pub(crate) fn others(&self) -> BTreeSet<OtherAddress> {
        let others = self.entries.iter().filter(|(_, entry)| !entry.ours);
        others
            .filter_map(|((ip, link, length), _)| Some((IpNet::new(*ip, *length).ok()?, *link)))
            .collect()
    }

    fn of(&self, ip: IpAddr) -> impl Iterator<Item = (u32, &Entry)> {
        self.entries
            .range((ip, 0, 0)..=(ip, u32::MAX, u8::MAX))
            .map(|((_, link_index, _), entry)| (*link_index, entry))
    }
}

fn key(addr: &Addr) -> (IpAddr, u32, u8) {
    (addr.net.addr(), addr.link_index, addr.net.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(link_index: u32, net: &str, ours: bool) -> Addr {
        Addr { link_index, net: net.parse().unwrap(), ours, global: !ours }
    }

    #[test]
    fn tells_ours_from_foreign() {
        let mut table = AddressTable::from_dump(&[
            addr(1, "203.0.113.10/32", true),
            addr(1, "203.0.113.11/24", false),
            addr(7, "10.0.0.2/24", false),
        ]);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(table.is_ours(ip("203.0.113.10")));
        assert_eq!(table.foreign(ip("203.0.113.10")), None);
        assert_eq!(table.foreign(ip("203.0.113.11")), Some(1));
        assert_eq!(table.foreign(ip("10.0.0.2")), Some(7));
        assert_eq!(table.foreign(ip("10.0.0.3")), None);
        assert_eq!(table.global_on(7), vec!["10.0.0.2/24".parse::<IpNet>().unwrap()]);

        let others = table.others().into_iter().map(|(net, link)| format!("{net} on {link}"));
        assert_eq!(others.collect::<Vec<_>>(), ["10.0.0.2/24 on 7", "203.0.113.11/24 on 1"]);

        assert!(!table.insert(&addr(7, "10.0.0.2/24", false)), "nothing changed");
        assert!(!table.remove(&addr(1, "203.0.113.10/32", true)), "ours are not news");
        assert!(table.remove(&addr(7, "10.0.0.2/24", false)));
        assert_eq!(table.foreign(ip("10.0.0.2")), None);
    }
}
