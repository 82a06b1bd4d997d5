//! Lists of client prefixes by content: services with equal lists share one. Pure.
//!
//! A list is never changed. Whoever wants other prefixes takes another list, switches to it and gives the old one back,
//! so no packet sees one half written.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use sluice_xdp_abi::limits::{MAX_PREFIX_LISTS, MAX_PREFIXES};
use sluice_xdp_abi::prefix::NO_LIST;

use crate::ids::Queue;

/// The lists in use.
#[derive(Debug)]
pub(crate) struct Lists {
    by_content: BTreeMap<Vec<IpNet>, u16>,
    held: BTreeMap<u16, List>,
    free: Queue,
    prefixes: usize,
}

#[derive(Debug)]
struct List {
    prefixes: Vec<IpNet>,
    users: usize,
}

/// A list that somebody uses from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the maps.
    Shared(u16),
    /// It must be written before anything refers to it.
    Fresh(u16),
}

/// Truncated, sorted, unique: what makes two lists equal.
pub(crate) fn normalise(prefixes: &[IpNet]) -> Vec<IpNet> {
    let unique: BTreeSet<IpNet> = prefixes.iter().map(IpNet::trunc).collect();
    unique.into_iter().collect()
}

// === impl Lists ===

impl Default for Lists {
    fn default() -> Self {
        Self::new(BTreeMap::new(), std::iter::empty())
    }
}

impl Lists {
    /// Adopts lists by number, and who uses them: a number for each use.
    pub(crate) fn new(lists: BTreeMap<u16, Vec<IpNet>>, uses: impl Iterator<Item = u16>) -> Self {
        let limit = u16::try_from(MAX_PREFIX_LISTS).unwrap_or(u16::MAX);
        let used = lists.keys().copied().chain([NO_LIST]).collect();
        let mut adopted = Self {
            by_content: lists.iter().map(|(id, prefixes)| (prefixes.clone(), *id)).collect(),
            prefixes: lists.values().map(Vec::len).sum(),
            held: lists
                .into_iter()
                .map(|(id, prefixes)| (id, List { prefixes, users: 0 }))
                .collect(),
            free: Queue::new(limit, &used),
        };
        for id in uses {
            if let Some(list) = adopted.held.get_mut(&id) {
                list.users += 1;
            }
        }
        adopted
    }

    /// Whether these normalised lists can be taken, one after another.
    pub(crate) fn has_room_for(&self, wanted: &[&[IpNet]]) -> bool {
        let fresh: BTreeSet<&[IpNet]> = wanted
            .iter()
            .copied()
            .filter(|list| !list.is_empty() && !self.by_content.contains_key(*list))
            .collect();
        let added: usize = fresh.iter().map(|list| list.len()).sum();
        self.prefixes + added <= MAX_PREFIXES as usize && fresh.len() <= self.free.len()
    }

    /// Every list by number, in its order.
    pub(crate) fn by_number(&self) -> BTreeMap<u16, &[IpNet]> {
        self.held.iter().map(|(id, list)| (*id, list.prefixes.as_slice())).collect()
    }

    /// The number of a normalised list; `None` when there is no room.
    pub(crate) fn take(&mut self, prefixes: &[IpNet]) -> Option<Taken> {
        if prefixes.is_empty() {
            return Some(Taken::Shared(NO_LIST));
        }
        if let Some(id) = self.by_content.get(prefixes) {
            self.held.get_mut(id)?.users += 1;
            return Some(Taken::Shared(*id));
        }
        if !self.has_room_for(&[prefixes]) {
            return None;
        }
        let id = self.free.take()?;
        self.prefixes += prefixes.len();
        self.by_content.insert(prefixes.to_vec(), id);
        self.held.insert(id, List { prefixes: prefixes.to_vec(), users: 1 });
        Some(Taken::Fresh(id))
    }

