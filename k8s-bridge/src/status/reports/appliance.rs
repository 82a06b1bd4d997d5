//! What one appliance says.

use super::{IGNORED, IN_PART, NOT_EVERYWHERE, Why};
use crate::push::machine::{Failure, Link};
use sluice_api::{PeerReport, ServiceReport, ServiceState};
use std::collections::BTreeMap;

/// One appliance.
#[derive(Debug, Default)]
pub(super) struct Appliance {
    pub(super) url: String,
    pub(super) name: String,
    pub(super) link: Link,
    pub(super) generation: u64,
    pub(super) services: BTreeMap<String, Brief>,
    pub(super) peers: Vec<PeerReport>,
    pub(super) ignored: Vec<String>,
    /// It has answered since it was last lost, so it may have been told anything.
    pub(super) is_open: bool,
    /// It was told nothing newer than this before it was lost, whether it answered or not.
    told: u64,
}

/// What is kept of a service's report.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Brief {
    programmed: bool,
    /// Announced, or rightly not.
    announced: bool,
    /// No endpoint of it is usable.
    is_down: bool,
    problem: Option<String>,
    ignored: Vec<String>,
}

/// What a settled Service is looked at again for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is served as wanted, but the appliance says why no packet arrives.
    Lost,
    /// It is not served any longer.
    Refused,
    /// It is served without something.
    InPart,
    /// It is served without what the appliance does not know.
    Ignored,
}

/// Why an appliance does not serve it.
pub(super) struct NotServed {
    /// How near it is: the nearest appliance's reason is the one worth telling.
    pub(super) rank: u8,
    pub(super) why: Why,
    /// It will not by itself, so it is worth telling though another one serves it.
    is_refused: bool,
}

/// Whether an appliance may have a service that is to go.
pub(super) enum Holds {
    /// It has not, and cannot get it.
    No,
    /// It has it, or is about to say; in words.
    Yes(String),
    /// It cannot be asked; in words.
    Perhaps(String),
}

// === impl Appliance ===

impl Appliance {
    pub(super) fn new(url: &str) -> Self {
        Appliance { url: url.to_owned(), ..Appliance::default() }
    }

    pub(super) fn set_link(&mut self, link: Link, newest: u64) -> Link {
        match &link {
            Link::Unknown => {
                (self.generation, self.services) = (0, BTreeMap::new());
                self.is_open = false;
            }
            Link::Down(_) if std::mem::take(&mut self.is_open) => self.told = newest,
            Link::Down(_) => {}
            Link::Up | Link::Withheld => self.is_open = true,
        }
        std::mem::replace(&mut self.link, link)
    }

    /// Whether it serves all of these.
    pub(super) fn judge(&self, names: &[String], generation: u64) -> Result<(), NotServed> {
        let not = |rank, reason, message| {
            let why = Why { reason, message, is_final: false };
            Err(NotServed { rank, why, is_refused: false })
        };
        match &self.link {
            Link::Unknown => {
                let message = format!("appliance {} has not answered yet", self.url);
                return not(0, "NoAppliance", message);
            }
            Link::Down(failure) => {
                let message = format!("appliance {} {failure}", self.url);
                let why = Why { reason: "NoAppliance", message, is_final: false };
                // What it was told before, it serves.
                let is_refused = failure.is_refusal() && self.generation < generation;
                return Err(NotServed { rank: 1, why, is_refused });
            }
            Link::Withheld => {
                let message = format!("appliance {} is told nothing yet", self.url);
                return not(1, "NoAppliance", message);
            }
            Link::Up if self.generation < generation => {
                let message = format!("appliance {} has not taken it yet", self.url);
                return not(2, "NotProgrammed", message);
            }
            Link::Up => {}
        }
        for name in names {
            let Some(brief) = self.services.get(name) else {
                let message = format!("appliance {} does not report {name}", self.url);
                return not(2, "NotProgrammed", message);
            };
            if let Some(problem) = &brief.problem
                && !(brief.programmed && brief.announced)
            {
                let message = format!("appliance {}: {problem}", self.url);
                let why = Why { reason: "NotServed", message, is_final: true };
                return Err(NotServed { rank: 4, why, is_refused: true });
            }
            if !brief.programmed {
                let message = format!("appliance {} has not programmed {name} yet", self.url);
                return not(2, "NotProgrammed", message);
            }
            if !brief.announced {
                let message = format!(
                    "appliance {} announces {name} to no router; see its BGP sessions",
                    self.url
                );
                return not(3, "NotAnnounced", message);
            }
        }
        Ok(())
    }

