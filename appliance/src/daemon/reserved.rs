//! Addresses that are not free, as far as the daemon knows: the file's, the peers of sources, and the routes' next hops.
//! Those of the host itself are observed in each look at the world.

use super::appliance::Appliance;
use sluice_model::{Holder, Reserved, Service};
use sluice_netlink::{Gateways, Surroundings};
use sluice_plan::Refused;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Refusals logged one by one when many come at once, for example with a new list of what is allowed.
const MAX_LINES: usize = 20;

// === impl Appliance ===

impl Appliance {
    /// What is reserved now.
    pub(super) fn reserved(&self) -> Reserved {
        let mut reserved = self.config.reserved();
        for peer in self.speaker.iter().flat_map(|speaker| &speaker.peers) {
            reserved.hold(peer.address, Holder::Peer);
        }
        let Gateways { default, other } = &self.surroundings.gateways;
        default.iter().for_each(|gateway| reserved.hold(*gateway, Holder::Gateway));
        other.iter().for_each(|next_hop| reserved.hold(*next_hop, Holder::NextHop));
        reserved
    }

    /// An address of the host or a next hop came or went: VIPs may have to go, or may come.
    pub(super) fn take_surroundings(&mut self, surroundings: Arc<Surroundings>) {
        self.surroundings = surroundings;
        self.plan_from(crate::reconcile::Look::World);
    }

    /// Judges what is wanted by what is known now; true when the outcome is another one.
    pub(super) fn judge(&mut self) -> bool {
        let reserved = self.reserved();
        let host = &self.reconciler.observed().host;
        let refused = Refused::new(&self.merged.desired, &self.health, &reserved, host);
        if refused == self.refused {
            return false;
        }
        let before = std::mem::replace(&mut self.refused, refused);
        let news = self.merged.desired.services().flat_map(|service| {
            let known = before.words(service);
            let words = self.refused.words(service).into_iter();
            words.filter(move |word| !known.contains(word)).map(|word| (&service.name, word))
        });
        let mut rest = 0_usize;
        for (at, (service, word)) in news.enumerate() {
            if at < MAX_LINES {
                tracing::warn!(%service, "{word}");
            } else {
                rest += 1;
            }
        }
        if rest > 0 {
            tracing::warn!(rest, "further addresses are refused; the status names each");
        }
        true
    }

    /// Asks after the backends that may be used, and after no other address.
    pub(super) fn retarget(&mut self) {
        let desired = &self.merged.desired;
        let permitted = |service: &Service, ip: IpAddr| self.refused.permits(&service.name, ip);
        let targets = desired.services().flat_map(|service| {
            let backends = service.backends.iter();
            let backends = backends.filter(|backend| permitted(service, backend.address.ip()));
            backends.filter_map(|backend| service.target(backend))
        });
        self.checks.set_targets(&targets.collect());
        self.netlink.track(self.backend_addresses());
    }

    /// Every address that packets may be sent to.
    pub(super) fn backend_addresses(&self) -> BTreeSet<IpAddr> {
        let mut addresses = BTreeSet::new();
        for service in self.merged.desired.services() {
            let bad = self.refused.backends_of(&service.name);
            let all = service.backends.iter().map(|backend| backend.address.ip());
            addresses.extend(all.filter(|ip| bad.is_none_or(|bad| !bad.contains_key(ip))));
        }
        addresses
    }
}
