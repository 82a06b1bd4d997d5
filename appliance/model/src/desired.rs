//! What should be, as one value.

use crate::health::Target;
use crate::service::{Frontend, Service, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Grows with each accepted desired state of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// Everything that should be. No two services share a name or a frontend: [`Desired::new`] sees to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    generation: Generation,
    services: BTreeMap<ServiceName, Arc<Service>>,
    owners: BTreeMap<Frontend, ServiceName>,
}

/// A service that cannot be taken in because another one was there first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clash {
    /// Both have this name.
    Name(ServiceName),
    /// Both claim this frontend.
    Frontend {
        /// What both claim.
        frontend: Frontend,
        /// Who has it.
        kept: ServiceName,
        /// Who is left out.
        refused: ServiceName,
    },
}

// === impl Generation ===

impl Generation {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Generation(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Desired ===

impl Desired {
    /// Takes services in the order given; of two that clash the first is kept and the second is reported.
    pub fn new(
        generation: Generation,
        services: impl IntoIterator<Item = impl Into<Arc<Service>>>,
    ) -> (Self, Vec<Clash>) {
        let mut desired = Desired::empty(generation);
        let clashes =
            services.into_iter().filter_map(|service| desired.insert(service).err()).collect();
        (desired, clashes)
    }

    /// Nothing, as of a generation.
    pub fn empty(generation: Generation) -> Self {
        Desired { generation, ..Desired::default() }
    }

    /// Takes a further service in. It is shared and not copied when it is in canonical form already.
    ///
    /// # Errors
    /// With what it clashes with; it is left out then.
    pub fn insert(&mut self, service: impl Into<Arc<Service>>) -> Result<(), Clash> {
        self.insert_within(service, |_| true)
    }

    /// As [`Desired::insert`], but only VIPs that the service may have become its own: of the others it owns no frontend,
    /// so nobody who may have them is kept from it.
    ///
    /// # Errors
    /// With what it clashes with; it is left out then.
    pub fn insert_within(
        &mut self,
        service: impl Into<Arc<Service>>,
        may_have: impl Fn(IpAddr) -> bool,
    ) -> Result<(), Clash> {
        let mut service: Arc<Service> = service.into();
        if !service.is_canonical() {
            service = Arc::new(Arc::unwrap_or_clone(service).canonical());
        }
        if self.services.contains_key(&service.name) {
            return Err(Clash::Name(service.name.clone()));
        }
        let claims = service.frontends().filter(|frontend| may_have(frontend.vip));
        let claims: Vec<Frontend> = claims.collect();
        for frontend in claims.iter().copied() {
            if let Some(kept) = self.owners.get(&frontend) {
                let (kept, refused) = (kept.clone(), service.name.clone());
                return Err(Clash::Frontend { frontend, kept, refused });
            }
        }
        self.owners.extend(claims.into_iter().map(|f| (f, service.name.clone())));
        self.services.insert(service.name.clone(), service);
        Ok(())
    }

    /// The generation of this state.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Services by name.
    pub fn services(&self) -> impl Iterator<Item = &Service> + '_ {
        self.services.values().map(Arc::as_ref)
    }

    /// A service by its name.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(name).map(Arc::as_ref)
    }

    /// True when a VIP that the service asks for is its own, and not withheld by [`Desired::insert_within`].
    pub fn owns(&self, service: &Service, vip: IpAddr) -> bool {
        let frontend = Frontend { vip, port: service.port, protocol: service.protocol };
        self.owner(&frontend) == Some(&service.name)
    }

    /// The service a frontend belongs to.
    pub fn owner(&self, frontend: &Frontend) -> Option<&ServiceName> {
        self.owners.get(frontend)
    }

