//! Which links the data plane is attached to: the pattern's links, as they come and go.

use super::nic::Nic;
use crate::config::Patterns;
use crate::ports::DataPlane;
use crate::reconcile::pause;
use sluice_api::XdpMode;
use sluice_netlink::{Device, Link};
use sluice_xdp::{AttachMode, Finding};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Attachments, and what stands in their way.
#[derive(Default)]
pub(super) struct Attachments {
    attached: BTreeMap<u32, Attached>,
    failures: BTreeMap<u32, Failure>,
    /// Links that carried the program since they are there: packets are expected on them.
    proven: BTreeSet<u32>,
    /// Links that carry packets to us without the program: nothing is announced.
    bare: Vec<String>,
    /// The link that all are attached behind their drivers for, and why.
    fallback: Option<(u32, String)>,
}

struct Attached {
    mode: AttachMode,
    nic: Option<Nic>,
    /// What is wrong with generic mode here.
    unfinished: Option<String>,
}

struct Failure {
    link: String,
    error: String,
    attempts: u32,
    next_attempt: Instant,
}

/// Names in the patterns that no link has; they are a mistake, unlike a wildcard that matches nothing yet.
pub(super) fn missing<'a>(patterns: &'a Patterns, links: &BTreeMap<u32, Link>) -> Vec<&'a str> {
    patterns.exact().filter(|name| !links.values().any(|link| link.name == *name)).collect()
}

/// The sentence about [`missing`] links, with those that exist.
pub(super) fn missing_words(missing: &[&str], links: &BTreeMap<u32, Link>) -> String {
    let names: Vec<&str> =
        links.values().map(|link| link.name.as_str()).filter(|name| *name != "lo").collect();
    let noun = if missing.len() == 1 { "interface" } else { "interfaces" };
    let exist = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!("no {noun} {} (data-plane.interfaces); there are: {exist}", missing.join(", "))
}

// === impl Attachments ===

impl Attachments {
    /// Attaches to what is selected and detaches from what is not. True when something changed.
    ///
    /// At the first call every link is attached again, also those of a data plane that was taken over: that replaces
    /// their program by ours.
    pub(super) async fn sync(
        &mut self,
        patterns: &Patterns,
        links: &BTreeMap<u32, Link>,
        data_plane: &DataPlane,
        now: Instant,
    ) -> bool {
        let selected: BTreeMap<u32, &Link> = links
            .iter()
            .filter(|(_, link)| patterns.selects(&link.name))
            .map(|(index, link)| (*index, link))
            .collect();
        self.failures.retain(|index, _| selected.contains_key(index));
        let mut changed = self.detach(&selected, links, data_plane).await;
        for (index, link) in selected {
            let due = self.failures.get(&index).is_none_or(|failure| now >= failure.next_attempt);
            if self.attached.contains_key(&index) || !due {
                continue;
            }
            changed = true;
            match data_plane.attach(index).await {
                Ok(mode) => {
                    tracing::info!(link = link.name, ?mode, "attached");
                    self.failures.remove(&index);
                    let (nic, unfinished) = (Nic::of(link), unfinished_frames(link));
                    self.attached.insert(index, Attached { mode, nic, unfinished });
                }
                Err(error) => self.failed(index, &link.name, format!("{error:#}"), now),
            }
        }
        self.require(patterns, links, data_plane) || changed
    }

    /// Tells the data plane which links must have the program before anything is announced: those that are up and are
    /// named, or had it before. One that only a wildcard matches and that never had it may be anything. True when
    /// these are others than before.
    fn require(
        &mut self,
        patterns: &Patterns,
        links: &BTreeMap<u32, Link>,
        data_plane: &DataPlane,
    ) -> bool {
        self.proven.extend(self.attached.keys());
        self.proven.retain(|index| links.contains_key(index));
        let required = required(patterns, links, &self.proven);
        let bare = required.iter().filter(|index| !self.attached.contains_key(index));
        self.bare = bare.filter_map(|index| Some(links.get(index)?.name.clone())).collect();
        data_plane.require(required)
    }

