//! A made-up snapshot that moves, for tests and for looking at the page without an appliance. Never in the product.

use sluice_api::{
    Backend, BgpPeer, BgpRoute, BgpSpeaker, BgpState, Counters, Drop, Health, Link, NextHopState,
    Protocol, RatePoint, Rates, Service, ServiceState, Snapshot, SourceSummary, Status, Traffic,
    Vip, XdpMode,
};

/// 2026-05-04T12:00:00Z, when the made-up appliance started.
const STARTED: u64 = 1_777_896_000;
/// How long it had been up at second 0.
const UPTIME: u64 = 273_600 + 754;

/// The snapshot of second `t`. Backend `10.1.0.12` of `web` is down in every second half minute.
pub(super) fn demo_snapshot(t: u64) -> Snapshot {
    let services = vec![web(t), dns(t), metrics_service(t)];
    let history: Vec<RatePoint> = (0..120).map(|i| point(STARTED + UPTIME + t - 119 + i)).collect();
    let rates = history.last().map(|point| point.rates).unwrap_or_default();
    Snapshot {
        status: status(t, rates),
        vips: vips(),
        peers: peers(t),
        routes: routes(),
        sources: vec![SourceSummary {
            name: "prod".to_owned(),
            owner: "0d4c5e9b-7d1f-4a54-9a53-2f6a1f0f9c11".to_owned(),
            generation: (3 << 32) + 17,
            services: 2,
            problems: 1,
        }],
        drops: drops(t),
        services,
        history,
    }
}

fn status(t: u64, rates: Rates) -> Status {
    let mut problems = vec!["service legacy: backend 10.1.9.9:80 has no route".to_owned()];
    if web_backend_is_down(t) {
        problems.push("service web: backend 10.1.0.12:8080 is down: connection refused".to_owned());
    }
    Status {
        version: "0.1.0".to_owned(),
        name: "edge-1".to_owned(),
        started_at: "2026-05-04T12:00:00Z".to_owned(),
        uptime_seconds: UPTIME + t,
        generation: 42,
        programmed_generation: 42,
        adopted: true,
        ready: true,
        degraded: false,
        problems,
        links: vec![
            Link {
                driver: Some("virtio_net".to_owned()),
                queues: Some(2),
                queues_wanted: Some(4),
                ..link("eth0", 2, true, XdpMode::Native)
            },
            link("eth1", 3, true, XdpMode::Generic),
            link("eth2", 4, false, XdpMode::Detached),
        ],
        flows: 48_211 + t % 97,
        max_flows: 1_048_576,
        passed: Traffic { packets: 92_113, bytes: 11_833_002 },
        rates,
        bgp: Some(BgpSpeaker {
            asn: 64512,
            router_id: "10.0.0.2".to_owned(),
            graceful_restart_seconds: 120,
        }),
    }
}

fn link(name: &str, index: u32, up: bool, xdp: XdpMode) -> Link {
    Link { name: name.to_owned(), index, up, xdp, ..Link::default() }
}

fn web_backend_is_down(t: u64) -> bool {
    t % 60 >= 30
}

fn web(t: u64) -> Service {
    let down = web_backend_is_down(t);
    let mut backends = vec![
        backend("web", "10.1.0.11", 8080, 2, Health::Up, t),
        backend("web", "10.1.0.12", 8080, 1, Health::Up, t),
        backend("web", "2001:db8:1::11", 8080, 2, Health::Up, t),
        backend("web", "2001:db8:1::12", 8080, 0, Health::Draining, t),
    ];
    if down {
        backends[1].health = Health::Down;
        backends[1].reason = Some("connection refused".to_owned());
        backends[1].rates = Rates::default();
        backends[1].health_since = "2026-05-07T16:12:34Z".to_owned();
    }
    Service {
        name: "web".to_owned(),
        vips: vec!["203.0.113.10".to_owned(), "2001:db8:113::10".to_owned()],
        secondary_vips: Vec::new(),
        port: 80,
        protocol: Protocol::Tcp,
        state: if down { ServiceState::Degraded } else { ServiceState::Up },
        generation: 40,
        programmed: true,
        announced: true,
        check: Some("http GET /healthz every 1s".to_owned()),
        counters: sum(&backends),
        rates: sum_rates(&backends),
        backends,
    }
}

