//! A start that does not know what is wanted: what the kernel carries stays as it is, and is given to whoever claims it.

#![expect(clippy::unwrap_used, reason = "a panic in a test's helper is the report")]

use proptest::prelude::*;
use sluice_model::{
    Desired, Generation, Health, Observed, Protocol, Reserved, Service, canonical_prefixes, held,
    is_held, keep_unclaimed, testing,
};
use sluice_plan::{Step, plan};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const VIPS: [&str; 4] = ["203.0.113.10", "203.0.113.11", "2001:db8:113::10", "2001:db8:113::11"];
const BACKENDS: [(&str, u16); 4] =
    [("10.1.0.1:80", 1), ("10.1.0.2:80", 2), ("[2001:db8:1::1]:80", 1), ("[2001:db8:1::2]:80", 0)];

fn vips() -> impl Strategy<Value = Vec<IpAddr>> {
    prop::collection::vec(prop::sample::select(VIPS.to_vec()), 1..4)
        .prop_map(|vips| vips.into_iter().map(|vip| vip.parse().unwrap()).collect())
}

fn service() -> impl Strategy<Value = Service> {
    let backends = prop::sample::subsequence(BACKENDS.to_vec(), 0..=4);
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let shape = (any::<[bool; 3]>(), 1u64..3, prop::option::of(1u64..3));
    ("[a-d]", vips(), vips(), 80u16..82, protocol, backends, shape).prop_map(
        |(name, vips, second, port, protocol, backends, ([nat, nat64, closed], idle, affinity))| {
            let ranges = |is: bool| canonical_prefixes(is.then(|| "10.0.0.0/8".parse().unwrap()));
            Service {
                vips,
                secondary_vips: if protocol == Protocol::Sctp { second } else { Vec::new() },
                port,
                protocol,
                idle_timeout: Duration::from_secs(idle),
                affinity: affinity.map(Duration::from_secs),
                full_nat: ranges(nat),
                source_ranges: ranges(closed),
                nat64,
                ..testing::service(&name, &[], &backends)
            }
        },
    )
}

/// A world in which these services were served.
fn served(services: Vec<Service>) -> Observed {
    let desired = Desired::new(Generation(1), services).0;
    let mut world = Observed { attached: true, ..Observed::default() };
    for step in plan(&desired, &world, &Health::default(), &Reserved::default()) {
        step.apply(&mut world);
    }
    world
}

fn keeping(world: &Observed) -> Desired {
    let (desired, clashes) = Desired::new(Generation(2), held(world));
    assert!(clashes.is_empty(), "{clashes:?}");
    desired
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_served_stays(services in prop::collection::vec(service(), 0..6)) {
        let world = served(services);
        let desired = keeping(&world);
        prop_assert!(desired.services().all(|service| is_held(&service.name)));
        // The routers were told by a process that is no more; they hear the same prefixes again.
        let announced = world.announced.clone();
        let mut start = Observed { announced: Default::default(), ..world.clone() };
        for step in plan(&desired, &start.clone(), &Health::default(), &Reserved::default()) {
            match &step {
                Step::Announce(..) => {}
                // A single address of several; how new flows choose is all that changes.
                Step::PutProgram(frontend, program) => {
                    let mut before = world.programs[frontend].clone();
                    prop_assert!(before.multihomed && !program.multihomed, "{}", step);
                    before.multihomed = false;
                    prop_assert_eq!(&before, program);
                }
                _ => prop_assert!(false, "{}", step),
            }
            step.apply(&mut start);
        }
        prop_assert!(start.announced.keys().eq(announced.keys()));
    }

    #[test]
    fn who_claims_a_frontend_takes_it_and_nothing_else_moves(
        services in prop::collection::vec(service(), 1..6), claim in service(),
    ) {
        let world = served(services);
        // As the sources are put together: what is held comes last, and gives way.
        let mut desired = Desired::new(Generation(2), [claim.clone()]).0;
        let held: Vec<Arc<Service>> = held(&world).into_iter().map(Arc::new).collect();
        keep_unclaimed(&mut desired, &held);
        let claimed: Vec<_> = claim.canonical().frontends().collect();
        for step in plan(&desired, &world, &Health::default(), &Reserved::default()) {
            prop_assert!(!matches!(step, Step::RemoveProgram(_) | Step::RemoveVip(_)), "{}", step);
            if let Step::PutProgram(frontend, program) = &step {
                prop_assert!(claimed.contains(frontend) || world.programs[frontend].multihomed != program.multihomed);
            }
        }
        prop_assert!(claimed.iter().all(|frontend| desired.owner(frontend).is_some_and(|name| !is_held(name))));
    }
}
