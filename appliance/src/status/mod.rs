//! The snapshot that the API, the page and the CLI show: a pure function of what the daemon knows at one moment.

mod bgp;
mod meter;
mod problems;
mod services;
mod sources;
#[cfg(test)]
mod tests;
mod time;

pub(crate) use meter::Meter;
pub(crate) use sources::{PeerProblems, SourceReports};

use crate::config::Config;
use crate::health::Reports;
use crate::sources::Merged;
use sluice_api::{Link, Snapshot, SourceSummary, Status};
use sluice_bgp::PeerStatus;
use sluice_model::{Generation, Health, Observed};
use sluice_netlink::Resolution;
use sluice_plan::{Refused, Wanted};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

/// Everything the snapshot is made of.
pub(crate) struct View<'a> {
    pub(crate) now: SystemTime,
    pub(crate) started: SystemTime,
    pub(crate) adopted: bool,
    pub(crate) config: &'a Config,
    pub(crate) merged: &'a Merged,
    pub(crate) observed: &'a Observed,
    pub(crate) programmed: Generation,
    /// Nothing of the plan is undone.
    pub(crate) complete: bool,
    pub(crate) health: &'a Health,
    /// What of the desired state may not be.
    pub(crate) refused: &'a Refused,
    pub(crate) reports: &'a Reports,
    pub(crate) resolutions: &'a BTreeMap<IpAddr, Resolution>,
    pub(crate) links: Vec<Link>,
    pub(crate) peers: &'a [PeerStatus],
    pub(crate) meter: &'a Meter,
    /// Steps that do not work, by service.
    pub(crate) failures: &'a BTreeMap<String, String>,
    /// Why peers of sources are left out.
    pub(crate) peer_problems: &'a PeerProblems,
    /// What the parts of the daemon have to report, one sentence each.
    pub(crate) troubles: Vec<String>,
}

// === impl View ===

impl View<'_> {
    /// What is wanted now.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted::new(&self.merged.desired, self.health, self.refused.clone())
    }

    /// The snapshot.
    pub(crate) fn snapshot(&self, wanted: &Wanted, reports: &SourceReports) -> Snapshot {
        Snapshot {
            status: self.status(wanted),
            services: self.services(wanted),
            vips: self.vips(),
            peers: self.peers.iter().map(bgp::peer).collect(),
            routes: self.routes(),
            sources: reports.values().map(|report| summary(report)).collect(),
            drops: self.meter.drops(),
            history: self.meter.history(),
        }
    }

    fn status(&self, wanted: &Wanted) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.config.name.clone(),
            started_at: time::rfc3339(self.started),
            uptime_seconds: time::unix(self.now).saturating_sub(time::unix(self.started)),
            generation: self.merged.desired.generation().0,
            programmed_generation: self.programmed.0,
            adopted: self.adopted,
            ready: self.ready(),
            degraded: self.merged.recovery.is_some(),
            problems: self.problems(wanted),
            links: self.links.clone(),
            flows: self.meter.flows(),
            max_flows: self.meter.max_flows(),
            passed: self.meter.passed(),
            rates: self.meter.total(),
            bgp: self.config.bgp.as_ref().map(bgp::speaker),
        }
    }

    /// Everything that is configured is at work. One established peer is enough: a router that is being upgraded does not
    /// make the appliance unfit. While the ledger is lost nobody knows what is wanted, however well it is served.
    fn ready(&self) -> bool {
        let routed = self.config.bgp.as_ref().is_none_or(|bgp| bgp.speaker.peers.is_empty())
            || self.peers.iter().any(bgp::is_established);
        self.complete && self.observed.attached && routed && self.merged.recovery.is_none()
    }
}

fn summary(report: &sluice_api::SourceReport) -> SourceSummary {
    let problems = report.services.iter().filter(|service| service.problem.is_some()).count();
    SourceSummary {
        name: report.source.clone(),
        owner: report.owner.clone(),
        generation: report.generation,
        services: report.services.len() as u64,
        problems: problems as u64,
    }
}
