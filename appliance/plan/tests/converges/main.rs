//! The plan in a simulated world: it converges from anywhere, keeps the rules at every step, and survives failures.

#![expect(clippy::unwrap_used, reason = "a panic in a test's helper is the report")]

mod cases;

use proptest::prelude::*;
use sluice_model::{
    Backend, Desired, Frontend, Generation, Health, HealthCheck, Holder, HostAddress, NoBackend,
    Observed, OnDown, Prefixes, Probe, Program, Protocol, Reserved, RouteAttributes, Service,
    Verdict, canonical_backends, host_prefix, testing,
};
use sluice_plan::{Refused, Step, Wanted, diff};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A small universe, so that what is and what should be meet often.
const VIPS: [&str; 4] = ["203.0.113.10", "203.0.113.11", "2001:db8:113::10", "2001:db8:113::11"];
const BACKENDS: [&str; 6] = [
    "10.1.0.1:80",
    "10.1.0.2:80",
    "10.1.0.3:80",
    "[2001:db8:1::1]:80",
    "[2001:db8:1::2]:80",
    // A VIP: who is it?
    "203.0.113.11:80",
];
/// Addresses that the host, or who it talks to, may have.
const TAKEN: [&str; 5] =
    ["203.0.113.10", "203.0.113.11", "2001:db8:113::10", "10.1.0.1", "2001:db8:1::1"];

/// The plan, where nothing but the host's own addresses is reserved.
fn plan(desired: &Desired, observed: &Observed, health: &Health) -> Vec<Step> {
    sluice_plan::plan(desired, observed, health, &Reserved::default())
}

fn host() -> impl Strategy<Value = BTreeSet<HostAddress>> {
    let has = |address: &str| HostAddress {
        net: host_prefix(address.parse().unwrap()),
        link: "eth0".into(),
    };
    prop::collection::btree_set(prop::sample::select(TAKEN.to_vec()).prop_map(has), 0..3)
}

fn reserved() -> impl Strategy<Value = Reserved> {
    let peers = prop::collection::vec(prop::sample::select(TAKEN.to_vec()), 0..3);
    (peers, any::<bool>()).prop_map(|(peers, denies)| {
        let deny = if denies { vec![host_prefix(VIPS[3].parse().unwrap())] } else { Vec::new() };
        let mut reserved = Reserved::default();
        reserved.vips = Prefixes { deny, ..Prefixes::default() };
        for peer in peers {
            reserved.hold(peer.parse().unwrap(), Holder::Peer);
        }
        reserved
    })
}

fn vip() -> impl Strategy<Value = IpAddr> {
    prop::sample::select(VIPS.to_vec()).prop_map(|v| v.parse().unwrap())
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]
}

fn frontend() -> impl Strategy<Value = Frontend> {
    (vip(), 80u16..82, protocol()).prop_map(|(vip, port, protocol)| Frontend {
        vip,
        port,
        protocol,
    })
}

fn backend() -> impl Strategy<Value = Backend> {
    (prop::sample::select(BACKENDS.to_vec()), 0u16..3)
        .prop_map(|(address, weight)| Backend { address: address.parse().unwrap(), weight })
}

fn check() -> HealthCheck {
    HealthCheck {
        probe: Probe::TcpConnect,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 2,
        port: None,
    }
}

fn a_program() -> Program {
    Program {
        backends: Vec::new(),
        no_backend: NoBackend::Reject,
        idle_timeout: Duration::from_secs(60),
        source_ranges: Arc::default(),
        affinity: None,
        full_nat: Arc::default(),
        multihomed: false,
    }
}

fn program() -> impl Strategy<Value = Program> {
    (prop::collection::vec(backend(), 0..4), any::<bool>()).prop_map(|(backends, reject)| Program {
        backends: canonical_backends(backends),
        no_backend: if reject { NoBackend::Reject } else { NoBackend::Drop },
        ..a_program()
    })
}

fn service() -> impl Strategy<Value = Service> {
    let vips = (prop::collection::vec(vip(), 1..4), prop::collection::vec(vip(), 0..3));
    let backends = prop::collection::vec(backend(), 0..5);
    let shape = (any::<bool>(), any::<bool>(), any::<[bool; 4]>(), prop::option::of(1u32..3));
    ("[a-d]", vips, 80u16..82, protocol(), backends, shape).prop_map(
        |(
            name,
            vips,
            port,
            protocol,
            backends,
            (checked, reject, [nat, nat64, is_configured, drains], med),
        )| Service {
            vips: vips.0,
            secondary_vips: if protocol == Protocol::Sctp { vips.1 } else { Vec::new() },
            port,
            protocol,
            backends,
            health: checked.then(check),
            on_down: if drains { OnDown::Drain } else { OnDown::Reset },
            no_backend: if reject { NoBackend::Reject } else { NoBackend::Drop },
            full_nat: nat.then(|| "10.0.0.0/8".parse().unwrap()).into_iter().collect(),
            nat64,
            is_configured,
            route: RouteAttributes { med, ..RouteAttributes::default() },
            ..testing::service(&name, &[], &[])
        },
    )
}