    /// The services on a VIP; one with several frontends there is named several times.
    pub fn services_on(&self, vip: IpAddr) -> impl Iterator<Item = &ServiceName> + '_ {
        self.owners.range(Frontend::all_of(vip)).map(|(_, name)| name)
    }

    /// Every VIP with the services on it.
    pub fn vips(&self) -> BTreeMap<IpAddr, BTreeSet<&ServiceName>> {
        let mut vips: BTreeMap<IpAddr, BTreeSet<&ServiceName>> = BTreeMap::new();
        for (frontend, name) in &self.owners {
            vips.entry(frontend.vip).or_default().insert(name);
        }
        vips
    }

    /// Every address packets are sent to, with the services that need it.
    pub fn backend_addresses(&self) -> BTreeMap<IpAddr, BTreeSet<&ServiceName>> {
        let mut addresses: BTreeMap<IpAddr, BTreeSet<&ServiceName>> = BTreeMap::new();
        for service in self.services() {
            for backend in &service.backends {
                addresses.entry(backend.address.ip()).or_default().insert(&service.name);
            }
        }
        addresses
    }

    /// Everything to probe, each once.
    pub fn targets(&self) -> BTreeSet<Target> {
        self.services().flat_map(|s| s.backends.iter().filter_map(|b| s.target(b))).collect()
    }
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Clash::Name(name) => write!(f, "a second service is called {name}; it is left out"),
            Clash::Frontend { frontend, kept, refused } => {
                write!(f, "{frontend} belongs to service {kept}; service {refused} is left out")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Family;
    use crate::testing;

    fn service(name: &str, vip: &str, backends: &[(&str, u16)]) -> Service {
        testing::service(name, &[vip], backends)
    }

    #[test]
    fn the_first_of_two_claims_is_kept() {
        let (desired, clashes) = Desired::new(
            Generation(1),
            [service("a", "203.0.113.1", &[]), service("b", "203.0.113.1", &[])],
        );
        assert_eq!(desired.services().map(|s| s.name.0.as_str()).collect::<Vec<_>>(), ["a"]);
        let words: Vec<String> = clashes.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["203.0.113.1:80/tcp belongs to service a; service b is left out"]);
    }

    #[test]
    fn a_vip_that_a_service_may_not_have_is_free_for_another() {
        let mut desired = Desired::empty(Generation(1));
        let both = testing::service("a", &["203.0.113.1", "203.0.113.2"], &[]);
        let may_have = |vip: IpAddr| vip != IpAddr::from([203, 0, 113, 1]);
        assert_eq!(desired.insert_within(both.clone(), may_have), Ok(()));
        assert_eq!(desired.insert(service("b", "203.0.113.1", &[])), Ok(()));
        let owned: Vec<bool> = both.addresses().map(|vip| desired.owns(&both, vip)).collect();
        assert_eq!(owned, [false, true]);
        assert_eq!(desired.vips().len(), 2);
    }

    #[test]
    fn equal_sets_in_another_order_are_equal() {
        let one = service("a", "203.0.113.1", &[("10.0.0.2:1", 1), ("10.0.0.1:1", 1)]);
        let other =
            service("a", "203.0.113.1", &[("10.0.0.1:1", 1), ("10.0.0.2:1", 0), ("10.0.0.2:1", 1)]);
        let one = Desired::new(Generation(1), [one]).0;
        assert_eq!(one, Desired::new(Generation(1), [other]).0);
    }

    #[test]
    fn under_nat64_both_families_reach_the_ipv4_backends() {
        let backends = [("10.0.0.1:1", 1), ("[2001:db8:1::1]:1", 1)];
        let of = |nat64, family| {
            let service = Service { nat64, ..service("a", "2001:db8::1", &backends) };
            service.backends_of(family).map(|b| b.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of(false, Family::V6), ["[2001:db8:1::1]:1"]);
        assert_eq!(of(false, Family::V4), ["10.0.0.1:1"]);
        assert_eq!(of(true, Family::V6), ["10.0.0.1:1"]);
        assert_eq!(of(true, Family::V4), ["10.0.0.1:1"]);
    }

    #[test]
    fn prefixes_have_one_notation() {
        let with = |prefixes: &[&str]| {
            let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
            let service = service("a", "203.0.113.1", &[]);
            Service { source_ranges: prefixes, ..service }
        };
        let one = with(&["2001:db8::/32", "10.0.0.7/8", "10.0.0.0/8"]);
        assert!(!one.is_canonical());
        let other = with(&["10.0.0.0/8", "2001:db8::/32"]);
        assert!(other.is_canonical());
        assert_eq!(one.canonical(), other);
    }
}
