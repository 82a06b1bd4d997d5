//! Leases by themselves.

use super::*;
use proptest::prelude::*;
use std::collections::btree_map::Entry;

fn name(name: &str) -> ObjectName {
    ObjectName { namespace: "default".into(), name: name.into() }
}

fn by(who: &str) -> Taken {
    Taken { by: Holder::Service(name(who)) }
}

fn tcp(ports: &[u16]) -> Ports {
    ports.iter().map(|port| (*port, ProtocolKey::Tcp)).collect()
}

fn pool(text: &str) -> Vec<Range> {
    vec![Range::parse(text, false).unwrap()]
}

fn from(ranges: &[Range], sharing: Sharing) -> From<'_> {
    From { pool: "p", ranges, sharing, ipv4: true }
}

#[test]
fn an_exclusive_address_serves_one() {
    let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/31"));
    let from = from(&pool, Sharing::Exclusive);
    let mut take = |who: &str| leases.claim_any(from, &name(who), &tcp(&[80]));
    assert_eq!(take("a"), Some("203.0.113.0".parse().unwrap()));
    assert_eq!(take("b"), Some("203.0.113.1".parse().unwrap()));
    assert_eq!(take("c"), None);
    leases.release(&name("a"));
    assert_eq!(leases.used(&pool), 1);
    let again = leases.claim_any(from, &name("c"), &tcp(&[80]));
    assert_eq!(again, Some("203.0.113.0".parse().unwrap()));
}

#[test]
fn a_shared_address_serves_many_on_different_ports() {
    let (mut leases, address) = (Leases::default(), "203.0.113.0".parse().unwrap());
    let udp = Ports::from([(80, ProtocolKey::Udp)]);
    let shared = Sharing::Shared;
    leases.claim(address, &name("a"), &tcp(&[80]), shared).unwrap();
    leases.claim(address, &name("b"), &tcp(&[443]), shared).unwrap();
    leases.claim(address, &name("c"), &udp, shared).unwrap();
    let taken = leases.claim(address, &name("d"), &tcp(&[443, 8443]), shared);
    assert_eq!(taken, Err(by("b")));
    let alone = leases.claim(address, &name("d"), &tcp(&[1]), Sharing::Exclusive);
    assert_eq!(alone, Err(by("a")));
}

#[test]
fn a_given_up_address_rests_while_others_are_free() {
    let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/30"));
    let from = from(&pool, Sharing::Exclusive);
    let mut give = |who: &str, gone: Option<&str>| {
        if let Some(gone) = gone {
            leases.release(&name(gone));
        }
        leases.claim_any(from, &name(who), &tcp(&[80])).unwrap().to_string()
    };
    assert_eq!(give("a", None), "203.0.113.0");
    assert_eq!(give("b", Some("a")), "203.0.113.1");
    assert_eq!(give("c", None), "203.0.113.2");
    assert_eq!(give("d", Some("b")), "203.0.113.3");
    assert_eq!(give("e", None), "203.0.113.0", "round, and the first that was given up");
    assert_eq!(give("f", None), "203.0.113.1");
}

#[test]
fn shared_addresses_are_packed() {
    let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/30"));
    let from = from(&pool, Sharing::Shared);
    let mut give = |who: &str, port| leases.claim_any(from, &name(who), &tcp(&[port]));
    let last = |given: Option<IpAddr>| given.map(|a| a.to_string().pop().unwrap());
    let given = ["a", "b", "c", "d"].map(|who| last(give(who, 80)));
    assert_eq!(given, [Some('0'), Some('1'), Some('2'), Some('3')]);
    assert_eq!((give("e", 80), last(give("f", 81))), (None, Some('0')));
    leases.release(&name("b"));
    assert_eq!(last(leases.claim_any(from, &name("e"), &tcp(&[80]))), Some('1'));
}

