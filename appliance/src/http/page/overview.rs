//! Header, problems and key figures.

use super::parts::{Tone, badge, icon};
use crate::human;
use maud::{Markup, html};
use sluice_api::{BgpState, Health, ServiceState, Snapshot, Status};

/// The document's title; the script keeps it current from the header.
pub(super) fn title(snapshot: &Snapshot) -> String {
    let name = name(&snapshot.status);
    match snapshot.status.problems.len() {
        0 if snapshot.status.ready => format!("{name} · Sluice"),
        0 => format!("(!) {name} · Sluice"),
        problems => format!("({problems}) {name} · Sluice"),
    }
}

fn name(status: &Status) -> &str {
    if status.name.is_empty() { "appliance" } else { &status.name }
}

pub(super) fn header(snapshot: &Snapshot) -> Markup {
    let status = &snapshot.status;
    let (tone, text) = match (status.ready, status.degraded) {
        (true, _) => (Tone::Good, "Ready"),
        (false, false) => (Tone::Bad, "Not ready"),
        (false, true) => (Tone::Bad, "Degraded"),
    };
    let pending = status.generation != status.programmed_generation;
    html! {
        div.identity data-title=(title(snapshot)) {
            svg.logo viewBox="0 0 24 24" aria-hidden="true" {
                path.post d="M5 2v20M19 2v20" {}
                path.gate d="M5 5h14v6H5z" {}
                path.water d="M2 15c2-1.6 4-1.6 6 0s4 1.6 6 0 4-1.6 6 0M2 19c2-1.6 4-1.6 6 0s4 1.6 6 0 4-1.6 6 0" {}
            }
            span.product { "Sluice" }
            h1 { (name(status)) }
            (badge(tone, text))
        }
        dl.facts {
            div { dt { "Version" } dd { (status.version) } }
            div {
                dt { "Up" }
                dd title={ "since " (status.started_at) } { (human::duration(status.uptime_seconds)) }
            }
            div {
                dt { "Generation" }
                dd class=[pending.then_some("warn-text")] {
                    @if pending { (status.programmed_generation) " → " }
                    (status.generation)
                }
            }
            @if let Some(bgp) = &status.bgp {
                div { dt { "AS" } dd title={ "router id " (bgp.router_id) } { (bgp.asn) } }
            }
            @if status.adopted {
                div { dt { "Start" } dd title="a running data plane was taken over" { "adopted" } }
            }
        }
    }
}

/// One line however many there are, so that a problem that comes or goes moves nothing; it opens to all of them.
pub(super) fn problems(snapshot: &Snapshot) -> Markup {
    let status = &snapshot.status;
    let tone = match (status.ready, status.problems.is_empty()) {
        (true, true) => Tone::Good,
        (true, false) => Tone::Warn,
        (false, _) => Tone::Bad,
    };
    let class = format!("strip {}", tone.class());
    html! {
        @match (status.ready, status.problems.len()) {
            (true, 0) => div class=(class) {
                (icon(tone)) p.first { "Everything that is configured is at work." }
            },
            (false, 0) => div class=(class) {
                (icon(tone)) p.first { "Not ready: the first state is not programmed yet." }
            },
            (_, number) => details class=(class) {
                summary {
                    (icon(tone))
                    b { (number) @if number == 1 { " problem" } @else { " problems" } }
                    span.first { (status.problems.join(" · ")) }
                }
                ul { @for problem in &status.problems { li { (problem) } } }
            },
        }
    }
}

pub(super) fn figures(snapshot: &Snapshot) -> Markup {
    let status = &snapshot.status;
    let backends = || snapshot.services.iter().flat_map(|service| &service.backends);
    let usable = backends().filter(|it| matches!(it.health, Health::Up | Health::Unchecked));
    let active = backends().filter(|it| it.health != Health::Draining);
    let up = snapshot
        .services
        .iter()
        .filter(|it| matches!(it.state, ServiceState::Up | ServiceState::Degraded));
    let announced = snapshot.vips.iter().filter(|vip| vip.announced).count();
    let established =
        snapshot.peers.iter().filter(|peer| peer.state == BgpState::Established).count();
    let dropped: f64 = snapshot.drops.iter().map(|drop| drop.rate).sum();
    html! {
        dl.figures {
            (share("Services", up.count(), snapshot.services.len(), "serving"))
            (share("Backends", usable.count(), active.count(), "usable"))
            (share("VIPs", announced, snapshot.vips.len(), "announced"))
            (share("BGP peers", established, snapshot.peers.len(), "established"))
            (figure("Flows", &human::count(status.flows), "", &room(status), Tone::Idle))
            (figure("Drops", &human::si(dropped), "/s", &total_drops(snapshot), Tone::Idle))
        }
    }
}

/// "3 of 4", with a tone for none, some and all.
fn share(label: &str, part: usize, whole: usize, word: &str) -> Markup {
    let tone = match (part, whole) {
        (_, 0) => Tone::Idle,
        (0, _) => Tone::Bad,
        (part, whole) if part < whole => Tone::Warn,
        _ => Tone::Good,
    };
    figure(label, &part.to_string(), &format!("/{whole}"), word, tone)
}

fn figure(label: &str, value: &str, unit: &str, note: &str, tone: Tone) -> Markup {
    html! {
        div class={ "figure " (tone.class()) } {
            dt { (label) }
            dd {
                span.value { (value) span.unit { (unit) } }
                span.note { @if tone != Tone::Idle { (icon(tone)) } (note) }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal of a per cent is shown")]
fn room(status: &Status) -> String {
    if status.max_flows == 0 {
        return "in the table".to_owned();
    }
    let percent = status.flows as f64 * 100.0 / status.max_flows as f64;
    format!("{percent:.1}% of {}", human::count(status.max_flows))
}

fn total_drops(snapshot: &Snapshot) -> String {
    let total = snapshot.drops.iter().fold(0_u64, |sum, drop| sum.saturating_add(drop.packets));
    format!("{} in all", human::count(total))
}
