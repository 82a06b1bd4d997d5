//! Routes: through a gateway, moved to another, gone, rejecting, local; links that go down.

use crate::support::{
    Peer, address, addresses, in_namespace, ip, link_index, resolution, resolves_to, until,
};
use sluice_netlink::{Gateways, Netlink, Resolution, Surroundings, Way, Ways};
use std::net::IpAddr;
use std::sync::Arc;

/// Behind the gateways, in both families.
const BEHIND: [&str; 2] = ["10.88.0.1", "2001:db8:88::1"];

/// Two gateways on links of their own: `wan1` with 10.1.0.2, `wan2` with 10.2.0.2.
fn two_gateways() -> [Peer; 2] {
    [1, 2].map(|n| {
        let peer = Peer::joined(&format!("wan{n}"));
        ip(&format!("address add 10.{n}.0.1/24 dev wan{n}"));
        ip(&format!("address add 2001:db8:{n}::1/64 dev wan{n}"));
        peer.ip(&format!("address add 10.{n}.0.2/24 dev eth0"));
        peer.ip(&format!("address add 2001:db8:{n}::2/64 dev eth0"));
        peer
    })
}

/// Sends both families' routes to what is behind through gateway `n`.
fn route_through(n: u8) {
    ip(&format!("route replace 10.88.0.0/24 via 10.{n}.0.2"));
    ip(&format!("route replace 2001:db8:88::/64 via 2001:db8:{n}::2"));
}

#[test]
fn a_backend_behind_a_gateway_resolves_to_the_gateway() {
    in_namespace(|| async {
        let [first, _second] = two_gateways();
        route_through(1);
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BEHIND));
        for backend in BEHIND {
            let resolution = resolves_to(&netlink, backend, first.mac()).await;
            let wan1 = link_index(&netlink, "wan1");
            assert!(
                matches!(resolution, Resolution::Resolved(hop) if hop.link_index == wan1),
                "{resolution:?}"
            );
        }
    });
}

#[test]
fn a_route_change_moves_the_next_hop() {
    in_namespace(|| async {
        let [first, second] = two_gateways();
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BEHIND));
        for backend in BEHIND {
            resolution(&netlink, backend, |r| *r == Resolution::NoRoute).await;
        }
        let epoch = *netlink.routing_epoch().borrow();
        for (n, gateway) in [(1, &first), (2, &second), (1, &first)] {
            route_through(n);
            for backend in BEHIND {
                resolves_to(&netlink, backend, gateway.mac()).await;
            }
        }
        // A more specific route wins, and its end brings the other back.
        ip("route add 10.88.0.1/32 via 10.2.0.2");
        resolves_to(&netlink, BEHIND[0], second.mac()).await;
        ip("route del 10.88.0.1/32");
        resolves_to(&netlink, BEHIND[0], first.mac()).await;
        // So does a rule.
        ip("route add default via 10.2.0.2 table 100");
        ip("rule add to 10.88.0.1 lookup 100");
        resolves_to(&netlink, BEHIND[0], second.mac()).await;
        until(&mut netlink.routing_epoch(), "the epoch", |now| *now > epoch).await;
    });
}

#[test]
fn an_ipv4_route_may_lead_through_an_ipv6_gateway() {
    in_namespace(|| async {
        let [first, _second] = two_gateways();
        ip("route add 10.88.0.0/24 via inet6 2001:db8:1::2 dev wan1");
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BEHIND[..1]));
        resolves_to(&netlink, BEHIND[0], first.mac()).await;
    });
}

#[test]
fn without_a_route_or_with_a_rejecting_one_there_is_none() {
    in_namespace(|| async {
        let [first, _second] = two_gateways();
        route_through(1);
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BEHIND));
        for kind in ["unreachable", "prohibit", "blackhole"] {
            for (backend, prefix) in BEHIND.into_iter().zip(["10.88.0.1/32", "2001:db8:88::1/128"])
            {
                resolves_to(&netlink, backend, first.mac()).await;
                ip(&format!("route add {kind} {prefix}"));
                resolution(&netlink, backend, |r| *r == Resolution::NoRoute).await;
                ip(&format!("route del {kind} {prefix}"));
            }
        }
        ip("route del 10.88.0.0/24");
        ip("route del 2001:db8:88::/64");
        for backend in BEHIND {
            resolution(&netlink, backend, |r| *r == Resolution::NoRoute).await;
        }
    });
}

