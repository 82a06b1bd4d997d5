//! The plan in a simulated world: it converges from anywhere, keeps the rules at every step, and survives failures.

#![expect(clippy::unwrap_used, reason = "a panic in a test's helper is the report")]

use proptest::prelude::*;
use sluice_model::{
    Backend, Desired, Frontend, Generation, Health, HealthCheck, NoBackend, Observed, Probe,
    Program, Protocol, RouteAttributes, Service, ServiceName, Verdict, canonical_backends,
    host_prefix,
};
use sluice_plan::{Step, Wanted, plan};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A small universe, so that what is and what should be meet often.
const VIPS: [&str; 4] = ["203.0.113.10", "203.0.113.11", "2001:db8:113::10", "2001:db8:113::11"];
const BACKENDS: [&str; 5] =
    ["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80", "[2001:db8:1::1]:80", "[2001:db8:1::2]:80"];

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

fn program() -> impl Strategy<Value = Program> {
    (prop::collection::vec(backend(), 0..4), any::<bool>()).prop_map(|(backends, reject)| Program {
        backends: canonical_backends(backends),
        no_backend: if reject { NoBackend::Reject } else { NoBackend::Drop },
        idle_timeout: Duration::from_secs(60),
        source_ranges: Arc::default(),
        affinity: None,
        full_nat: Arc::default(),
        multihomed: false,
    })
}

