//! Services with their backends: one table, a row group for each service.

use super::parts::{Tone, badge, empty, heading, since};
use crate::human;
use maud::{Markup, html};
use sluice_api::{Backend, Health, NextHopState, Rates, Service, ServiceState, Snapshot};

const SAMPLE: &str = "[[service]]\nname = \"web\"\nvips = [\"203.0.113.10\"]\nport = 80\nprotocol = \"tcp\"\n\n[[service.backend]]\naddress = \"10.1.0.11\"\nport = 8080";

pub(super) fn services(snapshot: &Snapshot) -> Markup {
    let backends: usize = snapshot.services.iter().map(|service| service.backends.len()).sum();
    let note = match snapshot.services.len() {
        0 => String::new(),
        services => format!("{services} with {backends} backends"),
    };
    html! {
        (heading("services-title", "Services", &note))
        @if snapshot.services.is_empty() {
            (empty(
                "No services yet. Add a [[service]] to the configuration file and reload with \
                 SIGHUP; `sluice check` finds mistakes first.",
                SAMPLE,
            ))
        } @else {
            table.services {
                thead {
                    tr {
                        th.state scope="col" rowspan="2" { "State" }
                        th.who scope="col" rowspan="2" { "Service, backend" }
                        th.detail scope="col" rowspan="2" { "Detail" }
                        th.weight scope="col" rowspan="2" { "Weight" }
                        th.pair scope="colgroup" colspan="2" { "packets/s" }
                        th.pair scope="colgroup" colspan="2" { "bit/s" }
                        th.num scope="col" rowspan="2" { "flows/s" }
                    }
                    tr {
                        th.num scope="col" { "in" }
                        th.num scope="col" { "out" }
                        th.num scope="col" { "in" }
                        th.num scope="col" { "out" }
                    }
                }
                @for service in &snapshot.services { (group(snapshot, service)) }
            }
        }
    }
}

fn group(snapshot: &Snapshot, service: &Service) -> Markup {
    let tone = match service.state {
        ServiceState::Up => Tone::Good,
        ServiceState::Degraded => Tone::Warn,
        ServiceState::Down => Tone::Bad,
        ServiceState::Unprogrammed => Tone::Idle,
    };
    let total: u32 = service.backends.iter().map(|backend| u32::from(backend.weight)).sum();
    html! {
        tbody data-key={ "service " (service.name) } {
            tr.service {
                td.state { (badge(tone, service.state.as_str())) }
                th.who scope="rowgroup" colspan="2" {
                    span.name { (service.name) }
                    span.frontends {
                        @for vip in service.vips.iter().chain(&service.secondary_vips) {
                            code { (human::socket(vip, service.port)) "/" (service.protocol) }
                        }
                    }
                    (service_detail(service))
                }
                td.weight { span.label { "weight " } (total) }
                (rates(&service.rates))
            }
            @for backend in &service.backends { (row(snapshot, service, backend)) }
            @if service.backends.is_empty() {
                tr.backend {
                    td.state {}
                    td.who colspan="8" { "No backends: add a [[service.backend]]." }
                }
            }
        }
    }
}

fn service_detail(service: &Service) -> Markup {
    let announced = match (service.programmed, service.announced) {
        (false, _) => "not programmed",
        (true, true) => "announced",
        (true, false) => "withdrawn",
    };
    let check = service.check.as_deref().unwrap_or("not checked");
    html! { span.line.dim { (announced) span.sep { " · " } (check) } }
}

fn row(snapshot: &Snapshot, service: &Service, backend: &Backend) -> Markup {
    let tone = match backend.health {
        Health::Up | Health::Unchecked => Tone::Good,
        Health::Draining => Tone::Warn,
        Health::Down => Tone::Bad,
        Health::Unknown => Tone::Idle,
    };
    let socket = human::socket(&backend.address, backend.port);
    html! {
        tr.backend data-key={ "backend " (service.name) " " (socket) }
            data-backend=(socket) data-health=(backend.health) {
            td.state { (badge(tone, backend.health.as_str())) }
            td.who { code { (socket) } }
            td.detail { (backend_detail(snapshot, backend)) }
            td.weight {
                span.label { "weight " }
                (backend.weight)
                (share_bar(service, backend))
            }
            (rates(&backend.rates))
        }
    }
}

/// What is wrong, else the way; and since when. One line whatever happens: rows keep their height.
fn backend_detail(snapshot: &Snapshot, backend: &Backend) -> Markup {
    let way = backend.next_hop;
    let (text, class) = match (&backend.reason, way) {
        (Some(reason), _) => (reason.as_str(), "line bad-text"),
        (None, NextHopState::Resolved) => ("reachable", "line"),
        (None, NextHopState::Resolving) => ("resolving next hop", "line warn-text"),
        (None, NextHopState::Unreachable) => ("next hop does not answer", "line bad-text"),
        (None, NextHopState::NoRoute) => ("no route", "line bad-text"),
    };
    html! {
        span class=(class) title=(text) {
            @let age = since(snapshot, &backend.health_since);
            (text)
            @if !age.0.is_empty() { span.sep { " · " } (age) }
        }
    }
}

/// The part of the service's packets this backend gets, as a bar: weights one can see.
fn share_bar(service: &Service, backend: &Backend) -> Markup {
    let whole: f64 = service.backends.iter().map(|it| it.rates.packets_in).sum();
    let share = if whole > 0.0 { (backend.rates.packets_in / whole).clamp(0.0, 1.0) } else { 0.0 };
    let percent = format!("{:.0}", share * 100.0);
    html! {
        svg.share viewBox="0 0 100 6" preserveAspectRatio="none" role="img"
            aria-label={ (percent) "% of the packets" } {
            rect.track width="100" height="6" {}
            rect.fill width=(percent) height="6" {}
        }
    }
}

fn rates(rates: &Rates) -> Markup {
    let cells = [
        ("pkt/s in", human::si(rates.packets_in)),
        ("pkt/s out", human::si(rates.packets_out)),
        ("bit/s in", human::bits(rates.bytes_in)),
        ("bit/s out", human::bits(rates.bytes_out)),
        ("flows/s", human::si(rates.new_flows)),
    ];
    html! {
        @for (label, value) in cells {
            @let class = if value == "0" { "num zero" } else { "num" };
            td class=(class) data-label=(label) { (value) }
        }
    }
}
