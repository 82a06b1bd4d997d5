//! BGP, VIPs, links and drops.

use super::parts::{Tone, badge, empty, heading, since};
use crate::human;
use maud::{Markup, html};
use sluice_api::{BgpPeer, BgpRoute, BgpState, Link, Snapshot, Vip, XdpMode};

pub(super) fn bgp(snapshot: &Snapshot) -> Markup {
    let status = &snapshot.status;
    let note = match &status.bgp {
        Some(bgp) if bgp.graceful_restart_seconds > 0 => {
            format!("AS {} · graceful restart {}s", bgp.asn, bgp.graceful_restart_seconds)
        }
        Some(bgp) => format!("AS {} · no graceful restart", bgp.asn),
        None => String::new(),
    };
    html! {
        (heading("bgp-title", "BGP", &note))
        @if snapshot.peers.is_empty() {
            @if status.bgp.is_none() {
                (empty(
                    "BGP is off: nothing is announced. Add [bgp] and a peer to the configuration.",
                    "[bgp]\nasn = 64512\nrouter-id = \"10.0.0.2\"\n\n[[bgp.peer]]\naddress = \"10.0.0.1\"\nasn = 64513",
                ))
            } @else {
                (empty(
                    "No peers yet. Add a [[bgp.peer]] to the configuration.",
                    "[[bgp.peer]]\naddress = \"10.0.0.1\"\nasn = 64513",
                ))
            }
        } @else {
            ul.peers { @for peer in &snapshot.peers { (peer_item(snapshot, peer)) } }
            (routes(&snapshot.routes))
        }
    }
}

fn peer_item(snapshot: &Snapshot, peer: &BgpPeer) -> Markup {
    let tone = match peer.state {
        BgpState::Established => Tone::Good,
        BgpState::OpenSent | BgpState::OpenConfirm => Tone::Warn,
        BgpState::Idle | BgpState::Connect | BgpState::Active => Tone::Bad,
    };
    let hold = peer.hold_time_seconds.map_or("–".to_owned(), |seconds| format!("{seconds}s"));
    html! {
        li data-key={ "peer " (peer.address) } data-peer=(peer.address) data-state=(peer.state) {
            div.peer-head {
                (badge(tone, peer.state.as_str()))
                code { (peer.address) }
                span.dim { "AS " (peer.asn) }
                span.age { (since(snapshot, &peer.since)) }
            }
            dl.pairs {
                div { dt { "announced" } dd { (peer.announced) } }
                div { dt { "received" } dd { (peer.received) } }
                div { dt { "hold" } dd { (hold) } }
                div { dt { "flaps" } dd { (peer.flaps) } }
                div {
                    dt { "messages" }
                    dd { (human::count(peer.messages_in)) " in, " (human::count(peer.messages_out)) " out" }
                }
            }
            p.last-error {
                @match &peer.last_error {
                    Some(error) => span.warn-text title=(error) { "last error: " (error) },
                    None => span { "no error so far" },
                }
            }
            @if !peer.errors.is_empty() {
                details {
                    summary { "last errors of each kind" }
                    ul.capabilities {
                        @for error in &peer.errors { li { (error.kind) ", " (error.at) ": " (error.text) } }
                    }
                }
            }
            @if !peer.capabilities.is_empty() {
                details {
                    summary { (peer.capabilities.len()) " capabilities in use" }
                    ul.capabilities { @for name in &peer.capabilities { li { (name) } } }
                }
            }
        }
    }
}

fn routes(routes: &[BgpRoute]) -> Markup {
    html! {
        h3 { "Announced routes" span.dim { " " (routes.len()) } }
        @if routes.is_empty() {
            (empty("Nothing is announced: no service has a usable backend.", ""))
        } @else {
            table.slim {
                thead {
                    tr {
                        th scope="col" { "Prefix" }
                        th scope="col" { "To" }
                        th scope="col" { "Attributes" }
                    }
                }
                tbody {
                    @for route in routes {
                        tr data-key=(route.prefix) data-route=(route.prefix) {
                            th scope="row" { code { (route.prefix) } }
                            td title=(route.peers.join(", ")) { (peers(route)) }
                            td { (attributes(route)) }
                        }
                    }
                }
            }
        }
    }
}

