//! Whose the addresses in statuses are. Before any is handed out each is taken in, or known to be somebody else's.

use super::others::Other;
use super::status::{has_finalizer, status_addresses};
use super::{Index, Known, ObjectName};
use sluice_model::Class;
use std::collections::BTreeSet;
use std::net::IpAddr;

// === impl Index ===

impl Index {
    /// Addresses in statuses stay with their Services; of two with the same one the older keeps it.
    pub(super) fn import(&mut self) {
        let mut by_age: Vec<_> = self.services.iter().collect();
        by_age.sort_by_key(|(_, k)| k.object.metadata.creation_timestamp.as_ref().map(|t| t.0));
        for (name, known) in by_age {
            for (address, ports) in status_addresses(&known.object) {
                // Never ours, whoever wrote it: the Service gets another one.
                let is_hosts = Class::of(address).is_none();
                if is_hosts && self.is_kept(known, address) {
                    self.pools.import(address, name, &ports);
                }
            }
        }
    }

    /// What a bridge wrote stays. What another controller wrote, whom the Service comes from, stays too if a pool of ours
    /// has it and nobody else does: so kube-loxilb's Services keep their addresses, and those of nodes, which K3s' ServiceLB
    /// writes, are no VIPs.
    fn is_kept(&self, known: &Known, address: IpAddr) -> bool {
        let is_in_pool = self.pools.of(address).is_some();
        if !self.is_ours(&known.object) {
            return known.origin.is_finalizer_ours && is_in_pool;
        }
        let is_free = || self.pools.other(address).is_none() && self.pools.unfit(address).is_none();
        known.origin.is_from_bridge() || (is_in_pool && is_free())
    }

    /// A Service that is not ours any longer is to be cleaned up: it has addresses of ours, though its finalizer may still
    /// be under way, or our finalizer, though its class and its status may say nothing by then.
    pub(super) fn was_ours(&self, name: &ObjectName) -> bool {
        let Some(Known { object, origin }) = self.services.get(name) else { return false };
        // Nobody else puts it on a Service of our class. On one without a class another controller may, and cleans up.
        let is_named = object.spec.as_ref().is_some_and(|s| s.load_balancer_class.is_some());
        let is_cleaned_by_us = self.is_ours(object)
            && has_finalizer(object)
            && (is_named || !origin.is_finalizer_foreign);
        is_cleaned_by_us || origin.is_finalizer_ours || !self.pools.held_by(name).is_empty()
    }

    /// What another controller serves, a bridge for another class say, is not to be given to anybody.
    pub(super) fn see_rival(&mut self, name: &ObjectName) {
        let Some(known) = self.services.get(name) else { return };
        let spec = known.object.spec.as_ref();
        let is_balanced = spec.and_then(|s| s.type_.as_deref()) == Some("LoadBalancer");
        let is_rival = is_balanced && !self.is_ours(&known.object) && !self.was_ours(name);
        let addresses = if is_rival { status_addresses(&known.object) } else { Vec::new() };
        let addresses: BTreeSet<IpAddr> = addresses.into_iter().map(|(one, _)| one).collect();
        self.others_have(&Other::Service(name.clone()), addresses);
    }
}
