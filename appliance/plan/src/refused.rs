//! What is wanted and must not be: VIPs and backends that the rule of reserved addresses refuses. Only the address is
//! left out; everything else of its service stays served.

use sluice_model::{
    Backend, Desired, Health, Holder, HostAddress, Reserved, Rule, Service, ServiceName, Violation,
    reasons,
};
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Addresses that are left out, each with every reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Wanted as VIPs, by whomever.
    pub vips: BTreeMap<IpAddr, Vec<Violation>>,
    /// Wanted as VIPs by services whose source may not have them.
    pub withheld: BTreeMap<ServiceName, BTreeSet<IpAddr>>,
    /// Wanted as backends, by service.
    pub backends: BTreeMap<ServiceName, BTreeMap<IpAddr, Vec<Violation>>>,
}

// === impl Refused ===

impl Refused {
    /// Judges everything that is wanted. Pure: it follows from what is known at this moment, so an address that somebody
    /// else gets is taken back, and comes again when it is free.
    pub fn new(
        desired: &Desired,
        health: &Health,
        reserved: &Reserved,
        host: &BTreeSet<HostAddress>,
    ) -> Self {
        let rule = reserved.rule(host);
        let mut vips = contested(desired, health);
        for vip in desired.vips().into_keys() {
            let against = rule.vip(vip);
            if !against.is_empty() {
                vips.entry(vip).or_default().extend(against);
            }
        }
        let mut refused = Refused { vips, ..Refused::default() };
        for service in desired.services() {
            let withheld = service.addresses().filter(|vip| !desired.owns(service, *vip));
            let withheld: BTreeSet<IpAddr> = withheld.collect();
            if !withheld.is_empty() {
                refused.withheld.insert(service.name.clone(), withheld);
            }
            let bad = refused.bad_backends(desired, service, &rule);
            if !bad.is_empty() {
                refused.backends.insert(service.name.clone(), bad);
            }
        }
        refused
    }

    fn bad_backends(
        &self,
        desired: &Desired,
        service: &Service,
        rule: &Rule<'_>,
    ) -> BTreeMap<IpAddr, Vec<Violation>> {
        let mut bad = BTreeMap::new();
        for Backend { address, .. } in &service.backends {
            let ip = address.ip();
            let mut against = rule.backend(ip, service.is_configured);
            let is_own = service.addresses().any(|vip| vip == ip);
            let holder = desired.services_on(ip).next();
            if let Some(holder) = holder.filter(|_| is_own || !self.vips.contains_key(&ip)) {
                let holder = if is_own { &service.name } else { holder };
                against.push(Violation::Taken(Holder::Vip(holder.clone())));
            }
            if !against.is_empty() {
                bad.insert(ip, against);
            }
        }
        bad
    }

    /// True when a service may not have an address as its VIP.
    pub fn has_vip(&self, service: &ServiceName, vip: IpAddr) -> bool {
        self.vips.contains_key(&vip) || self.is_withheld(service, vip)
    }

    fn is_withheld(&self, service: &ServiceName, vip: IpAddr) -> bool {
        self.withheld.get(service).is_some_and(|vips| vips.contains(&vip))
    }

    /// The backends of a service that are left out.
    pub fn backends_of(&self, service: &ServiceName) -> Option<&BTreeMap<IpAddr, Vec<Violation>>> {
        self.backends.get(service)
    }

    /// True when a service may send packets, and probes, to a backend.
    pub fn permits(&self, service: &ServiceName, backend: IpAddr) -> bool {
        self.backends_of(service).is_none_or(|bad| !bad.contains_key(&backend))
    }

    /// Everything of a service that is left out, one sentence each.
    pub fn words(&self, service: &Service) -> Vec<String> {
        let withheld = [Violation::NotOfSource];
        let vips = service.addresses().filter_map(|vip| {
            let why = match self.vips.get(&vip) {
                Some(why) => why.as_slice(),
                None if self.is_withheld(&service.name, vip) => &withheld,
                None => return None,
            };
            Some(format!("VIP {vip} is refused: it {}", reasons(why)))
        });
        let backends = self.backends_of(&service.name).into_iter().flatten();
        let backends =
            backends.map(|(ip, why)| format!("backend {ip} is left out: it {}", reasons(why)));
        vips.chain(backends).collect()
    }
}

/// VIPs that lose to a service's backend of the same address: the operator's word counts first, then who is there
/// already, so neither takes the other off the air by asking for its address. Of two newcomers the VIP stays: pools are
/// in an operator's hand more often than endpoints.
fn contested(desired: &Desired, health: &Health) -> BTreeMap<IpAddr, Vec<Violation>> {
    let mut lost: BTreeMap<IpAddr, Vec<Violation>> = BTreeMap::new();
    let served = LazyCell::new(|| -> BTreeSet<IpAddr> {
        health.adopted.keys().map(|(_, backend)| backend.ip()).collect()
    });
    for service in desired.services() {
        for ip in service.backends.iter().map(|backend| backend.address.ip()) {
            let mut owners = desired.services_on(ip).peekable();
            // Of a service's own VIP as its backend the backend is the mistake.
            if owners.peek().is_none() || service.addresses().any(|vip| vip == ip) {
                continue;
            }
            let is_configured =
                owners.any(|name| desired.service(name).is_some_and(|owner| owner.is_configured));
            let keeps_vip = match (is_configured, service.is_configured) {
                (true, false) => true,
                (false, true) => false,
                (true, true) | (false, false) => {
                    health.seated.contains(&ip) || !served.contains(&ip)
                }
            };
            let against = Violation::Taken(Holder::Backend(service.name.clone()));
            if !keeps_vip && !lost.get(&ip).is_some_and(|known| known.contains(&against)) {
                lost.entry(ip).or_default().push(against);
            }
        }
    }
    lost
}
