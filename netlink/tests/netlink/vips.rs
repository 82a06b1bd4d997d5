//! VIPs on `lo`: added, adopted, refused, removed.

use crate::support::{add_link, address, addresses, in_namespace, ip, kernel_addresses};
use sluice_netlink::{AddVipError, Netlink, RemoveVipError, RequestError};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

const VIPS: [&str; 2] = ["203.0.113.10", "2001:db8:113::10"];

#[test]
fn added_vips_carry_our_mark() {
    in_namespace(|| async {
        let netlink = Netlink::start().await.unwrap();
        for vip in VIPS {
            netlink.add_vip(address(vip)).await.unwrap();
        }
        assert_eq!(netlink.vips().await.unwrap(), addresses(&VIPS));

        let kernel = kernel_addresses().await;
        for (vip, prefix_len) in VIPS.into_iter().zip([32, 128]) {
            assert_eq!(kernel[&(1, address(vip), prefix_len)].0, Some(83), "{vip}");
        }
        assert!(kernel.values().filter(|(mark, _)| *mark == Some(83)).count() == VIPS.len());
        let shown = ip("-o address show dev lo");
        assert!(shown.contains("203.0.113.10/32 scope host"), "{shown}");
        assert!(shown.contains("deprecated"), "{shown}");
    });
}

#[test]
fn adding_again_and_after_a_restart_changes_nothing() {
    in_namespace(|| async {
        let first = Netlink::start().await.unwrap();
        for vip in VIPS {
            first.add_vip(address(vip)).await.unwrap();
            first.add_vip(address(vip)).await.unwrap();
        }
        drop(first);
        let before = ip("address show dev lo");

        let second = Netlink::start().await.unwrap();
        assert_eq!(second.vips().await.unwrap(), addresses(&VIPS), "adopted");
        assert!(second.add_vips(&addresses(&VIPS)).await.is_empty());
        assert_eq!(ip("address show dev lo"), before);
    });
}

#[test]
fn a_foreign_address_is_refused_and_left_alone() {
    in_namespace(|| async {
        add_link("eth0");
        for (vip, prefix_len, dev) in [
            ("203.0.113.10", 32, "lo"),
            ("2001:db8:113::10", 128, "lo"),
            ("203.0.113.11", 24, "lo"),
            ("10.0.0.2", 24, "eth0"),
            ("2001:db8::2", 64, "eth0"),
        ] {
            let dad = if vip.contains(':') { "nodad" } else { "" };
            ip(&format!("address add {vip}/{prefix_len} dev {dev} {dad}"));
            // Whether the address was there before the task or came later makes no difference.
            let netlink = Netlink::start().await.unwrap();
            let before = kernel_addresses().await;
            let error = netlink.add_vip(address(vip)).await.unwrap_err();
            assert_eq!(error, AddVipError::Foreign { vip: address(vip), link: dev.into() });
            assert_eq!(
                error.to_string(),
                format!(
                    "{vip} is already on {dev} and is not ours; remove it or choose another VIP"
                )
            );
            let removed = netlink.remove_vip(address(vip)).await;
            if dev == "lo" {
                assert_eq!(removed, Err(RemoveVipError::Foreign { vip: address(vip) }));
            } else {
                assert_eq!(removed, Ok(()), "it is not on lo");
            }
            assert_eq!(kernel_addresses().await, before);

            // Once it is gone, the VIP is welcome: nothing stale is held against it.
            ip(&format!("address del {vip}/{prefix_len} dev {dev}"));
            netlink.add_vip(address(vip)).await.unwrap();
            netlink.remove_vip(address(vip)).await.unwrap();
        }
    });
}

#[test]
fn a_foreign_address_that_came_later_is_refused() {
    in_namespace(|| async {
        let netlink = Netlink::start().await.unwrap();
        for (vip, net) in VIPS.into_iter().zip(["203.0.113.10/32", "2001:db8:113::10/128"]) {
            // The task has had no chance to hear of it: only the kernel's own answer can tell.
            ip(&format!("address add {net} dev lo"));
            let error = netlink.add_vip(address(vip)).await.unwrap_err();
            assert_eq!(error, AddVipError::Foreign { vip: address(vip), link: "lo".into() });
        }
        assert_eq!(netlink.vips().await.unwrap(), BTreeSet::new());
    });
}

#[test]
fn removing_takes_ours_only_and_only_once() {
    in_namespace(|| async {
        ip("address add 203.0.113.99/32 dev lo");
        let netlink = Netlink::start().await.unwrap();
        let before = ip("address show dev lo");
        assert!(netlink.add_vips(&addresses(&VIPS)).await.is_empty());
        for vip in VIPS {
            netlink.remove_vip(address(vip)).await.unwrap();
            netlink.remove_vip(address(vip)).await.unwrap();
        }
        assert_eq!(ip("address show dev lo"), before);
    });
}

