//! What the appliances say of services, all together.

use crate::push::machine::Link;
use sluice_api::{PeerReport, ServiceReport, ServiceState, SourceReport};
use std::collections::BTreeMap;

/// One appliance.
#[derive(Debug, Default)]
struct Appliance {
    url: String,
    name: String,
    link: Link,
    generation: u64,
    services: BTreeMap<String, Brief>,
    peers: Vec<PeerReport>,
}

/// What is kept of a service's report.
#[derive(Debug, PartialEq, Eq)]
struct Brief {
    programmed: bool,
    /// Announced, or rightly not.
    announced: bool,
    /// No endpoint of it is usable.
    is_down: bool,
    problem: Option<String>,
}

/// Whether a Service is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One appliance at least serves all of it.
    Served,
    /// As [`Verdict::Served`], but no endpoint of it can be reached from any of those appliances.
    Lost(Why),
    /// Nobody does yet.
    Pending(Why),
}

/// Why nobody serves it, or to no avail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// For conditions and events.
    pub reason: &'static str,
    /// In words.
    pub message: String,
    /// It is no matter of time: an appliance refuses it.
    pub is_final: bool,
}

/// The reason of [`Verdict::Lost`].
const UNREACHABLE: &str = "EndpointsUnreachable";

/// What all appliances say.
#[derive(Debug, Default)]
pub struct Reports {
    appliances: Vec<Appliance>,
}

// === impl Reports ===

impl Reports {
    /// Nothing is known of these appliances yet.
    #[must_use]
    pub fn of(urls: &[String]) -> Self {
        let new = |url: &String| Appliance { url: url.clone(), ..Appliance::default() };
        Reports { appliances: urls.iter().map(new).collect() }
    }

    /// An appliance is another way now; returns how it was.
    pub fn set_link(&mut self, number: usize, link: Link) -> Option<Link> {
        let appliance = self.appliances.get_mut(number)?;
        if matches!(link, Link::Unknown) {
            (appliance.generation, appliance.services) = (0, BTreeMap::new());
        }
        Some(std::mem::replace(&mut appliance.link, link))
    }

    /// An appliance reports. Returns the services whose endpoints it has lost since it last reported, or found again:
    /// others are waited for, or settled.
    pub fn take(&mut self, number: usize, report: SourceReport) -> Vec<String> {
        let Some(appliance) = self.appliances.get_mut(number) else { return Vec::new() };
        appliance.name = report.appliance;
        appliance.generation = report.generation;
        let services = report.services.into_iter().map(brief).collect();
        let before = std::mem::replace(&mut appliance.services, services);
        appliance.peers = report.peers;
        let was_lost = |name: &String| before.get(name).is_some_and(Brief::is_lost);
        let now = appliance.services.iter();
        let turned = now.filter(|(name, brief)| brief.is_lost() != was_lost(name));
        turned.map(|(name, _)| name.clone()).collect()
    }

    /// An appliance's URL.
    #[must_use]
    pub fn url(&self, number: usize) -> &str {
        self.appliances.get(number).map(|a| a.url.as_str()).unwrap_or_default()
    }

    /// Every appliance with one word for how it is.
    #[must_use]
    pub fn words(&self) -> Vec<(String, &'static str)> {
        let word = |link: &Link| match link {
            Link::Unknown => "Unknown",
            Link::Up => "Up",
            Link::Withheld => "Withheld",
            Link::Down(failure) => failure.reason(),
        };
        self.appliances.iter().map(|a| (a.url.clone(), word(&a.link))).collect()
    }

    /// Whether an appliance has all of these, as they were wished with the generation.
    #[must_use]
    pub fn judge(&self, names: &[String], generation: u64) -> Verdict {
        let (mut all, mut lost) = (Vec::new(), Vec::new());
        for appliance in &self.appliances {
            match appliance.judge(names, generation) {
                Ok(()) => match appliance.lost(names) {
                    None => return Verdict::Served,
                    Some(problem) => lost.push(format!("appliance {}: {problem}", appliance.url)),
                },
                Err(why) => all.push(why),
            }
        }
        if !lost.is_empty() {
            let message = lost.join("; ");
            return Verdict::Lost(Why { reason: UNREACHABLE, message, is_final: false });
        }
        let nearest = all.iter().map(|(rank, _)| *rank).max();
        let mut all =
            all.into_iter().filter(|(rank, _)| Some(*rank) == nearest).map(|(_, why)| why);
        let mut why = all.next().unwrap_or_else(|| {
            let message = "the bridge knows no appliance".to_owned();
            Why { reason: "NoAppliance", message, is_final: false }
        });
        // Each of them may be the one to mend.
        for other in all {
            why.message = format!("{}; {}", why.message, other.message);
        }
        Verdict::Pending(why)
    }

