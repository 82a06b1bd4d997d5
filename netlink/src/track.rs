//! The tracked destinations: their routes, the neighbours these lead through, and when to let the
//! kernel ask for a neighbour. Pure: `now` is a parameter and the tables are passed in.

use crate::decode::{Mac, Neigh, NeighKey, Route};
use crate::types::{Link, NextHop, Resolution};
use ipnet::IpNet;
use rtnetlink::packet_route::neighbour::NeighbourState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// First pause after a neighbour failed; doubled after each further failure. The kernel itself asks
/// three times within 3 s for each probe.
const PROBE_PAUSE_MIN: Duration = Duration::from_secs(1);

/// A dead neighbour costs at most one question per this pause.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// XDP's packets do not refresh the kernel's entries, so a stale one is confirmed this often. It must
/// be below `gc_stale_time` (60 s), after which the kernel may forget it.
const CONFIRM_PAUSE: Duration = Duration::from_secs(30);

/// Destinations and the gateways they need.
#[derive(Default)]
pub(crate) struct Tracker {
    /// `None` until the kernel was asked.
    destinations: BTreeMap<IpAddr, Option<Route>>,
    /// Destinations to ask the kernel about.
    dirty: BTreeSet<IpAddr>,
    gateways: BTreeMap<NeighKey, Gateway>,
    /// Neighbours that are wanted for themselves: routers on the ways to anybody.
    routers: BTreeSet<NeighKey>,
    /// Something that a resolution is made of has changed since it was last read.
    changed: bool,
}

/// One neighbour that traffic goes through.
#[derive(Debug)]
struct Gateway {
    /// Last usable MAC, kept while the kernel asks again and until it says that nobody answered.
    mac: Option<Mac>,
    /// The neighbour did not answer since it last had a MAC.
    failed: bool,
    /// The entry's state when the kernel last said anything was one it sends in, without asking.
    settled: bool,
    /// Probes since the neighbour last answered.
    probes: u32,
    /// When it was last probed, last answered or last failed: pauses count from here.
    since: Instant,
    need: Need,
}

/// What the neighbour's state asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nobody is asking for it.
    Resolve,
    /// Usable, not confirmed for a while.
    Confirm,
    /// The kernel is asking, or has just been answered.
    Nothing,
}

// === impl Tracker ===

impl Tracker {
    /// Replaces the whole set.
    pub(crate) fn track(&mut self, wanted: &BTreeSet<IpAddr>) {
        let before = self.destinations.len();
        self.destinations.retain(|destination, _| wanted.contains(destination));
        self.dirty.retain(|destination| wanted.contains(destination));
        self.changed |= self.destinations.len() != before;
        for destination in wanted {
            if !self.destinations.contains_key(destination) {
                self.destinations.insert(*destination, None);
                self.dirty.insert(*destination);
            }
        }
        self.drop_unused_gateways();
    }

    /// Replaces the whole set of routers that are kept resolved besides.
    pub(crate) fn keep(
        &mut self,
        routers: BTreeSet<NeighKey>,
        neighs: &HashMap<NeighKey, Neigh>,
        now: Instant,
    ) {
        if self.routers == routers {
            return;
        }
        for key in &routers {
            self.gateways.entry(*key).or_insert_with(|| Gateway::new(neighs.get(key), now));
        }
        self.routers = routers;
        self.changed = true;
        self.drop_unused_gateways();
    }

    /// Those of them whose MAC is known, by links that are up.
    pub(crate) fn routers(&self, links: &BTreeMap<u32, Link>) -> BTreeMap<NeighKey, NextHop> {
        let known = self.routers.iter().filter_map(|(link_index, gateway)| {
            let route = Route::Via { link_index: *link_index, gateway: *gateway };
            match self.resolution(route, links) {
                Resolution::Resolved(next_hop) => Some(((*link_index, *gateway), next_hop)),
                _ => None,
            }
        });
        known.collect()
    }

