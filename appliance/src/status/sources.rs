//! What is reported to each source: what became of its wishes.

use super::services::{missing_way, state};
use super::{View, bgp};
use crate::sources::{Bridge, BridgeWish, unicast};
use sluice_api::{
    BgpState, CONTRACT, PeerReport, ServiceReport, ServiceState, SourceReport, WantedPeer,
};
use sluice_model::{Clash, Service, ServiceName};
use sluice_plan::Wanted;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Reports by source.
pub(crate) type SourceReports = BTreeMap<String, Arc<SourceReport>>;
/// Why peers are left out, by source and by name: a name is one peer's in its own source only.
pub(crate) type PeerProblems = BTreeMap<String, BTreeMap<String, String>>;

// === impl View ===

impl View<'_> {
    /// What became of each source's wishes. A report that says the same as before keeps its revision; another one gets
    /// the next of `revision`.
    pub(crate) fn source_reports(
        &self,
        wanted: &Wanted,
        before: &SourceReports,
        revision: &mut u64,
    ) -> SourceReports {
        let clashes: BTreeMap<&ServiceName, &Clash> =
            self.merged.clashes.iter().map(|clash| (refused(clash), clash)).collect();
        let report = |(name, bridge): (&String, &Arc<Bridge>)| {
            let wishes = bridge.wishes.values();
            let mut report = SourceReport {
                appliance: self.config.name.clone(),
                contract: CONTRACT,
                source: name.clone(),
                owner: bridge.owner.clone(),
                generation: bridge.generation,
                revision: 0,
                services: wishes.map(|wish| self.wish(wish, wanted, &clashes)).collect(),
                peers: self.peer_reports(name, bridge),
                ignored: {
                    let beyond = &bridge.beyond;
                    beyond.members.keys().chain(&beyond.ignored).cloned().collect()
                },
            };
            if let Some(known) = before.get(name) {
                report.revision = known.revision;
                if **known == report {
                    return (name.clone(), Arc::clone(known));
                }
            }
            *revision = revision.saturating_add(1);
            report.revision = *revision;
            (name.clone(), Arc::new(report))
        };
        self.merged.bridges.iter().map(report).collect()
    }

    fn wish(
        &self,
        wish: &BridgeWish,
        wanted: &Wanted,
        clashes: &BTreeMap<&ServiceName, &Clash>,
    ) -> ServiceReport {
        let mut report = ServiceReport {
            name: wish.name().to_owned(),
            ignored: wish.sent.ignored.clone(),
            generation: wish.generation,
            ..ServiceReport::default()
        };
        let made = match &wish.made {
            Ok(made) => made,
            Err(why) => return ServiceReport { problem: Some(why.clone()), ..report },
        };
        let desired = &self.merged.desired;
        // Of two that clash one is in the desired state, and it is this one only if it is the very same.
        if !desired.service(&made.name).is_some_and(|kept| std::ptr::eq(kept, Arc::as_ptr(made))) {
            report.problem = Some(match clashes.get(&made.name) {
                Some(clash) => clash.to_string(),
                None => "it is left out".to_owned(),
            });
            return report;
        }
        let is_whole = !made.addresses().any(|vip| self.refused.has_vip(&made.name, vip));
        let is_programmed = wanted.is_programmed(made, self.observed);
        report.programmed = is_programmed && is_whole;
        report.announced = self.all_announced(made, wanted);
        report.state = match is_programmed {
            true => state(made, wanted),
            false => ServiceState::Unprogrammed,
        };
        let refused = self.refused.words(made);
        report.problem = (!refused.is_empty())
            .then(|| refused.join("; "))
            .or_else(|| self.failures.get(made.name.0.as_str()).cloned())
            .or_else(|| wanted.excess.get(&made.name).map(ToString::to_string))
            .or_else(|| wanted.disagreements.get(&made.name).map(ToString::to_string))
            .or_else(|| self.lost_way(made));
        report
    }

    /// Every VIP with a usable backend is; without BGP there is nobody to announce to.
    fn all_announced(&self, service: &Service, wanted: &Wanted) -> bool {
        let mut should = service.addresses().filter(|vip| wanted.announces(*vip));
        self.config.bgp.is_none() || should.all(|vip| self.is_announced(vip))
    }

    fn lost_way(&self, service: &Service) -> Option<String> {
        service.backends.iter().find_map(|backend| {
            let ip: IpAddr = backend.address.ip();
            missing_way(ip, self.resolutions.get(&ip))
        })
    }

    fn peer_reports(&self, source: &str, bridge: &Bridge) -> Vec<PeerReport> {
        let name = &self.config.name;
        let is_ours =
            |peer: &&WantedPeer| peer.appliances.is_empty() || peer.appliances.contains(name);
        bridge.peers.iter().filter(is_ours).map(|peer| self.peer_report(source, peer)).collect()
    }

    fn peer_report(&self, source: &str, peer: &WantedPeer) -> PeerReport {
        let none = |problem: String| PeerReport {
            name: peer.name.clone(),
            state: BgpState::Idle,
            problem: Some(problem),
        };
        if self.config.bgp.is_none() {
            return none("the appliance has no [bgp] section with its AS number".to_owned());
        }
        if let Some(why) = self.peer_problems.get(source).and_then(|all| all.get(&peer.name)) {
            return none(why.clone());
        }
        // Parsed, because an IPv6 address has many spellings.
        let address = unicast(&peer.address).ok();
        let session = self.peers.iter().find(|known| Some(known.address) == address);
        match session {
            None => none("the session is being set up".to_owned()),
            Some(session) => PeerReport {
                name: peer.name.clone(),
                state: bgp::state(session.state),
                problem: (!bgp::is_established(session)).then(|| {
                    let error = session.why_down();
                    error.unwrap_or_else(|| "not established yet".to_owned())
                }),
            },
        }
    }
}

fn refused(clash: &Clash) -> &ServiceName {
    match clash {
        Clash::Name(name) => name,
        Clash::Frontend { refused, .. } => refused,
    }
}