    /// No appliance that can be asked has a service whose name begins so, at this generation or later.
    #[must_use]
    pub fn is_gone(&self, prefix: &str, generation: u64) -> bool {
        self.appliances.iter().all(|appliance| match appliance.link {
            Link::Down(_) => true,
            Link::Unknown | Link::Withheld => false,
            Link::Up => {
                let from = appliance.services.range(prefix.to_owned()..).next();
                appliance.generation >= generation
                    && from.is_none_or(|(name, _)| !name.starts_with(prefix))
            }
        })
    }

    /// Every report of a peer, with the appliance that makes it.
    pub fn peers(&self) -> impl Iterator<Item = (&str, &PeerReport)> + '_ {
        self.appliances.iter().filter(|a| a.link == Link::Up).flat_map(|a| {
            let name = if a.name.is_empty() { &a.url } else { &a.name };
            a.peers.iter().map(move |peer| (name.as_str(), peer))
        })
    }
}

// === impl Appliance ===

impl Appliance {
    /// Or why not, with how near it is: the nearest appliance's reason is the one worth telling.
    fn judge(&self, names: &[String], generation: u64) -> Result<(), (u8, Why)> {
        let why = |rank, reason, message, is_final| Err((rank, Why { reason, message, is_final }));
        match &self.link {
            Link::Unknown => {
                let message = format!("appliance {} has not answered yet", self.url);
                return why(0, "NoAppliance", message, false);
            }
            Link::Down(failure) => {
                return why(1, "NoAppliance", format!("appliance {} {failure}", self.url), false);
            }
            Link::Withheld => {
                let message = format!("appliance {} is told nothing yet", self.url);
                return why(1, "NoAppliance", message, false);
            }
            Link::Up if self.generation < generation => {
                let message = format!("appliance {} has not taken it yet", self.url);
                return why(2, "NotProgrammed", message, false);
            }
            Link::Up => {}
        }
        for name in names {
            let Some(brief) = self.services.get(name) else {
                let message = format!("appliance {} does not report {name}", self.url);
                return why(2, "NotProgrammed", message, false);
            };
            if let Some(problem) = &brief.problem
                && !(brief.programmed && brief.announced)
            {
                return why(4, "NotServed", format!("appliance {}: {problem}", self.url), true);
            }
            if !brief.programmed {
                let message = format!("appliance {} has not programmed {name} yet", self.url);
                return why(2, "NotProgrammed", message, false);
            }
            if !brief.announced {
                let message = format!(
                    "appliance {} announces {name} to no router; see its BGP sessions",
                    self.url
                );
                return why(3, "NotAnnounced", message, false);
            }
        }
        Ok(())
    }

    /// Why it reaches no endpoint of any of these services. One without endpoints says nothing: that is no loss.
    fn lost(&self, names: &[String]) -> Option<&str> {
        let briefs: Vec<&Brief> = names.iter().filter_map(|name| self.services.get(name)).collect();
        let lost = briefs.iter().find(|brief| brief.is_lost())?;
        let is_all = briefs.iter().all(|brief| brief.is_down);
        lost.problem.as_deref().filter(|_| is_all)
    }
}

// === impl Brief ===

impl Brief {
    /// It is served as wanted, but the appliance says why no packet arrives.
    fn is_lost(&self) -> bool {
        self.programmed && self.is_down && self.problem.is_some()
    }
}

