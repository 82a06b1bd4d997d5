//! Links and addresses are followed, lost notifications are made up for, and the task ends with its
//! last handle.

use crate::support::{add_link, eventually, in_namespace, ip, ip_batch, link_index, until};
use sluice_netlink::Netlink;
use std::fmt::Write as _;

#[test]
fn links_come_change_and_go() {
    in_namespace(|| async {
        let netlink = Netlink::start().await.unwrap();
        let mut links = netlink.links();
        let lo = links.borrow_and_update()[&1].clone();
        assert_eq!((lo.name.as_str(), lo.mac, lo.up), ("lo", [0; 6], true));

        ip("link add eth0 address 02:00:00:00:00:01 mtu 1400 type veth peer name far");
        ip("link set far up");
        let seen = until(&mut links, "eth0", |links| links.len() == 3).await;
        let eth0 = seen.values().find(|link| link.name == "eth0").unwrap().clone();
        assert_eq!((eth0.mac, eth0.mtu, eth0.up), ([2, 0, 0, 0, 0, 1], 1400, false));

        let index = eth0.index;
        ip("link set eth0 up");
        until(&mut links, "eth0 up", |links| links[&index].up).await;
        ip("link set eth0 address 02:00:00:00:00:02");
        until(&mut links, "eth0's MAC", |links| links[&index].mac == [2, 0, 0, 0, 0, 2]).await;
        ip("link set eth0 down");
        until(&mut links, "eth0 down", |links| !links[&index].up).await;
        ip("link set eth0 name wan0");
        until(&mut links, "wan0", |links| links[&index].name == "wan0").await;
        ip("link del wan0");
        until(&mut links, "no wan0", |links| links.len() == 1).await;
    });
}

#[test]
fn a_link_without_carrier_is_not_up() {
    in_namespace(|| async {
        let netlink = Netlink::start().await.unwrap();
        let mut links = netlink.links();
        ip("link add veth0 type veth peer name veth1");
        ip("link set veth0 up");
        let of = |name: &'static str| {
            move |links: &std::sync::Arc<std::collections::BTreeMap<u32, sluice_netlink::Link>>| {
                links.values().find(|link| link.name == name).map(|link| link.up)
            }
        };
        until(&mut links, "veth0", |links| of("veth0")(links) == Some(false)).await;
        ip("link set veth1 up");
        until(&mut links, "veth0 up", |links| of("veth0")(links) == Some(true)).await;
    });
}

#[test]
fn a_port_leaving_its_bridge_is_not_a_link_going_away() {
    in_namespace(|| async {
        ip("link add br0 type bridge");
        add_link("eth0");
        ip("link set eth0 master br0");
        let netlink = Netlink::start().await.unwrap();
        let mut links = netlink.links();
        ip("link set eth0 nomaster");
        // Something that is certain to be announced after it.
        ip("link set br0 mtu 1300");
        let seen =
            until(&mut links, "br0's MTU", |links| links.values().any(|l| l.mtu == 1300)).await;
        assert!(seen.values().any(|link| link.name == "eth0"), "{seen:?}");
    });
}

#[test]
fn what_is_no_change_is_not_published() {
    in_namespace(|| async {
        add_link("eth0");
        let netlink = Netlink::start().await.unwrap();
        let mut links = netlink.links();
        links.mark_unchanged();
        let mut epoch = netlink.routing_epoch();
        ip("link set eth0 alias news-to-nobody");
        for vip in ["203.0.113.10", "2001:db8:113::10"] {
            netlink.add_vip(vip.parse().unwrap()).await.unwrap();
            netlink.remove_vip(vip.parse().unwrap()).await.unwrap();
        }
        // Something that is certain to be announced after them.
        ip("neighbour add 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0");
        until(&mut epoch, "the epoch", |epoch| *epoch > 0).await;
        assert!(!links.has_changed().unwrap());
        assert_eq!(*epoch.borrow(), 1, "a VIP of ours is no change of routing");
    });
}

#[test]
fn addresses_of_links() {
    in_namespace(|| async {
        add_link("eth0");
        ip("address add 10.0.0.2/24 dev eth0");
        ip("address add fe80::2/64 dev eth0");
        let netlink = Netlink::start().await.unwrap();
        ip("address add 2001:db8::2/64 dev eth0");
        netlink.add_vip("203.0.113.10".parse().unwrap()).await.unwrap();
        let eth0 = link_index(&netlink, "eth0");
        eventually("both addresses", || netlink.addresses_on(eth0).len() == 2).await;
        assert_eq!(
            netlink.addresses_on(eth0),
            ["10.0.0.2/24".parse().unwrap(), "2001:db8::2/64".parse().unwrap()],
            "not the link-local one"
        );
        assert!(netlink.addresses_on(1).is_empty(), "neither 127.0.0.1 nor a VIP");
        assert_eq!(
            netlink.address_for("10.0.0.9".parse().unwrap()).await.unwrap(),
            Some("10.0.0.2".parse().unwrap())
        );
        assert_eq!(netlink.address_for("192.0.2.1".parse().unwrap()).await.unwrap(), None);
    });
}

#[test]
fn lost_notifications_are_made_up_for() {
    const ADDRESSES: usize = 16_000;
    in_namespace(|| async {
        add_link("eth0");
        let netlink = Netlink::start().await.unwrap();
        let eth0 = link_index(&netlink, "eth0");
        // The runtime has one thread, which is busy here: nothing is read meanwhile.
        let commands = (0..ADDRESSES).fold(String::new(), |mut commands, n| {
            writeln!(commands, "address add 10.9.{}.{}/32 dev eth0", n / 256, n % 256).unwrap();
            commands
        });
        ip_batch(&commands);
        assert!(drops() > 0, "the test did not overrun the socket");
        eventually("all addresses", || netlink.addresses_on(eth0).len() == ADDRESSES).await;
        // And what comes after is followed again.
        ip("address del 10.9.0.1/32 dev eth0");
        eventually("one less", || netlink.addresses_on(eth0).len() == ADDRESSES - 1).await;
    });
}

#[test]
fn the_last_handle_ends_the_task_and_closes_its_sockets() {
    in_namespace(|| async {
        assert_eq!(sockets(), 0);
        let netlink = Netlink::start().await.unwrap();
        let mut links = netlink.links();
        let second = netlink.clone();
        drop(netlink);
        second.add_vip("203.0.113.10".parse().unwrap()).await.unwrap();
        assert!(sockets() > 0);
        drop(second);
        while links.changed().await.is_ok() {}
        eventually("no socket of the task", || sockets() == 0).await;
    });
}

/// Rows of the kernel's list of netlink sockets in this namespace that belong to this process.
fn own_sockets() -> Vec<Vec<String>> {
    let list = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    list.lines()
        .skip(1)
        .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        // Protocol 0 is NETLINK_ROUTE, port 0 the kernel's own end.
        .filter(|row| row[1] == "0" && row[2] != "0")
        .collect()
}

fn sockets() -> usize {
    own_sockets().len()
}

fn drops() -> u64 {
    own_sockets().iter().map(|row| row[8].parse::<u64>().unwrap()).sum()
}