fn peers(route: &BgpRoute) -> String {
    match route.peers.as_slice() {
        [] => "nobody".to_owned(),
        [_] => "1 peer".to_owned(),
        peers => format!("{} peers", peers.len()),
    }
}

fn attributes(route: &BgpRoute) -> String {
    let med = route.med.map(|med| format!("med {med}"));
    let local_pref = route.local_pref.map(|pref| format!("local-pref {pref}"));
    let parts: Vec<String> =
        med.into_iter().chain(local_pref).chain(route.communities.iter().cloned()).collect();
    if parts.is_empty() { "–".to_owned() } else { parts.join(", ") }
}

pub(super) fn vips(snapshot: &Snapshot) -> Markup {
    html! {
        (heading("vips-title", "Virtual IPs", &count(snapshot.vips.len())))
        @if snapshot.vips.is_empty() {
            (empty("No virtual IPs: a service's vips appear here.", ""))
        } @else {
            table.slim {
                thead {
                    tr {
                        th scope="col" { "Address" }
                        th scope="col" { "State" }
                        th scope="col" { "Services" }
                    }
                }
                tbody {
                    @for vip in &snapshot.vips {
                        tr data-key=(vip.address) data-vip=(vip.address) {
                            th scope="row" { code { (vip.address) } }
                            td { (vip_badge(vip)) }
                            td { (vip.services.join(", ")) }
                        }
                    }
                }
            }
        }
    }
}

fn vip_badge(vip: &Vip) -> Markup {
    match (vip.on_link, vip.announced) {
        (true, true) => badge(Tone::Good, "announced"),
        (true, false) => badge(Tone::Warn, "withdrawn"),
        (false, _) => badge(Tone::Bad, "not on lo"),
    }
}

pub(super) fn links(snapshot: &Snapshot) -> Markup {
    let links = &snapshot.status.links;
    html! {
        (heading("links-title", "Links", &count(links.len())))
        @if links.is_empty() {
            (empty(
                "No link matches [data-plane] interfaces: no packet is balanced.",
                "[data-plane]\ninterfaces = [\"eth*\"]",
            ))
        } @else {
            table.slim {
                thead {
                    tr {
                        th scope="col" { "Link" }
                        th scope="col" { "Carrier" }
                        th scope="col" { "XDP" }
                        th scope="col" { "Queues" }
                    }
                }
                tbody {
                    @for link in links {
                        tr data-key=(link.name) {
                            th scope="row" { code { (link.name) } span.dim { " #" (link.index) } }
                            td {
                                @if link.up { (badge(Tone::Good, "up")) }
                                @else { (badge(Tone::Bad, "down")) }
                            }
                            td { (xdp_badge(link)) }
                            td { (human::queues(link)) @if let Some(driver) = &link.driver { " " span.dim { (driver) } } }
                        }
                    }
                }
            }
        }
    }
}

fn xdp_badge(link: &Link) -> Markup {
    let tone = match link.xdp {
        XdpMode::Native => Tone::Good,
        XdpMode::Generic => Tone::Warn,
        XdpMode::Detached => Tone::Bad,
    };
    badge(tone, link.xdp.as_str())
}

pub(super) fn drops(snapshot: &Snapshot) -> Markup {
    let passed = human::count(snapshot.status.passed.packets);
    html! {
        (heading("drops-title", "Drops", &format!("{passed} packets passed to the kernel")))
        @if snapshot.drops.is_empty() {
            (empty("The data plane has not been read yet.", ""))
        } @else {
            table.slim.drops {
                thead {
                    tr {
                        th scope="col" { "Reason" }
                        th.num scope="col" { "per second" }
                        th.num scope="col" { "packets" }
                    }
                }
                tbody {
                    @for drop in &snapshot.drops {
                        tr data-key=(drop.reason) class=[(drop.packets == 0).then_some("zero")] {
                            th scope="row" { (drop.reason.replace('_', " ")) }
                            td.num { (human::si(drop.rate)) }
                            td.num { (drop.packets) }
                        }
                    }
                }
            }
        }
    }
}

fn count(number: usize) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}