#[test]
fn what_somebody_else_has_is_passed_over() {
    let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/30"));
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let (node, rival) = (Other::Node("n".into()), Other::Service(name("rival")));
    for sharing in [Sharing::Exclusive, Sharing::Shared] {
        leases.set_other(&node, BTreeSet::from([ip("203.0.113.0")]));
        leases.set_other(&rival, BTreeSet::from([ip("203.0.113.1")]));
        let from = from(&pool, sharing);
        let given = leases.claim_any(from, &name("a"), &tcp(&[80])).unwrap();
        assert_eq!((given, leases.used(&pool)), (ip("203.0.113.2"), 3));
        let taken = leases.claim(ip("203.0.113.1"), &name("b"), &tcp(&[81]), sharing);
        assert_eq!(taken, Err(Taken { by: Holder::Other(rival.clone()) }));
        // The rival writes the same address: whoever has it already stays.
        leases.set_other(&rival, BTreeSet::from([given]));
        assert_eq!(leases.claim(given, &name("a"), &tcp(&[80]), sharing), Ok(()));
        leases.set_other(&node, BTreeSet::from([given]));
        let taken = leases.claim(given, &name("a"), &tcp(&[80]), sharing);
        assert_eq!(taken, Err(Taken { by: Holder::Other(node.clone()) }));
        assert_eq!((leases.of_machines(&pool), leases.used(&pool)), (1, 1));
        leases.set_other(&node, BTreeSet::new());
        leases.set_other(&rival, BTreeSet::new());
        leases.release(&name("a"));
        assert_eq!(leases.used(&pool), 0);
        let turns = leases.take_turned();
        let sum: i32 = turns.iter().map(|(_, comes)| if *comes { 1 } else { -1 }).sum();
        assert_eq!(sum, 0, "{turns:?}");
        leases.search_anew();
    }
}

#[test]
fn a_service_may_change_its_own_ports() {
    let (mut leases, address) = (Leases::default(), "203.0.113.0".parse().unwrap());
    leases.claim(address, &name("a"), &tcp(&[80]), Sharing::Shared).unwrap();
    leases.claim(address, &name("a"), &tcp(&[81]), Sharing::Shared).unwrap();
    leases.claim(address, &name("b"), &tcp(&[80]), Sharing::Shared).unwrap();
    let back = leases.claim(address, &name("a"), &tcp(&[80]), Sharing::Shared);
    assert_eq!(back, Err(by("b")));
    assert_eq!(leases.of(&name("a")), [address]);
}

proptest! {
    #[test]
    fn nothing_is_handed_out_twice(
        acts in prop::collection::vec((0u8..12, 0u8..4, 1u16..4), 1..200),
        shared in any::<bool>(),
    ) {
        let (mut leases, pool) = (Leases::default(), pool("203.0.113.0/29"));
        let sharing = if shared { Sharing::Shared } else { Sharing::Exclusive };
        let mut known: BTreeMap<ObjectName, (IpAddr, Ports)> = BTreeMap::new();
        for (who, act, port) in acts {
            let who = name(&who.to_string());
            if act == 0 {
                leases.release(&who);
                known.remove(&who);
            } else if let Entry::Vacant(new) = known.entry(who) {
                let ports = tcp(&[port]);
                let got = leases.claim_any(from(&pool, sharing), new.key(), &ports);
                if let Some(address) = got {
                    new.insert((address, ports));
                } else {
                    let all = Range::parse("203.0.113.0/29", false).unwrap();
                    let ours = new.key().clone();
                    let bears = |a| leases.obstacle(a, &ours, &ports, sharing).is_none();
                    prop_assert!(!all.addresses_from(None).any(bears), "one could be had");
                }
            }
            for (one, (address, ports)) in &known {
                prop_assert_eq!(leases.of(one), vec![*address]);
                for (other, (its, used)) in &known {
                    if one != other && address == its {
                        prop_assert!(shared && ports.is_disjoint(used));
                    }
                }
            }
        }
        let distinct: BTreeSet<IpAddr> = known.values().map(|(address, ..)| *address).collect();
        prop_assert_eq!(leases.used(&pool), distinct.len() as u128);
    }
}
