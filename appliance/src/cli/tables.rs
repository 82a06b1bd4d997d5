//! The API's answers as tables for people.

use super::table::Align::{Left, Right};
use super::table::Table;
use crate::human;
use sluice_api::{
    Backend, BgpPeer, BgpRoute, Health, NextHopState, Rates, Service, SourceSummary, Status, Vip,
};
use std::fmt::Write as _;

/// The appliance in a few lines, then its links, then its problems.
pub(super) fn status(status: &Status) -> String {
    let mut text = String::new();
    let ready = match (status.ready, status.degraded) {
        (true, _) => "ready",
        (false, false) => "NOT READY",
        (false, true) => "DEGRADED, not ready",
    };
    let adopted = if status.adopted { ", adopted a running data plane" } else { "" };
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        _ = writeln!(text, "{name:<12}{}", human::visible(&value));
    };
    line("appliance", format!("{}, sluice {}", status.name, status.version));
    line("state", ready.to_owned());
    line("up", format!("{}{adopted}", human::duration(status.uptime_seconds)));
    line("generation", generation(status));
    if let Some(bgp) = &status.bgp {
        line("bgp", format!("AS {}, router id {}", bgp.asn, bgp.router_id));
    }
    line("flows", flows(status));
    line("traffic", traffic(&status.rates));
    let mut links = Table::new([
        ("LINK", Left),
        ("INDEX", Right),
        ("STATE", Left),
        ("XDP", Left),
        ("DRIVER", Left),
        ("QUEUES", Left),
    ]);
    for link in &status.links {
        let state = if link.up { "up" } else { "down" };
        links.row([
            link.name.clone(),
            link.index.to_string(),
            state.to_owned(),
            link.xdp.to_string(),
            link.driver.clone().unwrap_or_default(),
            human::queues(link),
        ]);
    }
    _ = write!(text, "\n{}", links.render("no link: nothing matches [data-plane] interfaces"));
    if !status.problems.is_empty() {
        text.push_str("\nPROBLEMS\n");
        for problem in &status.problems {
            _ = writeln!(text, "- {}", human::visible(problem));
        }
    }
    text
}

fn generation(status: &Status) -> String {
    if status.generation == status.programmed_generation {
        format!("{}, programmed", status.generation)
    } else {
        format!("{}, programmed is {}", status.generation, status.programmed_generation)
    }
}

fn flows(status: &Status) -> String {
    if status.max_flows == 0 {
        return human::count(status.flows);
    }
    format!("{} of {}", human::count(status.flows), human::count(status.max_flows))
}

fn traffic(rates: &Rates) -> String {
    format!(
        "in {} packet/s {} bit/s, out {} packet/s {} bit/s, {} new flows/s",
        human::si(rates.packets_in),
        human::bits(rates.bytes_in),
        human::si(rates.packets_out),
        human::bits(rates.bytes_out),
        human::si(rates.new_flows),
    )
}

/// One line a source.
pub(super) fn sources(sources: &[SourceSummary]) -> String {
    let columns = [
        ("SOURCE", Left),
        ("OWNER", Left),
        ("GENERATION", Right),
        ("SERVICES", Right),
        ("PROBLEMS", Right),
    ];
    let mut table = Table::new(columns);
    for source in sources {
        table.row([
            source.name.clone(),
            source.owner.clone(),
            source.generation.to_string(),
            source.services.to_string(),
            source.problems.to_string(),
        ]);
    }
    table.render("no source: no bridge has said anything yet")
}

