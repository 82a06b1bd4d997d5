//! What should be once health has been taken into account; the same for first start, resync and a single change.

use ipnet::IpNet;
use sluice_model::{
    Desired, Family, Frontend, Health, Observed, Program, RouteAttributes, Service,
    canonical_backends, host_prefix,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The state the steps lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A program for each frontend, also for one without usable backends: it rejects.
    pub programs: BTreeMap<Frontend, Program>,
    /// VIPs that are guarded and on the host, whether or not somebody answers for them.
    pub vips: BTreeSet<IpAddr>,
    /// The /32 and /128 of each VIP with a usable backend.
    pub announced: BTreeMap<IpNet, RouteAttributes>,
}

// === impl Wanted ===

impl Wanted {
    /// Folds health into the desired state.
    pub fn new(desired: &Desired, health: &Health) -> Self {
        let mut wanted = Wanted::default();
        for service in desired.services() {
            for frontend in service.frontends() {
                let program = program(service, frontend, health);
                wanted.vips.insert(frontend.vip);
                if program.serves() {
                    wanted.announced.insert(host_prefix(frontend.vip), RouteAttributes::default());
                }
                wanted.programs.insert(frontend, program);
            }
        }
        wanted
    }

    /// True when the VIP should be announced.
    pub fn announces(&self, vip: IpAddr) -> bool {
        self.announced.contains_key(&host_prefix(vip))
    }

    /// True when the data plane and the host hold everything a service wants of them.
    pub fn is_programmed(&self, service: &Service, observed: &Observed) -> bool {
        service.frontends().all(|frontend| {
            self.programs.get(&frontend) == observed.programs.get(&frontend)
                && observed.guarded.contains(&frontend.vip)
                && observed.addresses.contains(&frontend.vip)
        })
    }
}

/// The program of one frontend: the backends of its family that may be used now.
fn program(service: &Service, frontend: Frontend, health: &Health) -> Program {
    let backends = service.backends_of(Family::of(frontend.vip)).filter_map(|backend| {
        let weight = health.weight(frontend, backend, service.target(backend).as_ref())?;
        Some(sluice_model::Backend { weight, ..*backend })
    });
    Program {
        backends: canonical_backends(backends),
        no_backend: service.no_backend,
        idle_timeout: service.idle_timeout,
    }
}