    /// Routes inside this prefix may have changed.
    pub(crate) fn invalidate(&mut self, prefix: &IpNet) {
        let inside = self.destinations.keys().filter(|ip| prefix.contains(*ip));
        self.dirty.extend(inside);
    }

    /// Any route may have changed.
    pub(crate) fn invalidate_all(&mut self) {
        self.dirty.extend(self.destinations.keys());
        self.changed = true;
    }

    /// The destinations to ask the kernel about; answer with [`Self::routed`].
    pub(crate) fn take_dirty(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.dirty).into_iter().collect()
    }

    /// Routes asked for that were not answered.
    pub(crate) fn not_routed(&mut self, destinations: Vec<IpAddr>) {
        let tracked = destinations.into_iter().filter(|ip| self.destinations.contains_key(ip));
        self.dirty.extend(tracked.collect::<Vec<_>>());
    }

    /// Takes the kernel's answers; destinations no longer tracked are ignored.
    pub(crate) fn routed(
        &mut self,
        answers: Vec<(IpAddr, Route)>,
        neighs: &HashMap<NeighKey, Neigh>,
        now: Instant,
    ) {
        for (destination, route) in answers {
            let Some(slot) = self.destinations.get_mut(&destination) else { continue };
            if *slot == Some(route) {
                continue;
            }
            *slot = Some(route);
            self.changed = true;
            if let Route::Via { link_index, gateway } = route {
                let key = (link_index, gateway);
                self.gateways.entry(key).or_insert_with(|| Gateway::new(neighs.get(&key), now));
            }
        }
        self.drop_unused_gateways();
    }

    /// A neighbour's entry changed (or is gone).
    pub(crate) fn neigh_changed(&mut self, key: &NeighKey, neigh: Option<&Neigh>, now: Instant) {
        if let Some(gateway) = self.gateways.get_mut(key) {
            self.changed |= gateway.observe(neigh, now);
        }
    }

    /// The whole neighbour table was read again.
    pub(crate) fn neighs_replaced(&mut self, neighs: &HashMap<NeighKey, Neigh>, now: Instant) {
        for (key, gateway) in &mut self.gateways {
            self.changed |= gateway.observe(neighs.get(key), now);
        }
    }

    /// The neighbours to let the kernel ask for now; each counts as asked.
    ///
    /// Nothing is asked through a link that is down; when it comes up, [`Self::link_up`] asks at once.
    pub(crate) fn take_due(&mut self, links: &BTreeMap<u32, Link>, now: Instant) -> Vec<NeighKey> {
        let mut due = Vec::new();
        for (key, gateway) in &mut self.gateways {
            if gateway.due().is_some_and(|due| due <= now) {
                gateway.asked(now);
                if links.get(&key.0).is_some_and(|link| link.up) {
                    due.push(*key);
                }
            }
        }
        due
    }

    /// Forgets the backoff of neighbours on links that are up, so that they are asked at once.
    pub(crate) fn link_up(&mut self, link_index: u32) {
        for ((link, _), gateway) in &mut self.gateways {
            if *link == link_index {
                gateway.probes = 0;
            }
        }
    }

    /// When [`Self::take_due`] has something next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.gateways.values().filter_map(Gateway::due).min()
    }

    /// All resolutions, if any may have changed since this was last called. A destination is absent
    /// until the kernel was asked for its route.
    pub(crate) fn take_resolutions(
        &mut self,
        links: &BTreeMap<u32, Link>,
    ) -> Option<BTreeMap<IpAddr, Resolution>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        Some(
            self.destinations
                .iter()
                .filter_map(|(ip, route)| Some((*ip, self.resolution(*route.as_ref()?, links))))
                .collect(),
        )
    }

    fn resolution(&self, route: Route, links: &BTreeMap<u32, Link>) -> Resolution {
        let (link_index, gateway) = match route {
            Route::Local => return Resolution::Local,
            Route::None => return Resolution::NoRoute,
            Route::Via { link_index, gateway } => (link_index, gateway),
        };
        let Some(link) = links.get(&link_index) else { return Resolution::NoRoute };
        if !link.up {
            return Resolution::Unreachable { link_index, gateway };
        }
        match self.gateways.get(&(link_index, gateway)) {
            Some(Gateway { mac: Some(mac), .. }) => Resolution::Resolved(NextHop {
                link_index,
                source_mac: link.mac,
                destination_mac: *mac,
            }),
            Some(Gateway { failed: true, .. }) => Resolution::Unreachable { link_index, gateway },
            _ => Resolution::Resolving { link_index, gateway },
        }
    }

    fn drop_unused_gateways(&mut self) {
        let used: BTreeSet<NeighKey> = self
            .destinations
            .values()
            .filter_map(|route| match route {
                Some(Route::Via { link_index, gateway }) => Some((*link_index, *gateway)),
                _ => None,
            })
            .collect();
        self.gateways.retain(|key, _| used.contains(key) || self.routers.contains(key));
    }
}