    /// One user less. After the last one the prefixes are to be removed from the maps.
    #[must_use]
    pub(crate) fn put_back(&mut self, id: u16) -> Option<Vec<IpNet>> {
        let list = self.held.get_mut(&id)?;
        list.users = list.users.saturating_sub(1);
        if list.users > 0 {
            return None;
        }
        let list = self.held.remove(&id)?;
        self.by_content.remove(&list.prefixes);
        self.prefixes -= list.prefixes.len();
        self.free.put_back(id);
        Some(list.prefixes)
    }
}

// === impl Taken ===

impl Taken {
    pub(crate) fn id(self) -> u16 {
        match self {
            Self::Shared(id) | Self::Fresh(id) => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn equal_lists_look_equal() {
        let wanted = nets(&["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
        let given = nets(&["192.0.2.77/24", "2001:db8:1::1/32", "10.0.0.0/8", "10.255.0.0/8"]);
        assert_eq!(normalise(&given), wanted);
    }

    #[test]
    fn two_thousand_services_with_one_list_cost_one() {
        let mut lists = Lists::default();
        let ranges = nets(&["10.0.0.0/8", "192.0.2.0/24"]);
        let first = lists.take(&ranges).unwrap();
        assert!(matches!(first, Taken::Fresh(1..)));
        assert!((1..2000).all(|_| lists.take(&ranges) == Some(Taken::Shared(first.id()))));
        assert_eq!(lists.prefixes, 2);
        assert!((1..2000).all(|_| lists.put_back(first.id()).is_none()));
        assert_eq!(lists.put_back(first.id()), Some(ranges));
        assert_eq!(lists.prefixes, 0);
    }

    #[test]
    fn the_limit_counts_each_prefix_once() {
        let mut lists = Lists::default();
        let net = |n: u32| IpNet::new(std::net::Ipv4Addr::from(n << 8).into(), 24).unwrap();
        let full: Vec<_> = (0..MAX_PREFIXES).map(net).collect();
        lists.take(&full).unwrap();
        assert!(lists.has_room_for(&[&full, &[], &full]));
        let other = nets(&["2001:db8::/32"]);
        assert!(!lists.has_room_for(&[&full, &other]));
        assert_eq!(lists.take(&other), None);
        assert!(lists.take(&full).is_some());
    }

    proptest! {
        /// Any takes and returns: a number means one content, equal contents have one number, and every list leaves
        /// with its last user.
        #[test]
        fn lists_are_shared_by_content(steps in proptest::collection::vec((0u8..6, any::<bool>()), 0..200)) {
            let content = |n: u8| (0..=n).map(|i| IpNet::new([10, i, 0, 0].into(), 16).unwrap()).collect::<Vec<_>>();
            let mut lists = Lists::default();
            let mut users: BTreeMap<u8, (u16, usize)> = BTreeMap::new();
            for (n, is_taken) in steps {
                let wanted = content(n);
                if is_taken {
                    let taken = lists.take(&wanted).unwrap();
                    let user = users.entry(n).or_insert((taken.id(), 0));
                    prop_assert_eq!(user.0, taken.id());
                    prop_assert_eq!(matches!(taken, Taken::Fresh(_)), user.1 == 0);
                    user.1 += 1;
                } else if let Some((id, count)) = users.get_mut(&n) {
                    *count -= 1;
                    let is_last = *count == 0;
                    prop_assert_eq!(lists.put_back(*id), is_last.then_some(wanted));
                    if is_last {
                        users.remove(&n);
                    }
                }
                let ids: BTreeSet<u16> = users.values().map(|(id, _)| *id).collect();
                prop_assert_eq!(ids.len(), users.len());
                prop_assert!(!ids.contains(&NO_LIST));
                for (n, (id, _)) in &users {
                    prop_assert_eq!(&lists.held[id].prefixes, &content(*n));
                }
                let prefixes: usize = users.keys().map(|n| usize::from(*n) + 1).sum();
                prop_assert_eq!(lists.prefixes, prefixes);
            }
        }
    }
}
