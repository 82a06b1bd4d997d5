//! Which links the data plane is attached to: the pattern's links, as they come and go.

use super::nic::Nic;
use crate::config::Patterns;
use crate::ports::DataPlane;
use crate::reconcile::pause;
use sluice_api::XdpMode;
use sluice_netlink::Link;
use sluice_xdp::AttachMode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Attachments, and what stands in their way.
#[derive(Default)]
pub(super) struct Attachments {
    attached: BTreeMap<u32, Attached>,
    failures: BTreeMap<u32, Failure>,
}

struct Attached {
    mode: AttachMode,
    nic: Option<Nic>,
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
                    self.attached.insert(index, Attached { mode, nic: Nic::of(link) });
                }
                Err(error) => self.failed(index, &link.name, format!("{error:#}"), now),
            }
        }
        changed
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
        // What the kernel lost with its link is attached anew when the link is back.
        let before = self.attached.len();
        self.attached.retain(|index, _| kernel.contains_key(index) && links.contains_key(index));
        let mut changed = self.attached.len() != before;
        let unwanted: BTreeSet<u32> =
            kernel.keys().copied().filter(|index| !selected.contains_key(index)).collect();
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

    /// When a link that failed should be tried again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.failures.values().map(|failure| failure.next_attempt).min()
    }

    /// One sentence for each link that should be attached and is not.
    pub(super) fn problems(&self, patterns: &Patterns, links: &BTreeMap<u32, Link>) -> Vec<String> {
        let failed = self.failures.values();
        let mut problems: Vec<String> =
            failed.map(|f| format!("cannot attach to link {}: {}", f.link, f.error)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn links(names: &[&str]) -> BTreeMap<u32, Link> {
        let link = |(index, name): (u32, &&str)| {
            let name = (*name).to_owned();
            let link =
                Link { index, name, mac: [0; 6], mtu: 1500, up: true, queues: 1, device: None };
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
}
