//! Neighbours are resolved ahead of traffic: nothing is ever sent to them here by the host itself.

use crate::support::{
    Peer, addresses, eventually, in_namespace, ip, link_index, mac_of, resolution, resolves_to,
    until,
};
use sluice_netlink::{Netlink, NextHop, Resolution};
use std::time::{Duration, Instant};

const BACKENDS: [&str; 2] = ["10.77.0.2", "2001:db8:77::2"];

/// `veth0` here with .1, `eth0` at the peer with .2.
fn joined() -> Peer {
    let peer = Peer::joined("veth0");
    ip("address add 10.77.0.1/24 dev veth0");
    ip("address add 2001:db8:77::1/64 dev veth0");
    peer.ip("address add 10.77.0.2/24 dev eth0");
    peer.ip("address add 2001:db8:77::2/64 dev eth0");
    peer
}

#[test]
fn an_on_link_backend_resolves() {
    in_namespace(|| async {
        let peer = joined();
        let netlink = Netlink::start().await.unwrap();
        let start = Instant::now();
        netlink.track(addresses(&BACKENDS));
        for backend in BACKENDS {
            let resolution = resolves_to(&netlink, backend, peer.mac()).await;
            println!("{backend} resolved after {:?}", start.elapsed());
            let hop = NextHop {
                link_index: link_index(&netlink, "veth0"),
                source_mac: mac_of("veth0"),
                destination_mac: peer.mac(),
            };
            assert_eq!(resolution, Resolution::Resolved(hop));
        }
    });
}

#[test]
fn the_set_is_replaced_as_a_whole() {
    in_namespace(|| async {
        let peer = joined();
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BACKENDS[..1]));
        resolves_to(&netlink, BACKENDS[0], peer.mac()).await;
        netlink.track(addresses(&BACKENDS[1..]));
        resolves_to(&netlink, BACKENDS[1], peer.mac()).await;
        assert_eq!(netlink.resolutions().borrow().len(), 1);
    });
}

#[test]
fn a_mac_change_is_seen_at_once() {
    in_namespace(|| async {
        let peer = joined();
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BACKENDS));
        for backend in BACKENDS {
            resolves_to(&netlink, backend, peer.mac()).await;
        }
        let epoch = *netlink.routing_epoch().borrow();

        // Set in the table: measures this crate alone.
        for (n, backend) in (1u8..).zip(BACKENDS) {
            let start = Instant::now();
            ip(&format!(
                "neighbour replace {backend} lladdr 02:00:00:00:00:{n:02x} dev veth0 nud reachable"
            ));
            let set = start.elapsed();
            resolves_to(&netlink, backend, [2, 0, 0, 0, 0, n]).await;
            println!("{backend}: ip took {set:?}, published after {:?}", start.elapsed() - set);
        }
        until(&mut netlink.routing_epoch(), "the epoch", |now| *now > epoch).await;

        // Told by the neighbour itself, by its first packet from the new address.
        peer.ip("link set eth0 address 02:00:00:00:00:77");
        for (local, remote) in [("0.0.0.0:0", "10.77.0.1:9"), ("[::]:0", "[2001:db8:77::1]:9")] {
            peer.run(move || {
                let socket = std::net::UdpSocket::bind(local).unwrap();
                socket.send_to(b"hello", remote).unwrap();
            });
        }
        for backend in BACKENDS {
            resolves_to(&netlink, backend, [2, 0, 0, 0, 0, 0x77]).await;
        }
    });
}

#[test]
fn a_backend_that_does_not_answer_is_unreachable_until_it_does() {
    in_namespace(|| async {
        let peer = joined();
        let netlink = Netlink::start().await.unwrap();
        let absent = ["10.77.0.99", "2001:db8:77::99"];
        netlink.track(addresses(&absent));
        for backend in absent {
            let resolving = resolution(&netlink, backend, |_| true).await;
            let (link_index, gateway) = (link_index(&netlink, "veth0"), backend.parse().unwrap());
            assert_eq!(resolving, Resolution::Resolving { link_index, gateway });
        }
        for backend in absent {
            resolution(&netlink, backend, |r| matches!(r, Resolution::Unreachable { .. })).await;
        }
        peer.ip("address add 10.77.0.99/24 dev eth0");
        peer.ip("address add 2001:db8:77::99/64 dev eth0");
        for backend in absent {
            resolves_to(&netlink, backend, peer.mac()).await;
        }
    });
}

#[test]
fn a_backend_that_stops_answering_becomes_unreachable() {
    in_namespace(|| async {
        let peer = joined();
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BACKENDS));
        for backend in BACKENDS {
            resolves_to(&netlink, backend, peer.mac()).await;
        }
        peer.ip("address flush dev eth0");
        // The kernel would notice when the entry has aged; this lets it ask now.
        for backend in BACKENDS {
            ip(&format!("neighbour change {backend} dev veth0 nud probe"));
        }
        for backend in BACKENDS {
            resolution(&netlink, backend, |r| matches!(r, Resolution::Unreachable { .. })).await;
        }
    });
}

#[test]
fn a_stale_entry_is_used_and_confirmed() {
    in_namespace(|| async {
        let peer = joined();
        let mac = peer.run(|| ip("-o link show dev eth0"));
        let mac = mac.split("link/ether ").nth(1).unwrap().split_whitespace().next().unwrap();
        for backend in BACKENDS {
            ip(&format!("neighbour add {backend} lladdr {mac} dev veth0 nud stale"));
        }
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BACKENDS));
        for backend in BACKENDS {
            let first = resolution(&netlink, backend, |_| true).await;
            assert!(matches!(first, Resolution::Resolved(_)), "{backend} {first:?}");
            eventually(&format!("{backend} confirmed"), || {
                ip(&format!("neighbour show {backend} dev veth0")).contains("REACHABLE")
            })
            .await;
        }
    });
}

#[test]
fn a_flushed_entry_is_asked_for_again_without_a_gap() {
    in_namespace(|| async {
        let peer = joined();
        let netlink = Netlink::start().await.unwrap();
        netlink.track(addresses(&BACKENDS));
        for backend in BACKENDS {
            resolves_to(&netlink, backend, peer.mac()).await;
        }
        let mut resolutions = netlink.resolutions();
        resolutions.mark_unchanged();
        ip("neighbour flush dev veth0");
        for backend in BACKENDS {
            eventually(&format!("{backend} again"), || {
                ip(&format!("neighbour show {backend} dev veth0")).contains("REACHABLE")
            })
            .await;
        }
        assert!(!resolutions.has_changed().unwrap(), "{:?}", *resolutions.borrow());
    });
}

#[test]
fn the_epoch_is_paced() {
    in_namespace(|| async {
        let _peer = joined();
        let netlink = Netlink::start().await.unwrap();
        let mut epoch = netlink.routing_epoch();
        let before = *epoch.borrow_and_update();
        let start = Instant::now();
        let mut changes = 0;
        while start.elapsed() < Duration::from_millis(300) {
            changes += 1;
            let mac = changes % 200;
            ip(&format!(
                "neighbour replace 10.77.0.50 lladdr 02:00:00:00:01:{mac:02x} dev veth0 nud permanent"
            ));
            tokio::task::yield_now().await;
        }
        epoch.changed().await.unwrap();
        let moved = *epoch.borrow() - before;
        let most = u64::try_from(start.elapsed().as_millis() / 10).unwrap() + 1;
        assert!(moved >= 1 && moved <= most, "{moved} moves for {changes} changes, at most {most}");
    });
}
