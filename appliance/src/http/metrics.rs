//! `/metrics` in the Prometheus text exposition format 0.0.4.

use super::App;
use super::connections::{Connections, Ended};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sluice_api::{BgpState, Counters, Health, ServiceState, Snapshot, XdpMode};
use std::fmt::{Display, Write as _};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(app): State<App>) -> Response {
    let text = render(&app.snapshot(), app.open_streams(), &app.connections);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// The whole exposition: families in a fixed order, each with its samples together, as the format demands.
fn render(snapshot: &Snapshot, open_streams: usize, connections: &Connections) -> String {
    let mut page = Exposition::default();
    appliance(&mut page, snapshot);
    data_plane(&mut page, snapshot);
    services(&mut page, snapshot);
    backends(&mut page, snapshot);
    bgp(&mut page, snapshot);
    page.gauge("sluice_http_event_streams", "Event streams that are open.")
        .sample(&[], open_streams);
    let mut family = page.counter(
        "sluice_http_connections_ended_total",
        "Connections to the API that a limit has ended, or that the system refused, by reason.",
    );
    for reason in Ended::ALL {
        family.sample(&[("reason", reason.as_str())], connections.ended(reason));
    }
    page.text
}

fn appliance(page: &mut Exposition, snapshot: &Snapshot) {
    let status = &snapshot.status;
    page.gauge("sluice_build_info", "Version of the daemon; always 1.")
        .sample(&[("version", &status.version)], 1);
    let started = crate::human::epoch_seconds(&status.started_at).unwrap_or(0);
    page.gauge("process_start_time_seconds", "When the daemon started, since the epoch.")
        .sample(&[], started);
    page.gauge("sluice_ready", "1 when everything that is configured is at work.")
        .sample(&[], u8::from(status.ready));
    page.gauge("sluice_problems", "Problems that need an operator's eye.")
        .sample(&[], status.problems.len());
    page.gauge("sluice_adopted", "1 when a running data plane was taken over at start.")
        .sample(&[], u8::from(status.adopted));
    page.gauge("sluice_desired_generation", "Generation of the desired state.")
        .sample(&[], status.generation);
    let mut family =
        page.gauge("sluice_source_generation", "Newest generation accepted from the source.");
    for source in &snapshot.sources {
        family.sample(&[("source", &source.name)], source.generation);
    }
    let mut family = page.gauge("sluice_source_services", "Services that the source wants.");
    for source in &snapshot.sources {
        family.sample(&[("source", &source.name)], source.services);
    }
    let mut family = page
        .gauge("sluice_source_problems", "Services of the source that are not served as wanted.");
    for source in &snapshot.sources {
        family.sample(&[("source", &source.name)], source.problems);
    }
    page.gauge("sluice_programmed_generation", "Generation of the state that is programmed.")
        .sample(&[], status.programmed_generation);
}

fn data_plane(page: &mut Exposition, snapshot: &Snapshot) {
    let status = &snapshot.status;
    let mut family = page.gauge("sluice_link_up", "1 when the link is up with carrier.");
    for link in &status.links {
        family.sample(&[("link", &link.name)], u8::from(link.up));
    }
    let mut family =
        page.gauge("sluice_link_xdp_mode", "How XDP is attached to the link: 1 for the mode.");
    for link in &status.links {
        for mode in XdpMode::ALL {
            let labels = [("link", link.name.as_str()), ("mode", mode.as_str())];
            family.sample(&labels, u8::from(link.xdp == *mode));
        }
    }
    let mut family = page.gauge("sluice_link_queues", "Queues of the NIC.");
    for link in &status.links {
        if let Some(queues) = link.queues {
            family.sample(&[("link", &link.name)], queues);
        }
    }
    let mut family = page.gauge(
        "sluice_link_queues_wanted",
        "Queues with which no CPU waits for another one to send by XDP.",
    );
    for link in &status.links {
        if let Some(wanted) = link.queues_wanted {
            family.sample(&[("link", &link.name)], wanted);
        }
    }
    page.gauge("sluice_flows", "Live entries of the flow table.").sample(&[], status.flows);
    page.gauge("sluice_flows_max", "Room of the flow table.").sample(&[], status.max_flows);
    page.counter("sluice_passed_packets_total", "Packets that were not ours, to the kernel.")
        .sample(&[], status.passed.packets);
    page.counter("sluice_passed_bytes_total", "Bytes that were not ours, to the kernel.")
        .sample(&[], status.passed.bytes);
    let mut family = page.counter("sluice_dropped_packets_total", "Packets dropped, by reason.");
    for drop in &snapshot.drops {
        family.sample(&[("reason", &drop.reason)], drop.packets);
    }
}

fn services(page: &mut Exposition, snapshot: &Snapshot) {
    let mut family = page.gauge("sluice_service_state", "State of the service: 1 for the state.");
    for service in &snapshot.services {
        for state in ServiceState::ALL {
            let labels = [("service", service.name.as_str()), ("state", state.as_str())];
            family.sample(&labels, u8::from(service.state == *state));
        }
    }
    let mut family =
        page.gauge("sluice_service_announced", "1 when every VIP that should be announced is.");
    for service in &snapshot.services {
        family.sample(&[("service", &service.name)], u8::from(service.announced));
    }
    let mut family = page.gauge("sluice_service_backends", "Backends of the service, by health.");
    for service in &snapshot.services {
        for health in Health::ALL {
            let number = service.backends.iter().filter(|it| it.health == *health).count();
            let labels = [("service", service.name.as_str()), ("health", health.as_str())];
            family.sample(&labels, number);
        }
    }
    let rows = snapshot
        .services
        .iter()
        .map(|service| (vec![("service", service.name.as_str())], service.counters));
    traffic(page, "service", rows.collect());
    let mut family = page.gauge("sluice_vip_announced", "1 when the VIP is announced to a peer.");
    for vip in &snapshot.vips {
        family.sample(&[("vip", &vip.address)], u8::from(vip.announced));
    }
}

fn backends(page: &mut Exposition, snapshot: &Snapshot) {
    let all: Vec<_> = snapshot
        .services
        .iter()
        .flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
        .map(|(service, backend)| {
            let socket = crate::human::socket(&backend.address, backend.port);
            (service.name.as_str(), socket, backend)
        })
        .collect();
    let mut family = page.gauge("sluice_backend_usable", "1 when the backend may get new flows.");
    for (service, socket, backend) in &all {
        let usable = matches!(backend.health, Health::Up | Health::Unchecked);
        family.sample(&[("service", service), ("backend", socket)], u8::from(usable));
    }
    let mut family = page.gauge("sluice_backend_weight", "Weight of the backend; 0 drains.");
    for (service, socket, backend) in &all {
        family.sample(&[("service", service), ("backend", socket)], backend.weight);
    }
    let rows = all.iter().map(|(service, socket, backend)| {
        (vec![("service", *service), ("backend", socket.as_str())], backend.counters)
    });
    traffic(page, "backend", rows.collect());
}

/// The three families every counted thing has.
fn traffic(page: &mut Exposition, of: &str, rows: Vec<(Vec<(&'static str, &str)>, Counters)>) {
    let help = "by direction: in is from clients to backends.";
    let mut family =
        page.counter(&format!("sluice_{of}_packets_total"), &format!("Packets balanced, {help}"));
    for (labels, counters) in &rows {
        family.directions(labels, counters.packets_in, counters.packets_out);
    }
    let mut family =
        page.counter(&format!("sluice_{of}_bytes_total"), &format!("Bytes balanced, {help}"));
    for (labels, counters) in &rows {
        family.directions(labels, counters.bytes_in, counters.bytes_out);
    }
    let mut family = page.counter(&format!("sluice_{of}_flows_total"), "Flows begun.");
    for (labels, counters) in &rows {
        family.sample(labels, counters.new_flows);
    }
}

fn bgp(page: &mut Exposition, snapshot: &Snapshot) {
    let mut family = page.gauge("sluice_bgp_peer_up", "1 when the session is Established.");
    for peer in &snapshot.peers {
        let up = u8::from(peer.state == BgpState::Established);
        family.sample(&[("peer", &peer.address), ("asn", &peer.asn.to_string())], up);
    }
    let mut family =
        page.gauge("sluice_bgp_peer_state", "State of RFC 4271 section 8.2.2: 1 for the state.");
    for peer in &snapshot.peers {
        for state in BgpState::ALL {
            let labels = [("peer", peer.address.as_str()), ("state", state.as_str())];
            family.sample(&labels, u8::from(peer.state == *state));
        }
    }
    let mut family =
        page.gauge("sluice_bgp_peer_announced_prefixes", "Prefixes announced to the peer.");
    for peer in &snapshot.peers {
        family.sample(&[("peer", &peer.address)], peer.announced);
    }
    let mut family =
        page.gauge("sluice_bgp_peer_received_prefixes", "Prefixes the peer announced to us.");
    for peer in &snapshot.peers {
        family.sample(&[("peer", &peer.address)], peer.received);
    }
    let mut family = page.counter("sluice_bgp_peer_messages_total", "Messages, by direction.");
    for peer in &snapshot.peers {
        family.directions(&[("peer", &peer.address)], peer.messages_in, peer.messages_out);
    }
    let mut family =
        page.counter("sluice_bgp_peer_flaps_total", "How often an established session was lost.");
    for peer in &snapshot.peers {
        family.sample(&[("peer", &peer.address)], peer.flaps);
    }
    page.gauge("sluice_bgp_routes", "Prefixes of the announced set.")
        .sample(&[], snapshot.routes.len());
}

/// The text as it grows.
#[derive(Default)]
struct Exposition {
    text: String,
}

/// One family that is being written; its header is out already.
struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Exposition {
    fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, "gauge")
    }

    fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, "counter")
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) -> Family<'_> {
        // Writing to a String cannot fail.
        _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: &mut self.text, name: name.to_owned() }
    }
}