// === impl Gateway ===

impl Gateway {
    fn new(neigh: Option<&Neigh>, now: Instant) -> Self {
        let mut gateway = Self {
            mac: None,
            failed: false,
            settled: false,
            probes: 0,
            since: now,
            need: Need::Resolve,
        };
        gateway.observe(neigh, now);
        // An entry found stale is confirmed at once: nobody knows for how long it has been.
        if gateway.need == Need::Confirm {
            gateway.since = now.checked_sub(CONFIRM_PAUSE).unwrap_or(now);
        }
        gateway
    }

    /// Takes the neighbour's state; whether its resolution changed.
    fn observe(&mut self, neigh: Option<&Neigh>, now: Instant) -> bool {
        use NeighbourState::{
            Delay, Failed, Incomplete, Noarp, Permanent, Probe, Reachable, Stale,
        };
        let before = (self.mac, self.failed);
        let state = neigh.map_or(NeighbourState::None, |neigh| neigh.state);
        if let Some(mac) = neigh.and_then(Neigh::usable_mac) {
            self.mac = Some(mac);
            self.failed = false;
        }
        let need = match state {
            Reachable | Permanent | Noarp => {
                self.probes = 0;
                self.since = now;
                Need::Nothing
            }
            Stale => {
                self.probes = 0;
                Need::Confirm
            }
            Incomplete | Delay | Probe => Need::Nothing,
            // Nobody answered. An entry that is deleted (`ip neigh flush`) passes through this state
            // too, straight from a settled one: that says nothing of the neighbour. (The start of
            // asking for an unknown neighbour, `Incomplete`, is not announced.)
            Failed if !self.settled => {
                self.mac = None;
                self.failed = true;
                if self.need != Need::Resolve {
                    self.since = now;
                }
                Need::Resolve
            }
            // Forgotten or flushed. Its MAC is most likely still right.
            _ => Need::Resolve,
        };
        self.need = need;
        self.settled = matches!(state, Reachable | Stale | Delay | Permanent | Noarp);
        before != (self.mac, self.failed)
    }

    /// When the kernel should ask next.
    fn due(&self) -> Option<Instant> {
        match self.need {
            Need::Nothing => None,
            Need::Confirm => Some(self.since + CONFIRM_PAUSE),
            Need::Resolve => Some(self.since + self.pause()),
        }
    }

    /// 0 before the first probe, then 1 s, 2 s, … 30 s.
    fn pause(&self) -> Duration {
        match self.probes.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => {
                PROBE_PAUSE_MIN.saturating_mul(2u32.saturating_pow(doublings)).min(PROBE_PAUSE_MAX)
            }
        }
    }

    fn asked(&mut self, now: Instant) {
        self.probes = self.probes.saturating_add(1);
        self.since = now;
    }
}

#[cfg(test)]
#[path = "track_tests.rs"]
mod tests;
