//! A Service that is on the air stays there: what is wrong with it is said, and what served before goes on. A new one is
//! refused for the same.

use super::addresses::{self, Chosen};
use super::annotations::Asks;
use super::leases::Ports;
use super::pools::Asker;
use super::status::{Had, had, port_key, port_keys};
use super::{Index, ObjectName, Outcome, Trouble, trouble};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use std::collections::BTreeMap;

/// Each is an event, and an object has room for thousands of mistakes.
const MAX_TROUBLES: usize = 8;

/// What is wrong with a Service, and whether that keeps it from being served.
pub(super) struct Judge {
    is_live: bool,
    troubles: Vec<Trouble>,
}

// === impl Judge ===

impl Judge {
    pub(super) fn new(is_live: bool) -> Self {
        Judge { is_live, troubles: Vec::new() }
    }

    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    /// Something is wrong.
    ///
    /// # Errors
    /// The same when the Service is new.
    pub(super) fn take(&mut self, why: Trouble) -> Result<(), Trouble> {
        if !self.is_live {
            return Err(why);
        }
        let message = format!("{}; the Service is served on without that", why.message);
        let why = trouble(why.reason, message);
        if self.troubles.len() < MAX_TROUBLES && !self.troubles.contains(&why) {
            self.troubles.push(why);
        }
        Ok(())
    }

    pub(super) fn into_troubles(self) -> Vec<Trouble> {
        self.troubles
    }
}

// === impl Index ===

impl Index {
    /// What it was served with last.
    pub(super) fn had(&self, name: &ObjectName, service: &Service) -> Had {
        match self.said.get(name) {
            Some(Outcome::Serve(serve)) => {
                Had { addresses: serve.addresses.clone(), secondary: serve.secondary.clone() }
            }
            _ => had(service),
        }
    }

    /// Its addresses, and its wishes as far as they can be granted: what is on the air keeps what it has rather than
    /// losing it for what it cannot have.
    pub(super) fn choose(
        &mut self,
        name: &ObjectName,
        service: &Service,
        asks: Asks,
        had: &Had,
        judge: &mut Judge,
    ) -> Result<(Asks, Chosen), Trouble> {
        let why = match self.choose_once(name, service, &asks, had) {
            Ok(chosen) => return Ok((asks, chosen)),
            Err(why) => why,
        };
        if !judge.is_live() {
            return Err(why);
        }
        // The last resort is to do without ports that others have at its addresses.
        let all = port_keys(service);
        let open = self.pools.open_ports(name, &all);
        let is_less = !open.is_empty() && open.len() < all.len();
        let less = is_less.then(|| with_ports(service, &open));
        for base in std::iter::once(service).chain(&less) {
            let one_family = with_one_family(base);
            for service in std::iter::once(base).chain(&one_family) {
                for milder in asks.milder(had) {
                    if let Ok(chosen) = self.choose_once(name, service, &milder, had) {
                        judge.take(why)?;
                        let without = all.difference(&port_keys(service)).copied().collect();
                        // What it asks for may become free.
                        return Ok((milder, Chosen { waits: true, without, ..chosen }));
                    }
                }
            }
        }
        Err(why)
    }

    fn choose_once(
        &mut self,
        name: &ObjectName,
        service: &Service,
        asks: &Asks,
        had: &Had,
    ) -> Result<Chosen, Trouble> {
        let none = BTreeMap::new();
        let who = Asker {
            name,
            namespace_labels: self.namespaces.get(&name.namespace),
            labels: service.metadata.labels.as_ref().unwrap_or(&none),
        };
        addresses::choose(&mut self.pools, who, service, asks, had)
    }
}

/// The same Service with these of its ports.
fn with_ports(service: &Service, ports: &Ports) -> Service {
    let mut less = service.clone();
    if let Some(its) = less.spec.as_mut().and_then(|spec| spec.ports.as_mut()) {
        its.retain(|port| port_key(port).is_some_and(|key| ports.contains(&key)));
    }
    less
}

/// The same Service that takes one family where it demands both; none when it does not.
fn with_one_family(service: &Service) -> Option<Service> {
    let policy = service.spec.as_ref()?.ip_family_policy.as_deref()?;
    (policy == "RequireDualStack").then(|| {
        let prefers = Some("PreferDualStack".to_owned());
        let spec = service.spec.clone().unwrap_or_default();
        let spec = ServiceSpec { ip_family_policy: prefers, ..spec };
        Service { spec: Some(spec), ..service.clone() }
    })
}

/// Full NAT and NAT64 show no client's address.
pub(super) fn hides_clients(asks: &Asks) -> impl Iterator<Item = Trouble> {
    let all = [(asks.full_nat, "full NAT"), (asks.nat64, "NAT64")];
    all.into_iter().filter(|(is_asked, _)| *is_asked == Some(true)).map(|(_, name)| {
        let what = format!(
            "{name} hides the clients' addresses, and externalTrafficPolicy: Local is there to keep them; take one of \
             them off"
        );
        trouble("ClientAddressLost", what)
    })
}