fn service() -> impl Strategy<Value = Service> {
    let vips = (prop::collection::vec(vip(), 1..4), prop::collection::vec(vip(), 0..3));
    let backends = prop::collection::vec(backend(), 0..5);
    let shape = (any::<bool>(), any::<bool>(), any::<[bool; 2]>(), prop::option::of(1u32..3));
    ("[a-d]", vips, 80u16..82, protocol(), backends, shape).prop_map(
        |(name, vips, port, protocol, backends, (checked, reject, [nat, nat64], med))| Service {
            name: ServiceName(name),
            vips: vips.0,
            secondary_vips: if protocol == Protocol::Sctp { vips.1 } else { Vec::new() },
            port,
            protocol,
            backends,
            health: checked.then(check),
            no_backend: if reject { NoBackend::Reject } else { NoBackend::Drop },
            idle_timeout: Duration::from_secs(60),
            source_ranges: Arc::default(),
            affinity: None,
            full_nat: nat.then(|| "10.0.0.0/8".parse().unwrap()).into_iter().collect(),
            nat64,
            route: RouteAttributes { med, ..RouteAttributes::default() },
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
        any::<bool>(),
        prop::collection::btree_map(vip().prop_map(host_prefix), attributes, 0..4),
    )
        .prop_map(|(programs, guarded, addresses, attached, announced)| Observed {
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

/// VIPs the kernel's own stack would answer for.
fn unguarded(world: &Observed) -> BTreeSet<IpAddr> {
    world.addresses.difference(&world.guarded).copied().collect()
}

/// Does the steps that are allowed; `fails` says which attempt of all fails. Checks the rules after each step.
fn execute(world: &mut Observed, steps: &[Step], mut fails: impl FnMut() -> bool) -> usize {
    let (mut holes_left, mut unguarded_left) = (holes(world), unguarded(world));
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
        let nothing = Observed { attached: start.attached, ..Observed::default() };
        let mut world = start;
        let steps = plan(&Desired::default(), &world, &Health::default());
        execute(&mut world, &steps, || false);
        prop_assert_eq!(world, nothing);
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

#[test]
fn only_usable_backends_are_programmed() {
    let service = |health| Service {
        name: ServiceName("web".into()),
        vips: vec!["203.0.113.10".parse().unwrap()],
        secondary_vips: Vec::new(),
        port: 80,
        protocol: Protocol::Tcp,
        backends: BACKENDS
            .iter()
            .zip([1, 1, 0, 1, 1])
            .map(|(a, weight)| Backend { address: a.parse().unwrap(), weight })
            .collect(),
        health,
        no_backend: NoBackend::Reject,
        idle_timeout: Duration::from_secs(60),
        source_ranges: Arc::default(),
        affinity: None,
        full_nat: Arc::default(),
        nat64: false,
        route: RouteAttributes::default(),
    };
    let programmed = |health_check: Option<HealthCheck>, verdicts: [Verdict; 3], lost: &[&str]| {
        let desired = Desired::new(Generation(1), [service(health_check)]).0;
        let mut health = health(&verdicts, &Observed::default());
        health.without_way = lost.iter().map(|address| address.parse().unwrap()).collect();
        let mut world = Observed { attached: true, ..Observed::default() };
        for step in plan(&desired, &world, &health) {
            step.apply(&mut world);
        }
        let program = world.programs.into_values().next().unwrap();
        let backends: BTreeMap<String, u16> =
            program.backends.iter().map(|b| (b.address.to_string(), b.weight)).collect();
        (backends, !world.announced.is_empty())
    };
    let set = |of: &[(&str, u16)]| -> BTreeMap<String, u16> {
        of.iter().map(|(a, w)| (a.to_string(), *w)).collect()
    };
    use Verdict::{Down, Unknown, Up};
    let cases = [
        (
            "unchecked",
            None,
            [Down; 3],
            set(&[("10.1.0.1:80", 1), ("10.1.0.2:80", 1), ("10.1.0.3:80", 0)]),
            true,
            &[][..],
        ),
        (
            "unchecked, one without a way",
            None,
            [Up; 3],
            set(&[("10.1.0.2:80", 1), ("10.1.0.3:80", 0)]),
            true,
            &["10.1.0.1"],
        ),
        (
            "one down",
            Some(check()),
            [Up, Down, Up],
            set(&[("10.1.0.1:80", 1), ("10.1.0.3:80", 0)]),
            true,
            &[],
        ),
        (
            "all without a way",
            Some(check()),
            [Up; 3],
            set(&[]),
            false,
            &["10.1.0.1", "10.1.0.2", "10.1.0.3"],
        ),
        ("unknown", Some(check()), [Unknown; 3], set(&[]), false, &[]),
        (
            "only the draining one is up",
            Some(check()),
            [Down, Down, Up],
            set(&[("10.1.0.3:80", 0)]),
            false,
            &[],
        ),
        ("all down", Some(check()), [Down; 3], set(&[]), false, &[]),
    ];
    for (name, check, verdicts, backends, announced, lost) in cases {
        assert_eq!(programmed(check, verdicts, lost), (backends, announced), "{name}");
    }
}

#[test]
fn the_first_service_of_a_vip_decides_its_route() {
    let service = |name: &str, port, med, vips: &[&str]| Service {
        name: ServiceName(name.into()),
        vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
        secondary_vips: Vec::new(),
        port,
        protocol: Protocol::Tcp,
        backends: vec![Backend { address: "10.1.0.1:80".parse().unwrap(), weight: 1 }],
        health: None,
        no_backend: NoBackend::Reject,
        idle_timeout: Duration::from_secs(60),
        source_ranges: Arc::default(),
        affinity: None,
        full_nat: Arc::default(),
        nat64: false,
        route: RouteAttributes { med, ..RouteAttributes::default() },
    };
    let services = [
        service("b", 81, Some(7), &[VIPS[0], VIPS[1]]),
        service("a", 80, Some(5), &[VIPS[0]]),
        service("c", 82, Some(5), &[VIPS[0]]),
    ];
    let desired = Desired::new(Generation(1), services).0;
    let wanted = Wanted::new(&desired, &Health::default());
    let meds: Vec<_> = wanted.announced.values().map(|route| route.med).collect();
    assert_eq!(meds, [Some(5), Some(7)]);
    let words: Vec<String> =
        wanted.disagreements.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert_eq!(
        words,
        ["b: 203.0.113.10 is announced with the route attributes of service a; give both the same"]
    );
}

#[test]
fn under_nat64_an_ipv6_vip_is_announced_for_its_ipv4_backends() {
    let service = |nat64| Service {
        name: ServiceName("web".into()),
        vips: vec![VIPS[2].parse().unwrap()],
        secondary_vips: Vec::new(),
        port: 80,
        protocol: Protocol::Tcp,
        backends: vec![Backend { address: BACKENDS[0].parse().unwrap(), weight: 1 }],
        health: None,
        no_backend: NoBackend::Reject,
        idle_timeout: Duration::from_secs(60),
        source_ranges: Arc::default(),
        affinity: None,
        full_nat: Arc::default(),
        nat64,
        route: RouteAttributes::default(),
    };
    for nat64 in [false, true] {
        let desired = Desired::new(Generation(1), [service(nat64)]).0;
        let wanted = Wanted::new(&desired, &Health::default());
        let backends: Vec<_> = wanted.programs.values().flat_map(|p| &p.backends).collect();
        assert_eq!(backends.len(), usize::from(nat64));
        assert_eq!(wanted.announces(VIPS[2].parse().unwrap()), nat64);
    }
}