impl Family<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.name);
        let mut separator = '{';
        for (name, value) in labels {
            _ = write!(self.text, "{separator}{name}=\"{}\"", escaped(value));
            separator = ',';
        }
        let close = if labels.is_empty() { "" } else { "}" };
        _ = writeln!(self.text, "{close} {value}");
    }

    fn directions(&mut self, labels: &[(&str, &str)], inward: u64, outward: u64) {
        for (direction, value) in [("in", inward), ("out", outward)] {
            let with: Vec<_> = labels.iter().copied().chain([("direction", direction)]).collect();
            self.sample(&with, value);
        }
    }
}

/// Label values escape backslash, quote and line feed (exposition format, "Comments, help text, and type information").
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::demo_snapshot::demo_snapshot;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// `SLUICE_REGENERATE=1 cargo test -p sluice metrics` writes the file anew.
    #[test]
    fn the_exposition_is_the_golden_one() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/golden/metrics.txt");
        let text = render(&demo_snapshot(0), 3, &Connections::default());
        if std::env::var_os("SLUICE_REGENERATE").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        for (line, (ours, theirs)) in text.lines().zip(golden.lines()).enumerate() {
            assert_eq!(ours, theirs, "line {}", line + 1);
        }
        assert_eq!(text, golden);
    }

    /// The rules of the format that a scraper enforces.
    #[test]
    fn the_exposition_is_well_formed() {
        let text = render(&demo_snapshot(0), 0, &Connections::default());
        assert!(text.ends_with('\n'));
        let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
        let mut family = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split_once(' ').unwrap();
                assert!(families.insert(family.0), "{line}: the family is split");
                assert_eq!(family.1 == "counter", family.0.ends_with("_total"), "{line}");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(series.split('{').next().unwrap(), family.0, "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(samples.insert(series), "{line}: the series is there twice");
            }
        }
        assert!(families.len() > 25 && samples.len() > 100, "{}", samples.len());
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Exposition::default();
        page.gauge("g", "Help.").sample(&[("l", "a\\b\"c\nd")], 1);
        assert_eq!(page.text, "# HELP g Help.\n# TYPE g gauge\ng{l=\"a\\\\b\\\"c\\nd\"} 1\n");
    }
}
