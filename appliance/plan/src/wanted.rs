//! What should be once health has been taken into account; the same for first start, resync and a single change.

use crate::excess::{Crowd, Excess};
use crate::refused::Refused;
use ipnet::IpNet;
use sluice_model::{
    Desired, Family, Frontend, Health, Observed, Program, RouteAttributes, Service, ServiceName,
    host_prefix,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The state the steps lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A program for each frontend, also for one without usable backends: it rejects.
    pub programs: BTreeMap<Frontend, Program>,
    /// VIPs that are guarded and on the host, whether or not somebody answers for them.
    pub vips: BTreeSet<IpAddr>,
    /// The /32 and /128 of each VIP with a usable backend.
    pub announced: BTreeMap<IpNet, RouteAttributes>,
    /// Services whose route attributes are not those their VIP is announced with.
    pub disagreements: BTreeMap<ServiceName, RouteDisagreement>,
    /// Services with more backends or frontends than the data plane holds: the first of their frontends that lacks some.
    pub excess: BTreeMap<ServiceName, Excess>,
    /// What was asked for and is left out.
    pub refused: Refused,
}

/// A VIP has one route: of several services on it the first by name decides how it is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDisagreement {
    /// What both are on.
    pub vip: IpAddr,
    /// Whose attributes are announced.
    pub follows: ServiceName,
}

// === impl Wanted ===

impl Wanted {
    /// Folds health into the desired state, and leaves out what is refused: such a VIP is neither programmed nor guarded,
    /// put on the host or announced.
    pub fn new(desired: &Desired, health: &Health, refused: Refused) -> Self {
        let mut wanted = Wanted::default();
        // Services come by name, and the first of a VIP has its say about the route.
        let mut routes: BTreeMap<IpAddr, &Service> = BTreeMap::new();
        let mut crowd = Crowd::default();
        for service in desired.services() {
            for frontend in service.frontends().filter(|f| !refused.has_vip(&service.name, f.vip)) {
                let mut program = program(service, frontend, health, &refused);
                if let Some(excess) = crowd.admit(frontend, &mut program.backends) {
                    wanted.excess.entry(service.name.clone()).or_insert(excess);
                }
                wanted.vips.insert(frontend.vip);
                let first = *routes.entry(frontend.vip).or_insert(service);
                if first.route != service.route {
                    let disagreement =
                        RouteDisagreement { vip: frontend.vip, follows: first.name.clone() };
                    wanted.disagreements.entry(service.name.clone()).or_insert(disagreement);
                }
                if program.serves() {
                    wanted
                        .announced
                        .entry(host_prefix(frontend.vip))
                        .or_insert_with(|| first.route.clone());
                }
                wanted.programs.insert(frontend, program);
            }
        }
        wanted.refused = refused;
        wanted
    }

    /// True when the VIP should be announced.
    pub fn announces(&self, vip: IpAddr) -> bool {
        self.announced.contains_key(&host_prefix(vip))
    }

    /// True when the data plane and the host hold everything of a service that is not refused, and that is something.
    pub fn is_programmed(&self, service: &Service, observed: &Observed) -> bool {
        let is_kept = |frontend: &Frontend| !self.refused.has_vip(&service.name, frontend.vip);
        let mut kept = service.frontends().filter(is_kept).peekable();
        kept.peek().is_some()
            && kept.all(|frontend| {
                self.programs.get(&frontend) == observed.programs.get(&frontend)
                    && observed.guarded.contains(&frontend.vip)
                    && observed.addresses.contains(&frontend.vip)
            })
    }
}

// === impl RouteDisagreement ===

impl fmt::Display for RouteDisagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteDisagreement { vip, follows } = self;
        write!(
            f,
            "{vip} is announced with the route attributes of service {follows}; give both the same"
        )
    }
}

/// The program of one frontend: those of its backends that may be used now.
fn program(service: &Service, frontend: Frontend, health: &Health, refused: &Refused) -> Program {
    let bad = refused.backends_of(&service.name);
    let is_permitted = |backend: &&sluice_model::Backend| {
        bad.is_none_or(|bad| !bad.contains_key(&backend.address.ip()))
    };
    let backends = service.backends_of(Family::of(frontend.vip)).filter(is_permitted);
    let backends = backends.filter_map(|backend| {
        let target = service.target(backend);
        let weight = health.weight(frontend, backend, target.as_ref(), service.on_down)?;
        Some(sluice_model::Backend { weight, ..*backend })
    });
    Program {
        // In canonical order already, as the service's own are.
        backends: backends.collect(),
        no_backend: service.no_backend,
        idle_timeout: service.idle_timeout,
        source_ranges: Arc::clone(&service.source_ranges),
        affinity: service.affinity,
        full_nat: Arc::clone(&service.full_nat),
        multihomed: service.is_multihomed(),
    }
}
