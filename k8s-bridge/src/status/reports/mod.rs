//! What the appliances say of services, all together.

mod appliance;
#[cfg(test)]
mod tests;

use crate::push::machine::Link;
use appliance::{Appliance, Holds, NotServed, brief};
use sluice_api::{PeerReport, SourceReport};

/// Whether a Service is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One appliance at least serves all of it. What is beside that not as wanted, there or on another one.
    Served(Option<Why>),
    /// As [`Verdict::Served`], but no endpoint of it can be reached from any of those appliances.
    Lost(Why),
    /// No appliance does yet.
    Pending(Why),
}

/// Why no appliance serves it, or not as wanted.
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
/// One appliance serves it, another one refuses it or its last change.
pub const NOT_EVERYWHERE: &str = "NotServedEverywhere";
/// It is served without some of its endpoints or addresses.
pub const IN_PART: &str = "ServedInPart";
/// It is served without something that is newer than the appliance.
pub const IGNORED: &str = "IgnoredByAppliance";

/// Reasons of [`Verdict::Served`] that are worth an event.
pub const FLAWS: [&str; 3] = [NOT_EVERYWHERE, IN_PART, IGNORED];

/// Which appliances may still have a service that is to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// Those that can be asked and have it, in words.
    pub serving: Vec<String>,
    /// Those that cannot be asked and may have it, in words.
    pub silent: Vec<String>,
}

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
        Reports { appliances: urls.iter().map(|url| Appliance::new(url)).collect() }
    }

    /// An appliance is another way now; returns how it was. `newest` is the generation that is wanted now: the appliance
    /// was told nothing newer.
    pub fn set_link(&mut self, number: usize, link: Link, newest: u64) -> Option<Link> {
        Some(self.appliances.get_mut(number)?.set_link(link, newest))
    }

    /// An appliance reports. Returns the services whose state is news to those who are settled: others are waited for.
    pub fn take(&mut self, number: usize, report: SourceReport) -> Vec<String> {
        let Some(appliance) = self.appliances.get_mut(number) else { return Vec::new() };
        appliance.name = report.appliance;
        appliance.generation = report.generation;
        appliance.is_open = true;
        appliance.ignored = report.ignored;
        let services = report.services.into_iter().map(brief).collect();
        let before = std::mem::replace(&mut appliance.services, services);
        appliance.peers = report.peers;
        let was = |name: &String| before.get(name).and_then(|brief| brief.flaw());
        let now = appliance.services.iter();
        let turned = now.filter(|(name, brief)| brief.flaw() != was(name));
        turned.map(|(name, _)| name.clone()).collect()
    }

    /// An appliance's URL.
    #[must_use]
    pub fn url(&self, number: usize) -> &str {
        self.appliances.get(number).map(|a| a.url.as_str()).unwrap_or_default()
    }

    /// What an appliance does not know of peers and the source itself, and ignores.
    #[must_use]
    pub fn ignored(&self, number: usize) -> &[String] {
        self.appliances.get(number).map(|a| a.ignored.as_slice()).unwrap_or_default()
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
        let (mut is_served, mut lost) = (false, Vec::new());
        let mut not = Vec::<NotServed>::new();
        let mut flaws = Vec::<Why>::new();
        for appliance in &self.appliances {
            match appliance.judge(names, generation) {
                Ok(()) => match appliance.lost(names) {
                    None => {
                        is_served = true;
                        flaws.extend(appliance.flaws(names));
                    }
                    Some(problem) => lost.push(format!("appliance {}: {problem}", appliance.url)),
                },
                Err(why) => not.push(why),
            }
        }
        if is_served {
            flaws.extend(not.into_iter().filter_map(NotServed::beside_others));
            return Verdict::Served(worst(flaws));
        }
        if !lost.is_empty() {
            let message = lost.join("; ");
            return Verdict::Lost(Why { reason: UNREACHABLE, message, is_final: false });
        }
        Verdict::Pending(nearest(not))
    }

    /// Which appliances may still have a service whose name begins so. It was to go with `generation`; `first` is the
    /// generation that it came with, when it is certain that no appliance heard of it before.
    #[must_use]
    pub fn holders(&self, prefix: &str, first: Option<u64>, generation: u64) -> Holders {
        let mut holders = Holders::default();
        for appliance in &self.appliances {
            match appliance.holds(prefix, first, generation) {
                Holds::No => {}
                Holds::Yes(who) => holders.serving.push(who),
                Holds::Perhaps(who) => holders.silent.push(who),
            }
        }
        holders
    }

    /// Every report of a peer, with the appliance that makes it.
    pub fn peers(&self) -> impl Iterator<Item = (&str, &PeerReport)> + '_ {
        self.appliances.iter().filter(|a| a.link == Link::Up).flat_map(|a| {
            let name = if a.name.is_empty() { &a.url } else { &a.name };
            a.peers.iter().map(move |peer| (name.as_str(), peer))
        })
    }
}

/// Of the appliances that do not serve it, what those say that are nearest to it.
fn nearest(all: Vec<NotServed>) -> Why {
    let nearest = all.iter().map(|not| not.rank).max();
    let mut all = all.into_iter().filter(|not| Some(not.rank) == nearest).map(|not| not.why);
    let mut why = all.next().unwrap_or_else(|| {
        let message = "the bridge knows no appliance".to_owned();
        Why { reason: "NoAppliance", message, is_final: false }
    });
    // Each of them may be the one to mend.
    for other in all {
        why.message = format!("{}; {}", why.message, other.message);
    }
    why
}

/// The worst reason, with what is to be said of all.
fn worst(all: Vec<Why>) -> Option<Why> {
    let place = |why: &Why| FLAWS.iter().position(|reason| *reason == why.reason);
    let mut all = all;
    all.sort_by_key(place);
    let messages: Vec<&str> = all.iter().map(|why| why.message.as_str()).collect();
    let message = messages.join("; ");
    let first = all.first()?;
    Some(Why { message, ..first.clone() })
}
