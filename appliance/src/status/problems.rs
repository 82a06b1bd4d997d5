//! What needs an operator's eye, one sentence each, the most urgent first.

use super::services::missing_way;
use super::{View, bgp};
use crate::sources::Bridge;
use sluice_api::{Link, XdpMode};
use sluice_bgp::PeerStatus;
use sluice_plan::Wanted;
use std::collections::BTreeMap;

// === impl View ===

impl View<'_> {
    pub(super) fn problems(&self, wanted: &Wanted) -> Vec<String> {
        let merged = self.merged;
        let recovery = merged.recovery.iter().map(|recovery| recovery.words(merged.held()));
        let mut problems: Vec<String> = recovery.chain(merged.unkept.clone()).collect();
        problems.extend(self.troubles.iter().cloned());
        if !self.observed.attached {
            let words = "the data plane is not attached where it must be: nothing is announced";
            problems.push(words.to_owned());
        }
        problems.extend(self.merged.clashes.iter().map(ToString::to_string));
        let unmade = self.merged.bridges.iter().flat_map(|(source, bridge)| {
            bridge.wishes.values().filter_map(move |wish| {
                let why = wish.made.as_ref().err()?;
                Some(format!("source {source}: service {} is left out: {why}", wish.name()))
            })
        });
        problems.extend(unmade);
        problems.extend(
            self.merged.bridges.iter().filter_map(|(source, bridge)| ignored(source, bridge)),
        );
        problems.extend(self.merged.desired.services().flat_map(|service| {
            let words = self.refused.words(service).into_iter();
            words.map(|word| format!("service {}: {word}", service.name))
        }));
        let excess = wanted.excess.iter();
        problems.extend(excess.map(|(service, excess)| format!("service {service}: {excess}")));
        let disagreements = wanted.disagreements.iter();
        problems.extend(disagreements.map(|(service, with)| format!("service {service}: {with}")));
        problems.extend(self.unserved(wanted));
        problems.extend(self.unreachable());
        problems.extend(self.sessions());
        problems.extend(self.links.iter().filter_map(few_queues));
        problems
    }

    fn unserved<'a>(&'a self, wanted: &'a Wanted) -> impl Iterator<Item = String> + 'a {
        self.merged.desired.services().filter_map(|service| {
            let kept = service.frontends().filter(|f| !self.refused.has_vip(&service.name, f.vip));
            let vips = kept.filter(|frontend| {
                wanted.programs.get(frontend).is_none_or(|program| !program.serves())
            });
            let vips: Vec<String> = vips.map(|frontend| frontend.vip.to_string()).collect();
            let words =
                format!("service {} has no usable backend for {}", service.name, vips.join(", "));
            (!vips.is_empty()).then_some(words)
        })
    }

    fn unreachable(&self) -> impl Iterator<Item = String> + '_ {
        self.merged.desired.backend_addresses().into_iter().filter_map(|(address, services)| {
            let way = missing_way(address, self.resolutions.get(&address))?;
            let services = services.iter().filter(|name| self.refused.permits(name, address));
            let services: Vec<&str> = services.map(|name| name.0.as_str()).collect();
            if services.is_empty() {
                return None;
            }
            Some(format!("{way} (backend of {})", services.join(", ")))
        })
    }

    fn sessions(&self) -> impl Iterator<Item = String> + '_ {
        let down = |peer: &PeerStatus| {
            let why = peer.why_down().map(|error| format!(": {error}")).unwrap_or_default();
            format!("BGP peer {} is not established{why}", peer.address)
        };
        self.peers.iter().flat_map(move |peer| {
            let missing = (!bgp::is_established(peer)).then(|| down(peer));
            let partly = peer.problems.iter();
            missing.into_iter().chain(partly.map(|p| format!("BGP peer {}: {p}", peer.address)))
        })
    }
}

/// What a newer bridge says and this version does not know.
fn ignored(source: &str, bridge: &Bridge) -> Option<String> {
    let mut services: BTreeMap<&str, usize> = BTreeMap::new();
    for name in bridge.wishes.values().flat_map(|wish| &wish.sent.ignored) {
        *services.entry(name).or_default() += 1;
    }
    let beside = bridge.beyond.members.keys().chain(&bridge.beyond.ignored).map(String::clone);
    let of_services = services.iter().map(|(name, count)| format!("{name} of {count} services"));
    let all: Vec<String> = beside.chain(of_services).collect();
    (!all.is_empty()).then(|| {
        let all = all.join(", ");
        format!("source {source}: what this version does not know is ignored ({all}): update the appliance")
    })
}

/// It works all the same, so this is the last of all problems.
fn few_queues(link: &Link) -> Option<String> {
    let (driver, queues, wanted) = (link.driver.as_ref()?, link.queues?, link.queues_wanted?);
    if link.xdp != XdpMode::Native || queues >= wanted {
        return None;
    }
    let fix = if driver == "virtio_net" {
        // One interrupt for each direction of each queue, one for the configuration, one for the control queue.
        let vectors = wanted.saturating_mul(2).saturating_add(2);
        format!("give the virtual NIC queues={wanted} (QEMU: and mq=on,vectors={vectors})")
    } else {
        format!("give the NIC {wanted} queues")
    };
    let (name, noun) = (&link.name, if queues == 1 { "queue" } else { "queues" });
    Some(format!(
        "link {name}: {queues} {noun} where {wanted} are wanted, so XDP sends under a lock: {fix}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_queues_are_told_with_the_fix() {
        let link = |driver: &str, queues, xdp| Link {
            name: "eth0".to_owned(),
            driver: Some(driver.to_owned()),
            queues: Some(queues),
            queues_wanted: Some(4),
            xdp,
            ..Link::default()
        };
        let told = |driver, queues, xdp| few_queues(&link(driver, queues, xdp));
        assert_eq!(
            told("virtio_net", 2, XdpMode::Native).unwrap(),
            "link eth0: 2 queues where 4 are wanted, so XDP sends under a lock: give the virtual NIC queues=4 (QEMU: and \
             mq=on,vectors=10)"
        );
        assert_eq!(
            told("mlx5_core", 1, XdpMode::Native).unwrap(),
            "link eth0: 1 queue where 4 are wanted, so XDP sends under a lock: give the NIC 4 queues"
        );
        assert_eq!(told("virtio_net", 4, XdpMode::Native), None);
        assert_eq!(told("virtio_net", 2, XdpMode::Generic), None);
        assert_eq!(few_queues(&Link { xdp: XdpMode::Native, ..Link::default() }), None);
    }
}