/// One line a service.
pub(super) fn services(services: &[Service]) -> String {
    let mut table = Table::new([
        ("SERVICE", Left),
        ("STATE", Left),
        ("ADDRESS", Left),
        ("BACKENDS", Right),
        ("ANNOUNCED", Left),
        ("PKT/S", Right),
        ("BIT/S IN", Right),
        ("BIT/S OUT", Right),
        ("FLOWS/S", Right),
    ]);
    for service in services {
        let usable = |it: &&Backend| matches!(it.health, Health::Up | Health::Unchecked);
        let usable = service.backends.iter().filter(usable).count();
        table.row([
            service.name.clone(),
            service.state.to_string(),
            addresses(service),
            format!("{usable}/{}", service.backends.len()),
            yes_no(service.announced),
            human::si(service.rates.packets_in),
            human::bits(service.rates.bytes_in),
            human::bits(service.rates.bytes_out),
            human::si(service.rates.new_flows),
        ]);
    }
    table.render("no services: add a [[service]] to the configuration and reload")
}

/// One service and its backends.
pub(super) fn service(service: &Service) -> String {
    let check = service.check.as_deref().unwrap_or("none");
    let one = std::slice::from_ref(service);
    let check = human::visible(check);
    format!("{}check: {check}\n\n{}", services(one), backends(&service.backends))
}

fn addresses(service: &Service) -> String {
    let all: Vec<String> = service
        .vips
        .iter()
        .chain(&service.secondary_vips)
        .map(|vip| format!("{}/{}", human::socket(vip, service.port), service.protocol))
        .collect();
    all.join(" ")
}

/// One line a backend.
pub(super) fn backends(backends: &[Backend]) -> String {
    let mut table = Table::new([
        ("SERVICE", Left),
        ("BACKEND", Left),
        ("HEALTH", Left),
        ("WEIGHT", Right),
        ("PKT/S", Right),
        ("BIT/S IN", Right),
        ("BIT/S OUT", Right),
        ("FLOWS/S", Right),
        ("DETAIL", Left),
    ]);
    for backend in backends {
        table.row([
            backend.service.clone(),
            human::socket(&backend.address, backend.port),
            backend.health.to_string(),
            backend.weight.to_string(),
            human::si(backend.rates.packets_in),
            human::bits(backend.rates.bytes_in),
            human::bits(backend.rates.bytes_out),
            human::si(backend.rates.new_flows),
            detail(backend),
        ]);
    }
    table.render("no backends")
}

fn detail(backend: &Backend) -> String {
    match (&backend.reason, backend.next_hop) {
        (Some(reason), _) => reason.clone(),
        (None, NextHopState::Resolved) => String::new(),
        (None, way) => format!("next hop {way}"),
    }
}

/// One line a VIP.
pub(super) fn vips(vips: &[Vip]) -> String {
    let mut table =
        Table::new([("VIP", Left), ("ON LO", Left), ("ANNOUNCED", Left), ("SERVICES", Left)]);
    for vip in vips {
        table.row([
            vip.address.clone(),
            yes_no(vip.on_link),
            yes_no(vip.announced),
            vip.services.join(", "),
        ]);
    }
    table.render("no virtual IPs")
}

const NO_PEERS: &str = "no peers: add [bgp] and a [[bgp.peer]] to the configuration";

/// One line a peer; what went wrong beneath.
pub(super) fn peers(peers: &[BgpPeer]) -> String {
    let mut table = Table::new([
        ("PEER", Left),
        ("AS", Right),
        ("STATE", Left),
        ("SINCE", Left),
        ("HOLD", Right),
        ("SENT", Right),
        ("RCVD", Right),
        ("FLAPS", Right),
        ("LAST ERROR", Left),
    ]);
    for peer in peers {
        let hold = peer.hold_time_seconds.map_or("-".to_owned(), |seconds| format!("{seconds}s"));
        table.row([
            peer.address.clone(),
            peer.asn.to_string(),
            peer.state.to_string(),
            peer.since.clone(),
            hold,
            peer.announced.to_string(),
            peer.received.to_string(),
            peer.flaps.to_string(),
            peer.last_error.clone().unwrap_or_default(),
        ]);
    }
    table.render(NO_PEERS)
}

/// A few lines a peer: what is in use, what each side can, and what went wrong of each kind.
pub(super) fn sessions(peers: &[BgpPeer]) -> String {
    if peers.is_empty() {
        return format!("{NO_PEERS}\n");
    }
    peers.iter().map(session).collect::<Vec<_>>().join("\n")
}