#[test]
fn an_address_of_this_host_is_local() {
    in_namespace(|| async {
        let [first, _second] = two_gateways();
        route_through(1);
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&["10.1.0.1", "2001:db8:1::1", "127.0.0.1", BEHIND[0], BEHIND[1]]));
        for own in ["10.1.0.1", "2001:db8:1::1", "127.0.0.1"] {
            resolution(&netlink, own, |r| *r == Resolution::Local).await;
        }
        // A VIP is no address of the kernel's: what this host sends to it goes to the router, as a client's would.
        for backend in BEHIND {
            let vip = backend.parse().unwrap();
            resolves_to(&netlink, backend, first.mac()).await;
            netlink.add_vip(vip).await.unwrap();
            resolves_to(&netlink, backend, first.mac()).await;
            netlink.remove_vip(vip).await.unwrap();
            resolves_to(&netlink, backend, first.mac()).await;
        }
    });
}

#[test]
fn a_link_without_carrier_makes_its_backends_unreachable() {
    in_namespace(|| async {
        let [first, _second] = two_gateways();
        route_through(1);
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BEHIND));
        for backend in BEHIND {
            resolves_to(&netlink, backend, first.mac()).await;
        }
        first.ip("link set eth0 down");
        for backend in BEHIND {
            resolution(&netlink, backend, |r| {
                matches!(r, Resolution::Unreachable { .. } | Resolution::NoRoute)
            })
            .await;
        }
        first.ip("link set eth0 up");
        first.ip("address replace 2001:db8:1::2/64 dev eth0");
        for backend in BEHIND {
            resolves_to(&netlink, backend, first.mac()).await;
        }
    });
}

#[test]
fn a_link_set_down_takes_its_routes_along() {
    in_namespace(|| async {
        let [first, _second] = two_gateways();
        route_through(1);
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BEHIND));
        for backend in BEHIND {
            resolves_to(&netlink, backend, first.mac()).await;
        }
        // For IPv4 the kernel announces the link only, none of the routes it drops.
        ip("link set wan1 down");
        for backend in BEHIND {
            resolution(&netlink, backend, |r| *r == Resolution::NoRoute).await;
        }
        ip("link set wan1 up");
        ip("address replace 2001:db8:1::1/64 dev wan1");
        route_through(1);
        for backend in BEHIND {
            resolves_to(&netlink, backend, first.mac()).await;
        }
    });
}

#[test]
fn hundreds_of_destinations_resolve_together() {
    in_namespace(|| async {
        let [first, _second] = two_gateways();
        route_through(1);
        let netlink = Netlink::start().await.unwrap();
        let behind: Vec<String> = (1..=250)
            .flat_map(|n| [format!("10.88.0.{n}"), format!("2001:db8:88::{n:x}")])
            .collect();
        let mac = first.mac();
        let start = std::time::Instant::now();
        netlink.track(behind.iter().map(|text| text.parse().unwrap()).collect());
        for backend in &behind {
            resolves_to(&netlink, backend, mac).await;
        }
        println!("{} destinations resolved after {:?}", behind.len(), start.elapsed());
    });
}