fn desired() -> impl Strategy<Value = Desired> {
    prop::collection::vec(service(), 0..5)
        .prop_map(|services| Desired::new(Generation(1), services).0)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Up), Just(Verdict::Down), Just(Verdict::Unknown)]
}

fn verdicts() -> impl Strategy<Value = Vec<Verdict>> {
    prop::collection::vec(verdict(), BACKENDS.len())
}

/// Health with a verdict for each backend of the universe; whoever carries traffic is adopted.
fn health(verdicts: &[Verdict], observed: &Observed) -> Health {
    let mut health = Health {
        verdicts: BACKENDS
            .iter()
            .zip(verdicts)
            .map(|(address, verdict)| {
                let address: SocketAddr = address.parse().unwrap();
                (sluice_model::Target::new(address, &check()), *verdict)
            })
            .collect(),
        ..Health::default()
    };
    health.adopt(observed);
    health
}

fn observed() -> impl Strategy<Value = Observed> {
    let vips = || prop::collection::btree_set(vip(), 0..4);
    let attributes = prop_oneof![
        Just(RouteAttributes::default()),
        Just(RouteAttributes { med: Some(7), ..RouteAttributes::default() })
    ];
    (
        prop::collection::btree_map(frontend(), program(), 0..6),
        vips(),
        vips(),
        host(),
        any::<bool>(),
        prop::collection::btree_map(vip().prop_map(host_prefix), attributes, 0..4),
    )
        .prop_map(|(programs, guarded, addresses, host, attached, announced)| Observed {
            host,
            attached,
            programs,
            guarded,
            addresses,
            announced,
        })
}

/// VIPs that are announced although something they rest on is missing.
fn holes(world: &Observed) -> BTreeSet<IpAddr> {
    world.announced.keys().map(|p| p.addr()).filter(|vip| !world.can_announce(*vip)).collect()
}

/// VIPs the kernel's own stack would answer for; what is the host's it is to answer for.
fn unguarded(world: &Observed) -> BTreeSet<IpAddr> {
    let open = world.addresses.difference(&world.guarded).copied();
    open.filter(|vip| !world.is_host(*vip)).collect()
}

/// What of the host's own does not reach it.
fn locked_out(world: &Observed) -> BTreeSet<IpAddr> {
    let programmed = world.programs.keys().map(|frontend| frontend.vip);
    let taken = world.guarded.iter().copied().chain(programmed);
    taken.filter(|address| world.is_host(*address)).collect()
}

