//! Adj-RIB-In: which prefixes the peer has announced, for the count; none is used (RFC 8212).

use crate::wire::{Action, Family, Prefixes, Update};
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;

/// Prefixes remembered per family, about 4 MB of them. A router that sends its full table by mistake must cost us
/// neither memory nor the session that our own routes need, so beyond that they are only reported.
pub const MAX_RECEIVED_PER_FAMILY: usize = 100_000;

/// What one peer has announced.
#[derive(Clone, Debug, Default)]
pub struct AdjRibIn {
    v4: Received<Ipv4Net>,
    v6: Received<Ipv6Net>,
    malformed_updates: u64,
}

/// One family of it.
#[derive(Clone, Debug)]
struct Received<N> {
    prefixes: BTreeSet<N>,
    overflown: bool,
    /// RFC 7606 §2, AFI/SAFI disable.
    disabled: bool,
}

// === impl AdjRibIn ===

impl AdjRibIn {
    /// Takes in a decoded UPDATE, whose errors have been acted upon except for a family to be disabled.
    pub fn apply(&mut self, update: &Update) {
        self.malformed_updates += u64::from(!update.errors.is_empty());
        for error in &update.errors {
            match (error.action, error.family) {
                (Action::AfiSafiDisable, Some(Family::IPV4_UNICAST)) => self.v4.disable(),
                (Action::AfiSafiDisable, Some(Family::IPV6_UNICAST)) => self.v6.disable(),
                _ => {}
            }
        }
        for unreach in &update.unreach {
            match &unreach.prefixes {
                Prefixes::V4(nets) => self.v4.remove(nets),
                Prefixes::V6(nets) => self.v6.remove(nets),
            }
        }
        for reach in &update.reach {
            match &reach.prefixes {
                Prefixes::V4(nets) => self.v4.insert(nets),
                Prefixes::V6(nets) => self.v6.insert(nets),
            }
        }
    }

    /// Prefixes announced and not withdrawn, up to [`MAX_RECEIVED_PER_FAMILY`] per family.
    pub fn len(&self) -> usize {
        self.v4.prefixes.len() + self.v6.prefixes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// UPDATEs with something wrong in them.
    pub fn malformed_updates(&self) -> u64 {
        self.malformed_updates
    }

    /// What the operator should know, in words.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let families = [
            (Family::IPV4_UNICAST, self.v4.overflown, self.v4.disabled),
            (Family::IPV6_UNICAST, self.v6.overflown, self.v6.disabled),
        ];
        for (family, overflown, disabled) in families {
            if overflown {
                problems.push(format!(
                    "the peer announces more than {MAX_RECEIVED_PER_FAMILY} {family} prefixes; the count ends there, \
                     and none is used: filter them at the peer"
                ));
            }
            if disabled {
                problems.push(format!(
                    "the peer's {family} routes are ignored until the session restarts: it sent one that cannot be \
                     parsed (RFC 7606)"
                ));
            }
        }
        if self.malformed_updates > 0 {
            problems.push(format!(
                "{} UPDATE messages of the peer were malformed (RFC 7606)",
                self.malformed_updates
            ));
        }
        problems
    }
}

// === impl Received ===

impl<N> Default for Received<N> {
    fn default() -> Self {
        Self { prefixes: BTreeSet::new(), overflown: false, disabled: false }
    }
}

impl<N: Ord + Copy> Received<N> {
    fn insert(&mut self, nets: &[N]) {
        for net in nets.iter().filter(|_| !self.disabled) {
            if self.prefixes.len() < MAX_RECEIVED_PER_FAMILY {
                self.prefixes.insert(*net);
            } else if !self.prefixes.contains(net) {
                self.overflown = true;
            }
        }
    }

    fn remove(&mut self, nets: &[N]) {
        for net in nets {
            self.prefixes.remove(net);
        }
    }

    fn disable(&mut self) {
        self.disabled = true;
        self.prefixes.clear();
    }
}