#[test]
fn gateways_and_other_addresses_are_followed() {
    in_namespace(|| async {
        let _both = two_gateways();
        ip("route add default via 10.1.0.2");
        let netlink = Netlink::start().await.unwrap();
        let mut around = netlink.surroundings();
        let has = |known: &Arc<Surroundings>, default: &[&str], other: &[&str]| {
            known.gateways == Gateways { default: addresses(default), other: addresses(other) }
        };
        assert!(
            has(&around.borrow(), &["10.1.0.2"], &[]),
            "known at the start: {:?}",
            around.borrow()
        );
        let wan1 = link_index(&netlink, "wan1");
        assert!(around.borrow().addresses.contains(&("10.1.0.1/24".parse().unwrap(), wan1)));

        // Several next hops, one of the other family, and one of the other table.
        ip("route add 10.88.0.0/24 nexthop via 10.1.0.2 nexthop via 10.2.0.2");
        ip("route add 10.89.0.0/24 via inet6 2001:db8:1::2 dev wan1");
        ip("route add 2001:db8:88::/64 via 2001:db8:2::2 table 100");
        let all = ["10.1.0.2", "10.2.0.2", "2001:db8:1::2", "2001:db8:2::2"];
        until(&mut around, "all gateways", |known| has(known, &all[..1], &all)).await;
        // Of the routes of a link that goes down no word is said.
        ip("route del 10.88.0.0/24");
        ip("route add 10.90.0.0/24 via 10.2.0.2");
        ip("link set wan2 down");
        until(&mut around, "fewer gateways", |known| {
            !known.gateways.other.contains(&"10.2.0.2".parse().unwrap())
        })
        .await;

        // Ours are not among the others, wherever the same address comes up they are.
        let vip: IpAddr = "203.0.113.10".parse().unwrap();
        let is_other =
            |known: &Arc<Surroundings>| known.addresses.iter().any(|(net, _)| net.addr() == vip);
        netlink.add_vip(vip).await.unwrap();
        assert!(netlink.addresses().await.unwrap().vips.contains(&vip));
        assert!(!is_other(&around.borrow()));
        ip("address add 203.0.113.10/24 dev wan1");
        until(&mut around, "another's address", is_other).await;
        let read = netlink.addresses().await.unwrap();
        assert!(read.vips.contains(&vip) && read.others == around.borrow().addresses, "{read:?}");
        ip("address del 203.0.113.10/24 dev wan1");
        until(&mut around, "it is gone", |known| !is_other(known)).await;
    });
}

#[test]
fn ways_to_anybody_are_followed() {
    in_namespace(|| async {
        let [first, second] = two_gateways();
        route_through(1);
        ip("route add unreachable 10.99.0.0/16");
        let netlink = Netlink::start().await.unwrap();
        let mut ways = netlink.ways();
        let [wan1, wan2] = ["wan1", "wan2"].map(|name| link_index(&netlink, name));
        let of = |known: &Ways, net: &str| known.prefixes.get(&net.parse().unwrap()).cloned();
        let router = |n: u32| (if n == 1 { wan1 } else { wan2 }, address(&format!("10.{n}.0.2")));
        for (net, way) in [
            ("10.88.0.0/24", Way::Routers(vec![router(1)])),
            ("10.1.0.0/24", Way::Link(wan1)),
            ("10.1.0.1/32", Way::Local),
            ("2001:db8:1::1/128", Way::Local),
            ("2001:db8:2::/64", Way::Link(wan2)),
            ("10.99.0.0/16", Way::Unknown),
        ] {
            assert_eq!(of(&ways.borrow(), net), Some(way), "{net}, at the start");
        }
        let has = |known: &Arc<Ways>, router: &(u32, IpAddr), mac: [u8; 6]| {
            known.routers.get(router).is_some_and(|hop| hop.destination_mac == mac)
        };
        let mac = first.mac();
        until(&mut ways, "the first router", |known| has(known, &router(1), mac)).await;

        // Another MAC, as of a router that takes the address over.
        first.ip("link set eth0 address 02:00:5e:00:01:01");
        ip("neigh flush dev wan1");
        let mac = [2, 0, 0x5e, 0, 1, 1];
        until(&mut ways, "its new MAC", |known| has(known, &router(1), mac)).await;

        route_through(2);
        let (mac, both) = (second.mac(), [router(1), router(2)]);
        until(&mut ways, "the other router", |known| {
            of(known, "10.88.0.0/24") == Some(Way::Routers(vec![router(2)]))
                && has(known, &router(2), mac)
                && !known.routers.contains_key(&router(1))
        })
        .await;
        ip("route replace 10.88.0.0/24 nexthop via 10.1.0.2 nexthop via 10.2.0.2");
        until(&mut ways, "both", |known| {
            of(known, "10.88.0.0/24") == Some(Way::Routers(both.to_vec()))
                && known.routers.keys().filter(|(_, ip)| ip.is_ipv4()).eq(&both)
        })
        .await;

        // Who chooses by a rule of his own is not followed.
        ip("rule add fwmark 7 lookup 100");
        until(&mut ways, "nothing", |known| of(known, "10.88.0.0/24").is_none()).await;
        assert!(of(&ways.borrow(), "2001:db8:88::/64").is_some(), "the other family is");
        ip("rule del fwmark 7");
        until(&mut ways, "it again", |known| of(known, "10.88.0.0/24").is_some()).await;
    });
}