/// Does the steps that are allowed; `fails` says which attempt of all fails. Checks the rules after each step.
fn execute(world: &mut Observed, steps: &[Step], mut fails: impl FnMut() -> bool) -> usize {
    let (mut holes_left, mut unguarded_left) = (holes(world), unguarded(world));
    let mut locked_left = locked_out(world);
    let mut failed = 0;
    for step in steps {
        if step.allowed(world).is_err() || fails() {
            failed += 1;
            continue;
        }
        step.apply(world);
        let (now, open) = (holes(world), unguarded(world));
        assert!(now.is_subset(&holes_left), "{step} announces into a hole: {now:?}");
        assert!(open.is_subset(&unguarded_left), "{step} lets the kernel answer: {open:?}");
        (holes_left, unguarded_left) = (now, open);
        let locked = locked_out(world);
        assert!(locked.is_subset(&locked_left), "{step} takes the host's own: {locked:?}");
        locked_left = locked;
    }
    failed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn converges_in_one_pass_and_then_does_nothing(
        desired in desired(), start in observed(), verdicts in verdicts(),
    ) {
        let health = health(&verdicts, &start);
        let mut world = start;
        let steps = plan(&desired, &world, &health);
        let failed = execute(&mut world, &steps, || false);
        prop_assert_eq!(failed, 0, "a step of a fresh plan was not allowed: {:?}", steps);
        prop_assert_eq!(plan(&desired, &world, &health), Vec::new());
        prop_assert_eq!(holes(&world), BTreeSet::new());
    }

    #[test]
    fn withdraws_every_hole_before_anything_else(
        desired in desired(), start in observed(), verdicts in verdicts(),
    ) {
        let health = health(&verdicts, &start);
        let mut world = start;
        for step in plan(&desired, &world, &health) {
            if !matches!(step, Step::Withdraw(_)) {
                prop_assert_eq!(holes(&world), BTreeSet::new(), "before {}", step);
            }
            step.apply(&mut world);
        }
    }

    #[test]
    fn converges_after_failures(
        desired in desired(), start in observed(), verdicts in verdicts(),
        failures in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..40), 0..4),
    ) {
        let health = health(&verdicts, &start);
        let mut world = start;
        for round in &failures {
            let mut outcomes = round.iter().copied().cycle();
            let steps = plan(&desired, &world, &health);
            execute(&mut world, &steps, || outcomes.next().unwrap());
        }
        let steps = plan(&desired, &world, &health);
        prop_assert_eq!(execute(&mut world, &steps, || false), 0);
        prop_assert_eq!(plan(&desired, &world, &health), Vec::new());
    }

    #[test]
    fn a_service_whose_steps_fail_holds_up_nobody_else(
        desired in desired(), start in observed(), verdicts in verdicts(), bad in vip(),
    ) {
        let health = health(&verdicts, &start);
        let mut world = start;
        for step in plan(&desired, &world, &health) {
            if step.vip() != bad && step.allowed(&world).is_ok() {
                step.apply(&mut world);
            }
        }
        let left: BTreeSet<IpAddr> = plan(&desired, &world, &health).iter().map(Step::vip).collect();
        prop_assert!(left.iter().all(|vip| *vip == bad), "{:?}", left);
    }

    #[test]
    fn nothing_desired_leaves_nothing(start in observed()) {
        let (attached, host) = (start.attached, start.host.clone());
        let nothing = Observed { attached, host, ..Observed::default() };
        let mut world = start;
        let steps = plan(&Desired::default(), &world, &Health::default());
        execute(&mut world, &steps, || false);
        prop_assert_eq!(world, nothing);
    }

    #[test]
    fn nothing_reserved_is_programmed_and_all_else_is(
        desired in desired(), start in observed(), verdicts in verdicts(), reserved in reserved(),
    ) {
        let health = health(&verdicts, &start);
        let mut world = start;
        let steps = sluice_plan::plan(&desired, &world, &health, &reserved);
        prop_assert_eq!(execute(&mut world, &steps, || false), 0, "{:?}", steps);
        prop_assert_eq!(sluice_plan::plan(&desired, &world, &health, &reserved), Vec::new());
        prop_assert_eq!(locked_out(&world), BTreeSet::new());
        let rule = reserved.rule(&world.host);
        for vip in world.guarded.iter().chain(&world.addresses) {
            prop_assert_eq!(rule.vip(*vip), Vec::new(), "{}", vip);
        }
        for (frontend, program) in &world.programs {
            prop_assert_eq!(rule.vip(frontend.vip), Vec::new(), "{}", frontend);
            for backend in &program.backends {
                let ip = backend.address.ip();
                prop_assert_eq!(rule.backend(ip, true), Vec::new(), "{}", ip);
                prop_assert!(!world.addresses.contains(&ip), "{} is a VIP and a backend", ip);
            }
        }
        // Nobody else's address is left out with it.
        let refused = Refused::new(&desired, &health, &reserved, &world.host);
        for frontend in desired.services().flat_map(Service::frontends) {
            let is_left_out = refused.vips.contains_key(&frontend.vip);
            prop_assert_eq!(world.programs.contains_key(&frontend), !is_left_out);
            let contested = desired.services().any(|s| s.backends.iter().any(|b| b.address.ip() == frontend.vip));
            prop_assert!(!is_left_out || contested || !rule.vip(frontend.vip).is_empty());
        }
    }

    #[test]
    fn an_address_that_appears_takes_its_vip_and_gives_it_back(
        desired in desired(), verdicts in verdicts(), reserved in reserved(), host in host(),
    ) {
        let mut world = Observed { attached: true, ..Observed::default() };
        let mut health = health(&verdicts, &world);
        let pass = |world: &mut Observed, health: &Health| {
            let steps = sluice_plan::plan(&desired, world, health, &reserved);
            execute(world, &steps, || false)
        };
        prop_assert_eq!(pass(&mut world, &health), 0);
        health.adopt(&world);
        let before = world.clone();
        world.host.clone_from(&host);
        prop_assert_eq!(pass(&mut world, &health), 0);
        for has in &host {
            prop_assert!(!world.guarded.contains(&has.net.addr()));
            prop_assert!(!world.addresses.contains(&has.net.addr()));
            prop_assert!(!world.announces(has.net.addr()));
        }
        world.host.clear();
        prop_assert_eq!(pass(&mut world, &health), 0);
        prop_assert_eq!(world, before);
    }

    #[test]
    fn a_restart_changes_nothing_that_carries_traffic(
        desired in desired(), verdicts in verdicts(),
    ) {
        // Converge once, then forget what the process knew: announcements and verdicts, not the kernel's state.
        let mut world = Observed { attached: true, ..Observed::default() };
        let known = health(&verdicts, &world);
        let steps = plan(&desired, &world, &known);
        execute(&mut world, &steps, || false);
        let before = world.clone();
        world.announced.clear();
        let mut unknown = Health::default();
        unknown.adopt(&world);
        let steps = plan(&desired, &world, &unknown);
        execute(&mut world, &steps, || false);
        prop_assert_eq!(world, before);
    }
}

proptest! {
    #[test]
    fn nothing_is_announced_while_the_data_plane_is_detached(
        desired in desired(), start in observed(), verdicts in verdicts(),
    ) {
        let health = health(&verdicts, &start);
        let mut world = Observed { attached: false, ..start };
        let steps = plan(&desired, &world, &health);
        execute(&mut world, &steps, || false);
        prop_assert!(world.announced.is_empty());
    }
}