    async fn detach(
        &mut self,
        selected: &BTreeMap<u32, &Link>,
        links: &BTreeMap<u32, Link>,
        data_plane: &DataPlane,
    ) -> bool {
        let kernel = match data_plane.attached().await {
            Ok(attached) => attached,
            Err(error) => {
                tracing::error!("cannot list attachments: {error:#}");
                return false;
            }
        };
        self.fallback = kernel.fallback;
        // What the kernel lost, with its link or to somebody else, is attached again.
        let before = self.attached.len();
        self.attached.retain(|index, attached| {
            let mode = kernel.modes.get(index).filter(|_| links.contains_key(index));
            attached.mode = *mode.unwrap_or(&attached.mode);
            mode.is_some()
        });
        let mut changed = self.attached.len() != before;
        let unwanted: BTreeSet<u32> =
            kernel.modes.keys().copied().filter(|index| !selected.contains_key(index)).collect();
        for index in unwanted {
            let name = links.get(&index).map_or("(gone)", |link| link.name.as_str());
            match data_plane.detach(index).await {
                Ok(()) => tracing::info!(link = name, index, "detached"),
                Err(error) => tracing::warn!(link = name, index, "cannot detach: {error:#}"),
            }
            self.attached.remove(&index);
            changed = true;
        }
        changed
    }

    fn failed(&mut self, index: u32, link: &str, error: String, now: Instant) {
        tracing::warn!(link, error, "cannot attach");
        let attempts = self.failures.get(&index).map_or(0, |failure| failure.attempts) + 1;
        let next_attempt = now + pause(attempts);
        let failure = Failure { link: link.to_owned(), error, attempts, next_attempt };
        self.failures.insert(index, failure);
    }

    /// Indexes of attached links.
    pub(super) fn attached(&self) -> impl Iterator<Item = u32> + '_ {
        self.attached.keys().copied()
    }

    /// When a link that failed should be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.failures.values().map(|failure| failure.next_attempt).min()
    }

    /// One sentence for each link that should be attached and is not.
    pub(super) fn problems(&self, patterns: &Patterns, links: &BTreeMap<u32, Link>) -> Vec<String> {
        let failed = self.failures.values();
        let mut problems: Vec<String> =
            failed.map(|f| format!("cannot attach to link {}: {}", f.link, f.error)).collect();
        problems.extend(self.bare.iter().map(|link| {
            format!(
                "link {link} is up without the program: nothing is announced until it is attached"
            )
        }));
        problems.extend(self.fallback.as_ref().map(|(index, why)| {
            format!(
                "all links are attached in generic mode, which is slower: the driver of link {} does not take the \
                 program ({why}); leave that link out of data-plane.interfaces, or write data-plane.attach = \
                 \"generic\" if this is as it should be",
                name_of(*index, links)
            )
        }));
        let generic = self.attached.values().filter(|a| a.mode == AttachMode::Generic);
        problems.extend(generic.filter_map(|attached| attached.unfinished.clone()));
        let missing = missing(patterns, links);
        if !missing.is_empty() {
            problems.push(missing_words(&missing, links));
        }
        if !links.values().any(|link| patterns.selects(&link.name)) {
            problems.push(format!("no link matches {patterns} yet"));
        }
        problems
    }

    /// The selected links, as they are shown.
    pub(super) fn shown(
        &self,
        patterns: &Patterns,
        links: &BTreeMap<u32, Link>,
    ) -> Vec<sluice_api::Link> {
        let selected = links.iter().filter(|(_, link)| patterns.selects(&link.name));
        let mut shown: Vec<sluice_api::Link> = selected
            .map(|(index, link)| {
                let attached = self.attached.get(index);
                let nic = attached.and_then(|attached| attached.nic.as_ref());
                sluice_api::Link {
                    name: link.name.clone(),
                    index: *index,
                    up: link.up,
                    xdp: match attached.map(|attached| attached.mode) {
                        Some(AttachMode::Native) => XdpMode::Native,
                        Some(AttachMode::Generic) => XdpMode::Generic,
                        None => XdpMode::Detached,
                    },
                    driver: nic.map(|nic| nic.driver.clone()),
                    queues: nic.map(|_| link.queues),
                    queues_wanted: nic.map(|nic| nic.queues_wanted),
                }
            })
            .collect();
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        shown
    }
}

