//! What differs between two snapshots, counters apart.

use sluice_api::{Change, ChangeKind, Link, Snapshot, Vip};
use std::collections::BTreeMap;

/// Things of one kind by subject: their value and, where known, why.
type Facts = BTreeMap<(ChangeKind, String), (String, Option<String>)>;

/// The changes that lead from `before` to `after`, by kind and subject.
pub(super) fn changes(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let (before, after) = (facts(before), facts(after));
    let gone = before.iter().filter(|(key, _)| !after.contains_key(key)).map(|(key, old)| {
        let (kind, subject) = key.clone();
        Change { kind, subject, from: Some(old.0.clone()), to: None, reason: None }
    });
    let new_or_other = after.iter().filter_map(|(key, (value, reason))| {
        let old = before.get(key).map(|(old, _)| old);
        if old == Some(value) {
            return None;
        }
        let (kind, subject) = key.clone();
        let (from, to) = (old.cloned(), Some(value.clone()));
        Some(Change { kind, subject, from, to, reason: reason.clone() })
    });
    let mut changes: Vec<Change> = gone.chain(new_or_other).collect();
    changes.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
    changes
}

/// A snapshot as flat facts, so that one comparison serves every kind.
fn facts(snapshot: &Snapshot) -> Facts {
    let status = &snapshot.status;
    let mut facts = Facts::new();
    let mut add = |kind, subject: String, value: String, reason: Option<String>| {
        facts.insert((kind, subject), (value, reason));
    };
    let ready = if status.ready { "ready" } else { "not-ready" };
    add(ChangeKind::Appliance, status.name.clone(), ready.to_owned(), None);
    let generation = status.programmed_generation.to_string();
    add(ChangeKind::Generation, "programmed".to_owned(), generation, None);
    for problem in &status.problems {
        add(ChangeKind::Problem, problem.clone(), "present".to_owned(), None);
    }
    for link in &status.links {
        add(ChangeKind::Link, link.name.clone(), link_value(link).to_owned(), None);
    }
    for service in &snapshot.services {
        add(ChangeKind::Service, service.name.clone(), service.state.to_string(), None);
        for backend in &service.backends {
            let socket = crate::human::socket(&backend.address, backend.port);
            let subject = format!("{} {socket}", service.name);
            let health = backend.health.to_string();
            add(ChangeKind::Backend, subject, health, backend.reason.clone());
        }
    }
    for vip in &snapshot.vips {
        add(ChangeKind::Vip, vip.address.clone(), vip_value(vip).to_owned(), None);
    }
    for peer in &snapshot.peers {
        let (state, error) = (peer.state.to_string(), peer.last_error.clone());
        add(ChangeKind::Peer, peer.address.clone(), state, error);
    }
    for route in &snapshot.routes {
        let value = format!("announced to {}", route.peers.join(", "));
        add(ChangeKind::Route, route.prefix.clone(), value, None);
    }
    facts
}

fn link_value(link: &Link) -> &'static str {
    if link.up { link.xdp.as_str() } else { "down" }
}

fn vip_value(vip: &Vip) -> &'static str {
    match (vip.on_link, vip.announced) {
        (false, _) => "absent",
        (true, true) => "announced",
        (true, false) => "withdrawn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::demo_snapshot::demo_snapshot;
    use sluice_api::{BgpState, Health, ServiceState};

    #[test]
    fn counters_are_no_change() {
        let before = demo_snapshot(0);
        let mut after = before.clone();
        after.status.uptime_seconds += 1;
        after.status.flows += 9;
        after.status.rates.packets_in += 1.0;
        after.services[0].counters.packets_in += 1;
        after.services[0].backends[0].rates.packets_in += 1.0;
        after.drops[0].packets += 1;
        assert_eq!(changes(&before, &after), []);
    }

    #[test]
    fn every_kind_of_change_is_told() {
        let before = demo_snapshot(0);
        let mut after = before.clone();
        after.status.ready = !before.status.ready;
        after.status.programmed_generation += 1;
        after.status.problems.push("the roof is on fire".to_owned());
        after.status.links[0].up = false;
        after.services[0].state = ServiceState::Down;
        after.services[0].backends[0].health = Health::Down;
        after.services[0].backends[0].reason = Some("connection refused".to_owned());
        after.vips[0].announced = false;
        after.peers[0].state = BgpState::Idle;
        after.routes.remove(0);
        let told = changes(&before, &after);
        let kinds: Vec<ChangeKind> = told.iter().map(|change| change.kind).collect();
        assert_eq!(kinds, ChangeKind::ALL, "each kind once, in order");
        let backend = told.iter().find(|change| change.kind == ChangeKind::Backend).unwrap();
        assert_eq!(
            *backend,
            Change {
                kind: ChangeKind::Backend,
                subject: "web 10.1.0.11:8080".to_owned(),
                from: Some("up".to_owned()),
                to: Some("down".to_owned()),
                reason: Some("connection refused".to_owned()),
            }
        );
        assert_eq!(told.last().unwrap().to, None, "the route is gone");
    }
}