fn dns(t: u64) -> Service {
    let backends = vec![
        backend("dns", "10.1.0.21", 5353, 1, Health::Unchecked, t),
        backend("dns", "10.1.0.22", 5353, 1, Health::Unchecked, t),
    ];
    Service {
        name: "dns".to_owned(),
        vips: vec!["203.0.113.53".to_owned()],
        secondary_vips: Vec::new(),
        port: 53,
        protocol: Protocol::Udp,
        state: ServiceState::Up,
        generation: 12,
        programmed: true,
        announced: true,
        check: None,
        counters: sum(&backends),
        rates: sum_rates(&backends),
        backends,
    }
}

fn metrics_service(_: u64) -> Service {
    let nowhere = Backend {
        service: "legacy".to_owned(),
        address: "10.1.9.9".to_owned(),
        port: 80,
        weight: 1,
        health: Health::Down,
        health_since: "2026-05-07T10:00:00Z".to_owned(),
        reason: Some("no route to 10.1.9.9".to_owned()),
        next_hop: NextHopState::NoRoute,
        ..Backend::default()
    };
    Service {
        name: "legacy".to_owned(),
        vips: vec!["203.0.113.99".to_owned()],
        port: 443,
        protocol: Protocol::Tcp,
        state: ServiceState::Down,
        generation: 42,
        programmed: true,
        announced: false,
        check: Some("tcp connect every 2s".to_owned()),
        backends: vec![nowhere],
        ..Service::default()
    }
}

fn backend(
    service: &str,
    address: &str,
    port: u16,
    weight: u16,
    health: Health,
    t: u64,
) -> Backend {
    let seed = address.bytes().map(u64::from).sum::<u64>();
    let share = f64::from(weight.max(1));
    let packets_in = if health == Health::Draining { 41.0 } else { share * wave(t + seed, 2100.0) };
    let rates = Rates {
        packets_in,
        bytes_in: packets_in * 180.0,
        packets_out: (packets_in * 1.4).round(),
        bytes_out: (packets_in * 1.4 * 900.0).round(),
        new_flows: if health == Health::Draining { 0.0 } else { (packets_in / 21.0).round() },
    };
    Backend {
        service: service.to_owned(),
        address: address.to_owned(),
        port,
        weight,
        health,
        health_since: "2026-05-04T12:00:02Z".to_owned(),
        reason: None,
        next_hop: NextHopState::Resolved,
        counters: Counters {
            packets_in: 1_000_000 + seed * 1000,
            bytes_in: 180_000_000 + seed,
            packets_out: 1_400_000 + seed * 1400,
            bytes_out: 1_260_000_000 + seed,
            new_flows: 47_000 + seed,
        },
        rates,
    }
}

/// A calm wave around `mean`, in whole numbers, which survive JSON exactly.
fn wave(t: u64, mean: f64) -> f64 {
    let t = f64::from(u32::try_from(t % 100_000).unwrap());
    let swing = 0.18 * (t / 17.0).sin() + 0.07 * (t / 3.1).sin() + 0.05 * (t * 1.7).cos();
    (mean * (1.0 + swing)).round()
}

fn sum(backends: &[Backend]) -> Counters {
    backends.iter().fold(Counters::default(), |sum, one| Counters {
        packets_in: sum.packets_in + one.counters.packets_in,
        bytes_in: sum.bytes_in + one.counters.bytes_in,
        packets_out: sum.packets_out + one.counters.packets_out,
        bytes_out: sum.bytes_out + one.counters.bytes_out,
        new_flows: sum.new_flows + one.counters.new_flows,
    })
}