#[test]
fn one_bad_vip_does_not_stop_the_others() {
    in_namespace(|| async {
        ip("address add 203.0.113.3/32 dev lo");
        let netlink = Netlink::start().await.unwrap();
        let wanted = addresses(&["203.0.113.1", "203.0.113.3", "ff02::1", "2001:db8:113::1"]);
        let failures = netlink.add_vips(&wanted).await;
        assert_eq!(
            failures.keys().copied().collect::<BTreeSet<_>>(),
            addresses(&["203.0.113.3", "ff02::1"])
        );
        assert!(matches!(
            failures[&address("ff02::1")],
            AddVipError::Request { source: RequestError::Refused(_), .. }
        ));
        assert_eq!(netlink.vips().await.unwrap(), addresses(&["203.0.113.1", "2001:db8:113::1"]));
    });
}

#[test]
fn thousands_of_vips() {
    in_namespace(|| async {
        let netlink = Netlink::start().await.unwrap();
        let vips: BTreeSet<IpAddr> = (0..1000u16)
            .flat_map(|n| {
                let [high, low] = n.to_be_bytes();
                let v4 = IpAddr::V4(Ipv4Addr::new(198, 18, high, low));
                let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 1, n));
                [v4, v6]
            })
            .collect();

        let start = Instant::now();
        assert!(netlink.add_vips(&vips).await.is_empty());
        println!("add {} VIPs as a set: {:?}", vips.len(), start.elapsed());
        let start = Instant::now();
        assert_eq!(netlink.vips().await.unwrap(), vips);
        println!("read them: {:?}", start.elapsed());
        let start = Instant::now();
        assert!(netlink.add_vips(&vips).await.is_empty());
        println!("add them again: {:?}", start.elapsed());
        let start = Instant::now();
        assert!(netlink.remove_vips(&vips).await.is_empty());
        println!("remove them as a set: {:?}", start.elapsed());
        assert_eq!(netlink.vips().await.unwrap(), BTreeSet::new());

        let start = Instant::now();
        for vip in &vips {
            netlink.add_vip(*vip).await.unwrap();
        }
        println!("add them one by one: {:?}", start.elapsed());
        let start = Instant::now();
        for vip in &vips {
            netlink.remove_vip(*vip).await.unwrap();
        }
        println!("remove them one by one: {:?}", start.elapsed());
        assert_eq!(netlink.vips().await.unwrap(), BTreeSet::new());
    });
}

/// What the kernel does with a packet from a neighbour; its error when it takes none.
fn arriving(vip: &str, from: &str) -> Result<String, String> {
    let arguments = format!("route get {vip} from {from} iif eth0");
    let output = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The stack does not take what arrives for a VIP, and what this host sends to one goes to the router.
#[test]
fn the_kernels_stack_is_silent_for_vips() {
    in_namespace(|| async {
        add_link("eth0");
        ip("address add 10.0.0.2/24 dev eth0");
        ip("address add 2001:db8::2/64 dev eth0 nodad");
        ip("route add default via 10.0.0.1");
        ip("-6 route add default via 2001:db8::1");
        let rules = ["rule", "-6 rule"].map(ip);
        let netlink = Netlink::start().await.unwrap();
        assert!(netlink.add_vips(&addresses(&VIPS)).await.is_empty());
        let rows = [(VIPS[0], "10.0.0.9", "10.0.0.1"), (VIPS[1], "2001:db8::9", "2001:db8::1")];
        let is_silent = || {
            for (vip, neighbour, router) in rows {
                let arriving = arriving(vip, neighbour);
                assert!(arriving.is_err(), "{vip} is taken: {arriving:?}");
                let own = ip(&format!("route get {vip}"));
                assert!(own.contains(&format!("via {router} dev eth0")), "{own}");
            }
        };
        is_silent();

        // What the kernel and others bring back is gone after the next look.
        ip("link set lo down");
        ip("link set lo up");
        ip("-6 address add 2001:db8:113::99/128 dev lo");
        assert!(arriving(VIPS[0], "10.0.0.9").is_ok(), "the kernel brings the route back");
        ip("route flush table 83");
        ip("rule del pref 83");
        let missing = netlink.vips().await.unwrap();
        assert!(netlink.add_vips(&addresses(&VIPS)).await.is_empty(), "{missing:?}");
        is_silent();
        assert!(arriving("2001:db8:113::99", "2001:db8::9").is_ok(), "foreign addresses stay");
        assert_eq!(netlink.vips().await.unwrap(), addresses(&VIPS));

        assert!(netlink.remove_vips(&addresses(&VIPS)).await.is_empty());
        assert_eq!(netlink.vips().await.unwrap(), BTreeSet::new());
        assert_eq!(["rule", "-6 rule"].map(ip), rules, "nothing of ours stays");
        assert_eq!(ip("route show table 83") + &ip("-6 route show table 83"), "");
    });
}