fn session(peer: &BgpPeer) -> String {
    let mut text =
        format!("{} (AS {}): {} since {}\n", peer.address, peer.asn, peer.state, peer.since);
    let mut line = |name: &str, words: String| text.push_str(&format!("  {name:<10} {words}\n"));
    let lists = [
        ("in use", &peer.capabilities),
        ("sent", &peer.capabilities_sent),
        ("received", &peer.capabilities_received),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        line(name, list.join(", "));
    }
    for error in &peer.errors {
        line("error", format!("{} {}: {}", error.at, error.kind, error.text));
    }
    text
}

/// One line an announced prefix.
pub(super) fn routes(routes: &[BgpRoute]) -> String {
    let mut table = Table::new([
        ("PREFIX", Left),
        ("SERVICES", Left),
        ("MED", Right),
        ("LOCAL-PREF", Right),
        ("COMMUNITIES", Left),
        ("PEERS", Left),
    ]);
    let number = |value: Option<u32>| value.map_or("-".to_owned(), |value| value.to_string());
    for route in routes {
        table.row([
            route.prefix.clone(),
            route.services.join(", "),
            number(route.med),
            number(route.local_pref),
            if route.communities.is_empty() { "-".to_owned() } else { route.communities.join(" ") },
            if route.peers.is_empty() { "nobody".to_owned() } else { route.peers.join(" ") },
        ]);
    }
    table.render("nothing is announced")
}

fn yes_no(value: bool) -> String {
    if value { "yes".to_owned() } else { "no".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_api::{BgpError, BgpErrorKind, BgpState};

    #[test]
    fn a_dead_backend_tells_why() {
        let backend = Backend {
            service: "web".to_owned(),
            address: "2001:db8::1".to_owned(),
            port: 8080,
            weight: 1,
            health: Health::Down,
            reason: Some("connection refused".to_owned()),
            ..Backend::default()
        };
        let text = backends(&[backend]);
        assert_eq!(
            text,
            "SERVICE  BACKEND             HEALTH  WEIGHT  PKT/S  BIT/S IN  BIT/S OUT  FLOWS/S  DETAIL\n\
             web      [2001:db8::1]:8080  down         1      0         0          0        0  connection refused\n"
        );
    }

    #[test]
    fn a_session_tells_what_it_can_and_what_went_wrong() {
        let error = BgpError {
            kind: BgpErrorKind::Received,
            at: "2026-05-04T12:00:03Z".to_owned(),
            text: "received Cease/Administrative Shutdown (6/2): \"upgrade\"".to_owned(),
        };
        let peer = BgpPeer {
            address: "10.0.0.1".to_owned(),
            asn: 64513,
            state: BgpState::Established,
            since: "2026-05-04T12:01:00Z".to_owned(),
            capabilities: vec!["route refresh".to_owned()],
            capabilities_received: vec!["route refresh".to_owned(), "add-path".to_owned()],
            errors: vec![error],
            ..BgpPeer::default()
        };
        assert_eq!(
            sessions(&[peer]),
            "10.0.0.1 (AS 64513): Established since 2026-05-04T12:01:00Z\n  \
             in use     route refresh\n  \
             received   route refresh, add-path\n  \
             error      2026-05-04T12:00:03Z received: received Cease/Administrative Shutdown (6/2): \"upgrade\"\n"
        );
        assert!(sessions(&[]).starts_with("no peers: "));
    }

    #[test]
    fn problems_come_last() {
        let text = status(&Status {
            name: "edge-1".to_owned(),
            version: "0.1.0".to_owned(),
            generation: 3,
            programmed_generation: 2,
            problems: vec!["no route to 10.1.0.9".to_owned()],
            ..Status::default()
        });
        assert!(text.contains("state       NOT READY\n"), "{text}");
        assert!(text.contains("generation  3, programmed is 2\n"), "{text}");
        assert!(text.ends_with("\nPROBLEMS\n- no route to 10.1.0.9\n"), "{text}");
    }
}