/// In generic mode the program sees what a sender on the same host leaves to the device: half a sum, which it changes as
/// if it were whole, and frames longer than the MTU, which the kernel does not redirect. In the driver neither happens.
fn unfinished_frames(link: &Link) -> Option<String> {
    let fix = if link.is_pair {
        "run `ethtool -K PEER tx off tso off gso off` at its other end"
    } else if link.device.as_ref().is_some_and(Device::takes_unfinished_frames) {
        "give the virtual NIC guest_csum=off,guest_tso4=off,guest_tso6=off"
    } else {
        return None;
    };
    Some(format!(
        "link {} is attached in generic mode and its frames may come with unfinished checksums, which breaks TCP: use \
         data-plane.attach = \"native\", or {fix}",
        link.name
    ))
}

/// Links that nothing may be announced without.
fn required(
    patterns: &Patterns,
    links: &BTreeMap<u32, Link>,
    proven: &BTreeSet<u32>,
) -> BTreeSet<u32> {
    let is_named = |link: &Link| patterns.exact().any(|name| name == link.name);
    let selected = links.iter().filter(|(_, link)| link.up && patterns.selects(&link.name));
    let required = selected.filter(|(index, link)| is_named(link) || proven.contains(index));
    required.map(|(index, _)| *index).collect()
}

/// What others did to the data plane and what could not be repaired, one sentence each.
pub(super) fn meddling(data_plane: &DataPlane, links: &BTreeMap<u32, Link>) -> Vec<String> {
    let seen = data_plane.seen();
    let found = seen.found().map(|finding| {
        let what = match finding {
            Finding::Detached(index) => {
                format!("the program had been detached from link {}", name_of(*index, links))
            }
            Finding::ProgramReplaced(index) => {
                format!("another program had taken our place on link {}", name_of(*index, links))
            }
            other => other.to_string(),
        };
        format!("somebody else changes the data plane: {what}; repaired within the last 5 minutes")
    });
    seen.failures().iter().cloned().chain(found).collect()
}

fn name_of(index: u32, links: &BTreeMap<u32, Link>) -> String {
    links.get(&index).map_or_else(|| format!("number {index}"), |link| link.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(names: &[&str]) -> BTreeMap<u32, Link> {
        let link = |(index, name): (u32, &&str)| {
            let name = (*name).to_owned();
            let link = Link {
                index,
                name,
                mac: [0; 6],
                mtu: 1500,
                up: true,
                queues: 1,
                is_pair: false,
                device: None,
            };
            (index, link)
        };
        (1..).zip(names).map(link).collect()
    }

    #[test]
    fn a_name_that_does_not_exist_is_a_mistake_a_wildcard_is_not() {
        let mut patterns = Patterns::default();
        for pattern in ["eth0", "uplink", "vlan*"] {
            patterns.add(pattern).unwrap();
        }
        let links = links(&["lo", "eth0", "eth1"]);
        let missing = missing(&patterns, &links);
        assert_eq!(missing, ["uplink"]);
        assert_eq!(
            missing_words(&missing, &links),
            "no interface uplink (data-plane.interfaces); there are: eth0, eth1"
        );
        let shown = Attachments::default().shown(&patterns, &links);
        let shown: Vec<_> = shown.iter().map(|link| (link.name.as_str(), link.xdp)).collect();
        assert_eq!(shown, [("eth0", XdpMode::Detached)]);
    }

    #[test]
    fn a_pair_in_generic_mode_is_a_problem_with_its_fix() {
        let mut links = links(&["eth0"]);
        let link = links.get_mut(&1).unwrap();
        assert_eq!(unfinished_frames(link), None);
        link.is_pair = true;
        let told = unfinished_frames(link).unwrap();
        assert!(told.contains("link eth0") && told.contains("ethtool -K PEER tx off"), "{told}");
    }

    #[test]
    fn links_that_are_up_and_named_or_proven_are_required() {
        let mut patterns = Patterns::default();
        for pattern in ["eth0", "down0", "vlan*"] {
            patterns.add(pattern).unwrap();
        }
        let mut links = links(&["eth0", "down0", "vlan7", "vlan8", "other"]);
        links.get_mut(&2).unwrap().up = false;
        let proven = BTreeSet::from([2, 4, 5]);
        assert_eq!(required(&patterns, &links, &proven), BTreeSet::from([1, 4]));
    }
}
