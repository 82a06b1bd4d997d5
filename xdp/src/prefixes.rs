//! Lists of client prefixes in the maps.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::DataPlane;
use crate::convert::{prefix, prefix_key};
use crate::error::{MapFailure, ProgramError};
use crate::lists::Taken;

// === impl DataPlane ===

impl DataPlane {
    /// The number of a normalised list, whose prefixes are in the maps when this returns.
    pub(crate) fn take_list(&mut self, prefixes: &[IpNet]) -> Result<u16, ProgramError> {
        let taken = self.index.lists.take(prefixes).ok_or(ProgramError::TooManyPrefixes)?;
        if let Taken::Fresh(id) = taken {
            for net in prefixes {
                self.maps.prefixes.put(&prefix_key(id, net), 1)?;
            }
        }
        Ok(taken.id())
    }

    /// For a list that no packet of one of its users can ask for any more.
    pub(crate) fn put_list_back(&mut self, id: u16) -> Result<(), MapFailure> {
        let Some(prefixes) = self.index.lists.put_back(id) else {
            return Ok(());
        };
        prefixes.iter().try_for_each(|net| self.maps.prefixes.remove(&prefix_key(id, net)))
    }

    /// Every list by number, each in its order.
    pub(crate) fn read_lists(&self) -> Result<BTreeMap<u16, Vec<IpNet>>, MapFailure> {
        let mut lists: BTreeMap<u16, Vec<IpNet>> = BTreeMap::new();
        for key in self.maps.prefixes.keys()? {
            if let Some(net) = prefix(&key) {
                lists.entry(key.data().0.list).or_default().push(net);
            }
        }
        lists.values_mut().for_each(|nets| nets.sort_unstable());
        Ok(lists)
    }

    /// Removes the prefixes of lists that no service has: a killed process may have left some.
    pub(crate) fn remove_stray_lists(
        &mut self,
        lists: &mut BTreeMap<u16, Vec<IpNet>>,
        is_used: impl Fn(u16) -> bool,
    ) -> Result<(), MapFailure> {
        let stray: Vec<u16> = lists.keys().copied().filter(|id| !is_used(*id)).collect();
        for id in stray {
            for net in lists.remove(&id).unwrap_or_default() {
                self.maps.prefixes.remove(&prefix_key(id, &net))?;
            }
        }
        Ok(())
    }
}
