//! Single cases of what is planned.

use super::*;

#[test]
fn only_usable_backends_are_programmed() {
    let weights = [1, 1, 0, 1, 1];
    let backends: Vec<(&str, u16)> = BACKENDS.into_iter().zip(weights).collect();
    let programmed = |(asked, on_down), verdicts: [Verdict; 3], lost: &[&str]| {
        let plain = testing::service("web", &VIPS[..1], &backends);
        let desired = Desired::new(Generation(1), [Service { health: asked, on_down, ..plain }]).0;
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
    let checked = || (Some(check()), OnDown::Reset);
    let drains = || (Some(check()), OnDown::Drain);
    let cases = [
        (
            "unchecked",
            (None, OnDown::Drain),
            [Down; 3],
            set(&[("10.1.0.1:80", 1), ("10.1.0.2:80", 1), ("10.1.0.3:80", 0)]),
            true,
            &[][..],
        ),
        (
            "unchecked, one without a way",
            (None, OnDown::Drain),
            [Up; 3],
            set(&[("10.1.0.2:80", 1), ("10.1.0.3:80", 0)]),
            true,
            &["10.1.0.1"],
        ),
        (
            "one down",
            checked(),
            [Up, Down, Up],
            set(&[("10.1.0.1:80", 1), ("10.1.0.3:80", 0)]),
            true,
            &[],
        ),
        (
            "all without a way",
            checked(),
            [Up; 3],
            set(&[]),
            false,
            &["10.1.0.1", "10.1.0.2", "10.1.0.3"],
        ),
        ("unknown", checked(), [Unknown; 3], set(&[]), false, &[]),
        (
            "only the draining one is up",
            checked(),
            [Down, Down, Up],
            set(&[("10.1.0.3:80", 0)]),
            false,
            &[],
        ),
        (
            "one down, which keeps its flows",
            drains(),
            [Up, Down, Up],
            set(&[("10.1.0.1:80", 1), ("10.1.0.2:80", 0), ("10.1.0.3:80", 0)]),
            true,
            &[],
        ),
        (
            "one down and without a way",
            drains(),
            [Up, Down, Up],
            set(&[("10.1.0.1:80", 1), ("10.1.0.3:80", 0)]),
            true,
            &["10.1.0.2"],
        ),
        (
            "all down, which keep their flows, get no new ones",
            drains(),
            [Down; 3],
            set(&[("10.1.0.1:80", 0), ("10.1.0.2:80", 0), ("10.1.0.3:80", 0)]),
            false,
            &[],
        ),
        ("all down", checked(), [Down; 3], set(&[]), false, &[]),
    ];
    for (name, check, verdicts, backends, announced, lost) in cases {
        assert_eq!(programmed(check, verdicts, lost), (backends, announced), "{name}");
    }
}

#[test]
fn the_first_service_of_a_vip_decides_its_route() {
    let service = |name: &str, port, med, vips: &[&str]| Service {
        port,
        route: RouteAttributes { med, ..RouteAttributes::default() },
        ..testing::service(name, vips, &[(BACKENDS[0], 1)])
    };
    let services = [
        service("b", 81, Some(7), &[VIPS[0], VIPS[1]]),
        service("a", 80, Some(5), &[VIPS[0]]),
        service("c", 82, Some(5), &[VIPS[0]]),
    ];
    let desired = Desired::new(Generation(1), services).0;
    let wanted = Wanted::new(&desired, &Health::default(), Refused::default());
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
fn between_a_vip_and_a_backend_the_operator_and_then_the_first_decides() {
    let with = |vip_configured: bool, backend_configured: bool, seated: Option<bool>| {
        let services = [
            Service {
                is_configured: vip_configured,
                ..testing::service("v", &["203.0.113.11"], &[(BACKENDS[0], 1)])
            },
            Service {
                is_configured: backend_configured,
                ..testing::service("b", &["203.0.113.10"], &[(BACKENDS[5], 1), (BACKENDS[1], 1)])
            },
        ];
        let desired = Desired::new(Generation(1), services).0;
        let mut observed = Observed::default();
        match seated {
            Some(true) => drop(observed.addresses.insert(VIPS[1].parse().unwrap())),
            Some(false) => {
                let frontend = desired.services().flat_map(Service::frontends).next().unwrap();
                let served = testing::service("b", &[], &[(BACKENDS[5], 1)]);
                let program = Program { backends: served.backends, ..a_program() };
                observed.programs.insert(frontend, program);
            }
            None => {}
        }
        let mut health = Health::default();
        health.adopt(&observed);
        let refused = Refused::new(&desired, &health, &Reserved::default(), &observed.host);
        let words =
            desired.services().flat_map(|service| refused.words(service)).collect::<Vec<_>>();
        let wanted = Wanted::new(&desired, &health, refused);
        assert!(diff(&wanted, &observed).len() > 1, "the rest is served");
        words
    };
    let vip_loses = ["VIP 203.0.113.11 is refused: it is a backend's of service b"];
    let backend_loses = ["backend 203.0.113.11 is left out: it is a VIP of service v"];
    for both in [false, true] {
        assert_eq!(with(both, both, Some(true)), backend_loses);
        assert_eq!(with(both, both, Some(false)), vip_loses);
        assert_eq!(with(both, both, None), backend_loses);
    }
    assert_eq!(with(true, false, Some(false)), backend_loses);
    assert_eq!(with(false, true, Some(true)), vip_loses);
}

#[test]
fn under_nat64_an_ipv6_vip_is_announced_for_its_ipv4_backends() {
    let plain = testing::service("web", &VIPS[2..3], &[(BACKENDS[0], 1)]);
    let service = |nat64| Service { nat64, ..plain.clone() };
    for nat64 in [false, true] {
        let desired = Desired::new(Generation(1), [service(nat64)]).0;
        let wanted = Wanted::new(&desired, &Health::default(), Refused::default());
        let backends: Vec<_> = wanted.programs.values().flat_map(|p| &p.backends).collect();
        assert_eq!(backends.len(), usize::from(nat64));
        assert_eq!(wanted.announces(VIPS[2].parse().unwrap()), nat64);
    }
}

#[test]
fn what_the_data_plane_has_no_place_for_is_left_out_and_said() {
    let many: Vec<String> = (0..500).map(|n| format!("10.2.{}.{}:80", n / 250, n % 250)).collect();
    let many: Vec<(&str, u16)> = many.iter().map(|text| (text.as_str(), 1)).collect();
    let port = |name: &str, port| Service {
        port,
        ..testing::service(
            name,
            &VIPS[..1],
            &[(BACKENDS[0], 1), (BACKENDS[1], u16::from(port == 131))],
        )
    };
    let crowd = (101..=140).map(|number| port(&format!("p{number}"), number));
    let others = [
        testing::service("few", &VIPS[1..2], &many[..409]),
        testing::service("many", &VIPS[1..2], &many),
    ];
    let many = Service { port: 81, ..others[1].clone() };
    let desired = Desired::new(Generation(1), crowd.chain([others[0].clone(), many])).0;
    let wanted = Wanted::new(&desired, &Health::default(), Refused::default());
    let weighted = |name: &str| {
        let service = desired.service(&sluice_model::ServiceName(name.into())).unwrap();
        let frontend = service.frontends().next().unwrap();
        wanted.programs[&frontend].backends.iter().filter(|b| b.weight > 0).count()
    };
    assert_eq!((weighted("few"), weighted("many")), (409, 409));
    // Weight 0 takes a place as well.
    assert_eq!((weighted("p101"), weighted("p130"), weighted("p131")), (1, 1, 0));
    let said: Vec<&str> = wanted.excess.keys().map(|name| name.0.as_str()).collect();
    assert_eq!((said.len(), said[0], said[1], said[10]), (11, "many", "p131", "p140"));
    assert_eq!(
        wanted.excess.values().take(2).map(ToString::to_string).collect::<Vec<_>>(),
        [
            "port 81/tcp of 203.0.113.11 has 500 usable backends, and new flows go to 409, as many as the data plane holds",
            "10.1.0.1:80 is no backend of port 131/tcp of 203.0.113.10: 30 other frontends lead to it, as many as the data plane can tell apart",
        ]
    );
}