fn sum_rates(backends: &[Backend]) -> Rates {
    backends.iter().fold(Rates::default(), |sum, one| Rates {
        packets_in: sum.packets_in + one.rates.packets_in,
        bytes_in: sum.bytes_in + one.rates.bytes_in,
        packets_out: sum.packets_out + one.rates.packets_out,
        bytes_out: sum.bytes_out + one.rates.bytes_out,
        new_flows: sum.new_flows + one.rates.new_flows,
    })
}

fn point(at: u64) -> RatePoint {
    let packets_in = wave(at, 12_400.0);
    let packets_out = wave(at + 4, 17_100.0);
    RatePoint {
        at,
        rates: Rates {
            packets_in,
            bytes_in: packets_in * 182.0,
            packets_out,
            bytes_out: packets_out * 880.0,
            new_flows: wave(at * 3, 590.0),
        },
        drops: if at % 41 < 3 { 14.0 } else { 0.0 },
    }
}

fn vips() -> Vec<Vip> {
    [
        ("203.0.113.10", true, "web"),
        ("203.0.113.53", true, "dns"),
        ("203.0.113.99", false, "legacy"),
        ("2001:db8:113::10", true, "web"),
    ]
    .map(|(address, announced, service)| Vip {
        address: address.to_owned(),
        on_link: true,
        announced,
        services: vec![service.to_owned()],
    })
    .to_vec()
}

fn peers(t: u64) -> Vec<BgpPeer> {
    let capabilities = ["multiprotocol ipv4-unicast", "multiprotocol ipv6-unicast", "4-octet AS"];
    vec![
        BgpPeer {
            address: "10.0.0.1".to_owned(),
            asn: 64513,
            state: BgpState::Established,
            since: "2026-05-04T12:00:03Z".to_owned(),
            router_id: Some("10.0.0.1".to_owned()),
            local_address: Some("10.0.0.2:179".to_owned()),
            hold_time_seconds: Some(90),
            capabilities: capabilities.map(str::to_owned).to_vec(),
            capabilities_sent: capabilities.map(str::to_owned).to_vec(),
            capabilities_received: capabilities.map(str::to_owned).to_vec(),
            announced: 3,
            received: 1,
            messages_in: 9_120 + t / 30,
            messages_out: 9_131 + t / 30,
            flaps: 0,
            last_error: None,
            errors: Vec::new(),
        },
        BgpPeer {
            address: "2001:db8::3".to_owned(),
            asn: 4_200_000_001,
            state: BgpState::Active,
            since: "2026-05-07T15:58:00Z".to_owned(),
            flaps: 2,
            messages_in: 811,
            messages_out: 830,
            last_error: Some("hold timer expired (4/0)".to_owned()),
            ..BgpPeer::default()
        },
    ]
}

fn routes() -> Vec<BgpRoute> {
    [("2001:db8:113::10/128", "web"), ("203.0.113.10/32", "web"), ("203.0.113.53/32", "dns")]
        .map(|(prefix, service)| BgpRoute {
            prefix: prefix.to_owned(),
            services: vec![service.to_owned()],
            med: None,
            local_pref: None,
            communities: vec!["64512:100".to_owned()],
            peers: vec!["10.0.0.1".to_owned()],
        })
        .to_vec()
}

fn drops(t: u64) -> Vec<Drop> {
    [
        ("no_backend", 812, 0.0),
        ("no_next_hop", 4_211 + t, 1.0),
        ("malformed", 17, 0.0),
        ("unknown_port", 90_210 + t * 3, 3.0),
        ("ttl_exceeded", 0, 0.0),
        ("flow_table_full", 0, 0.0),
    ]
    .map(|(reason, packets, rate)| Drop { reason: reason.to_owned(), packets, rate })
    .to_vec()
}