fn brief(report: ServiceReport) -> (String, Brief) {
    let is_down = report.state == ServiceState::Down;
    let announced = report.announced || is_down;
    let (programmed, problem) = (report.programmed, report.problem);
    (report.name, Brief { programmed, announced, is_down, problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::machine::Failure;

    fn report(generation: u64, services: &[(&str, bool, bool, ServiceState)]) -> SourceReport {
        let one = |&(name, programmed, announced, state): &(&str, bool, bool, ServiceState)| {
            let name = name.to_owned();
            ServiceReport { name, programmed, announced, state, ..ServiceReport::default() }
        };
        let services = services.iter().map(one).collect();
        SourceReport { generation, services, ..SourceReport::default() }
    }

    fn two() -> Reports {
        let mut reports = Reports::of(&["https://a".into(), "https://b".into()]);
        reports.set_link(0, Link::Down(Failure::Unreachable("refused".into())));
        reports.set_link(1, Link::Up);
        reports
    }

    #[test]
    fn served_is_what_one_appliance_has_completely() {
        use ServiceState::{Down, Unprogrammed, Up};
        let names = ["s/1".to_owned(), "s/2".to_owned()];
        for (generation, services, reason) in [
            (5, vec![("s/1", true, true, Up), ("s/2", true, true, Up)], None),
            (4, vec![("s/1", true, true, Up), ("s/2", true, true, Up)], Some("NotProgrammed")),
            (5, vec![("s/1", true, true, Up)], Some("NotProgrammed")),
            (5, vec![("s/1", true, true, Up), ("s/2", true, false, Up)], Some("NotAnnounced")),
            (6, vec![("s/1", true, false, Down), ("s/2", true, true, Up)], None),
            (
                5,
                vec![("s/1", false, false, Unprogrammed), ("s/2", true, true, Up)],
                Some("NotProgrammed"),
            ),
        ] {
            let mut reports = two();
            reports.take(1, report(generation, &services));
            let got = match reports.judge(&names, 5) {
                Verdict::Served => None,
                Verdict::Lost(why) | Verdict::Pending(why) => Some(why.reason),
            };
            assert_eq!(got, reason, "{generation} {services:?}");
        }
    }

    #[test]
    fn without_an_appliance_the_reason_names_it() {
        let reports = {
            let mut reports = two();
            reports.set_link(1, Link::Down(Failure::Unauthorized(401)));
            reports
        };
        let Verdict::Pending(why) = reports.judge(&["s/1".to_owned()], 5) else { panic!("served") };
        assert_eq!(why.reason, "NoAppliance");
        assert_eq!(
            why.message,
            "appliance https://a cannot be reached: refused; appliance https://b refuses the token or client \
             certificate (401), check --token-file and --client-certificate"
        );
    }

    #[test]
    fn lost_is_what_no_appliance_reaches_any_longer() {
        use ServiceState::{Down, Up};
        let urls = ["https://a".to_owned(), "https://b".to_owned()];
        let names = ["s/1".to_owned(), "s/2".to_owned()];
        let no_way = || Some("no route to 10.0.0.1".to_owned());
        let report = |states: [(ServiceState, Option<String>); 2]| {
            let services = std::iter::zip(&names, states).map(|(name, (state, problem))| {
                let announced = state == Up;
                let name = name.clone();
                let report = ServiceReport { name, announced, state, ..ServiceReport::default() };
                ServiceReport { programmed: true, problem, generation: 5, ..report }
            });
            let services = services.collect();
            SourceReport { generation: 5, services, ..SourceReport::default() }
        };
        let well = || report([(Up, None), (Up, None)]);
        for (what, a, b, reason) in [
            ("one is left", [(Down, no_way()), (Up, None)], well(), None),
            ("another appliance reaches it", [(Down, no_way()), (Down, no_way())], well(), None),
            (
                "nobody reaches it",
                [(Down, no_way()), (Down, None)],
                report([(Down, no_way()), (Down, no_way())]),
                Some(
                    "appliance https://a: no route to 10.0.0.1; appliance https://b: no route to 10.0.0.1",
                ),
            ),
            (
                "without endpoints",
                [(Down, None), (Down, None)],
                report([(Down, None), (Down, None)]),
                None,
            ),
        ] {
            let mut reports = Reports::of(&urls);
            for number in [0, 1] {
                reports.set_link(number, Link::Up);
            }
            reports.take(0, report(a));
            reports.take(1, b);
            let got = match reports.judge(&names, 5) {
                Verdict::Served => None,
                Verdict::Lost(why) | Verdict::Pending(why) => Some(why.message),
            };
            assert_eq!(got.as_deref(), reason, "{what}");
        }
        let mut reports = Reports::of(&urls);
        let lost = || report([(Down, no_way()), (Up, None)]);
        assert_eq!(reports.take(0, lost()), ["s/1"], "news");
        assert_eq!(reports.take(0, lost()), [""; 0], "no news");
        assert_eq!(reports.take(0, well()), ["s/1"], "found again");
    }

    #[test]
    fn gone_is_what_every_appliance_that_answers_no_longer_has() {
        let mut reports = two();
        for (generation, name, gone) in
            [(5, "p/d/web/80-tcp", false), (5, "p/d/web2/80-tcp", true), (4, "p/d/x/1-tcp", false)]
        {
            reports.take(1, report(generation, &[(name, true, true, ServiceState::Up)]));
            assert_eq!(reports.is_gone("p/d/web/", 5), gone, "{generation} {name}");
        }
        reports.set_link(0, Link::Unknown);
        assert!(!reports.is_gone("p/d/web/", 5), "it may still answer");
    }
}