    /// Why it reaches no endpoint of any of these services. One without endpoints says nothing: that is no loss.
    pub(super) fn lost(&self, names: &[String]) -> Option<&str> {
        let briefs: Vec<&Brief> = names.iter().filter_map(|name| self.services.get(name)).collect();
        let lost = briefs.iter().find(|brief| brief.is_lost())?;
        let is_all = briefs.iter().all(|brief| brief.is_down);
        lost.problem.as_deref().filter(|_| is_all)
    }

    /// What of these it serves otherwise than wanted.
    pub(super) fn flaws(&self, names: &[String]) -> Vec<Why> {
        let briefs = || names.iter().filter_map(|name| self.services.get(name));
        let mut all = Vec::new();
        // The ports of a Service have mostly the same to say.
        if let Some(problem) = briefs().find_map(|brief| brief.problem.as_ref()) {
            let message = format!("appliance {}: {problem}", self.url);
            all.push(Why { reason: IN_PART, message, is_final: false });
        }
        if let Some(brief) = briefs().find(|brief| !brief.ignored.is_empty()) {
            let message = format!(
                "appliance {} is older than this bridge and ignores {}; update it",
                self.url,
                brief.ignored.join(", ")
            );
            all.push(Why { reason: IGNORED, message, is_final: true });
        }
        all
    }

    fn has(&self, prefix: &str) -> bool {
        let from = self.services.range(prefix.to_owned()..).next();
        from.is_some_and(|(name, _)| name.starts_with(prefix))
    }

    pub(super) fn holds(&self, prefix: &str, first: Option<u64>, generation: u64) -> Holds {
        if self.generation >= generation && !self.has(prefix) {
            // It said so itself, and nothing that was sent later has it.
            return Holds::No;
        }
        match &self.link {
            Link::Up => Holds::Yes(format!("appliance {} still serves it", self.url)),
            Link::Unknown => Holds::Yes(format!("appliance {} has not answered yet", self.url)),
            Link::Withheld => Holds::Yes(format!("appliance {} is told nothing yet", self.url)),
            // What it serves under this name was never ours.
            Link::Down(Failure::OtherOwner(_)) => Holds::No,
            // It was lost before the service came, and has not answered since.
            Link::Down(_) if !self.is_open && first.is_some_and(|first| self.told < first) => {
                Holds::No
            }
            Link::Down(failure) => Holds::Perhaps(format!("appliance {} {failure}", self.url)),
        }
    }
}

// === impl Brief ===

impl Brief {
    fn is_lost(&self) -> bool {
        self.programmed && self.is_down && self.problem.is_some()
    }

    pub(super) fn flaw(&self) -> Option<Flaw> {
        match &self.problem {
            Some(_) if self.is_lost() => Some(Flaw::Lost),
            Some(_) if !(self.programmed && self.announced) => Some(Flaw::Refused),
            Some(_) => Some(Flaw::InPart),
            None if !self.ignored.is_empty() => Some(Flaw::Ignored),
            None => None,
        }
    }
}

// === impl NotServed ===

impl NotServed {
    /// What is to be said of it while another appliance serves the Service.
    pub(super) fn beside_others(self) -> Option<Why> {
        let message = self.why.message;
        let why = || Why { reason: NOT_EVERYWHERE, message, is_final: true };
        self.is_refused.then(why)
    }
}

/// What is kept of a report, by its name.
pub(super) fn brief(report: ServiceReport) -> (String, Brief) {
    let is_down = report.state == ServiceState::Down;
    let announced = report.announced || is_down;
    let ServiceReport { name, programmed, problem, ignored, .. } = report;
    (name, Brief { programmed, announced, is_down, problem, ignored })
}
