//! From any state of ours and foreign addresses, applying a wanted set converges, one more pass does
//! nothing, and what is foreign stays as it was.

use crate::support::{
    add_link, eventually, in_namespace_sync, ip, ip_batch, kernel_addresses, link_index, runtime,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sluice_netlink::{AddVipError, Netlink};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Every case uses these addresses.
const POOL: [&str; 8] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "203.0.113.4",
    "2001:db8:113::1",
    "2001:db8:113::2",
    "2001:db8:113::3",
    "2001:db8:113::4",
];

/// Who has an address at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    Ours,
    ForeignOnLo,
    ForeignElsewhere,
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![
        3 => Just(Owner::Nobody),
        3 => Just(Owner::Ours),
        1 => Just(Owner::ForeignOnLo),
        1 => Just(Owner::ForeignElsewhere),
    ]
}

/// One pass: observe, difference, apply. Returns how much it did, and what was refused.
async fn reconcile(netlink: &Netlink, wanted: &BTreeSet<IpAddr>) -> (usize, BTreeSet<IpAddr>) {
    let observed = netlink.vips().await.unwrap();
    let extra: BTreeSet<IpAddr> = observed.difference(wanted).copied().collect();
    let missing: BTreeSet<IpAddr> = wanted.difference(&observed).copied().collect();
    assert!(netlink.remove_vips(&extra).await.is_empty());
    let refused = netlink.add_vips(&missing).await;
    assert!(
        refused.values().all(|error| matches!(error, AddVipError::Foreign { .. })),
        "{refused:?}"
    );
    (extra.len() + missing.len() - refused.len(), refused.into_keys().collect())
}

/// Everything but VIPs of ours, asked without the crate's own code.
async fn foreign() -> Vec<String> {
    let all = kernel_addresses().await;
    all.into_values().filter(|(mark, _)| *mark != Some(83)).map(|(_, shown)| shown).collect()
}

/// Makes the first state, whatever the last case left.
async fn set_up(owners: &[Owner; POOL.len()], all: &BTreeSet<IpAddr>, ours: &BTreeSet<IpAddr>) {
    for dev in ["lo", "eth0"] {
        ip(&format!("-4 address flush dev {dev} to 203.0.113.0/24"));
        ip(&format!("-6 address flush dev {dev} to 2001:db8:113::/48"));
    }
    let commands = POOL.iter().zip(owners).fold(String::new(), |mut commands, (vip, owner)| {
        let dev = match owner {
            Owner::Nobody | Owner::Ours => return commands,
            Owner::ForeignOnLo => "lo",
            Owner::ForeignElsewhere => "eth0",
        };
        let dad = if vip.contains(':') { "nodad" } else { "" };
        writeln!(commands, "address add {vip} dev {dev} {dad}").unwrap();
        commands
    });
    ip_batch(&commands);
    // As a daemon that was killed left them.
    let killed = Netlink::start().await.unwrap();
    assert!(killed.add_vips(ours).await.is_empty());
    assert!(all.is_superset(&killed.vips().await.unwrap()));
}

#[test]
fn any_state_converges_and_foreign_addresses_stay() {
    in_namespace_sync(|| {
        add_link("eth0");
        let runtime = runtime();
        let netlink = runtime.block_on(Netlink::start()).unwrap();
        let cases = (prop::array::uniform8(owner()), prop::array::uniform8(any::<bool>()));
        let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
        TestRunner::new(config)
            .run(&cases, |(owners, wanted)| {
                let select = |choose: &dyn Fn(usize) -> bool| -> BTreeSet<IpAddr> {
                    (0..POOL.len())
                        .filter(|n| choose(*n))
                        .map(|n| POOL[n].parse().unwrap())
                        .collect()
                };
                let taken =
                    |n: usize| matches!(owners[n], Owner::ForeignOnLo | Owner::ForeignElsewhere);
                let all = select(&|n| wanted[n]);
                let impossible = select(&|n| wanted[n] && taken(n));
                let possible = select(&|n| wanted[n] && !taken(n));

                let ours = select(&|n| owners[n] == Owner::Ours);

                runtime.block_on(async {
                    set_up(&owners, &select(&|_| true), &ours).await;
                    let before = foreign().await;
                    // An address on another link is known when its notification was read.
                    let elsewhere = select(&|n| owners[n] == Owner::ForeignElsewhere);
                    let eth0 = link_index(&netlink, "eth0");
                    eventually("eth0's addresses", || {
                        let known = netlink.addresses_on(eth0);
                        known.iter().map(|net| net.addr()).eq(elsewhere.iter().copied())
                    })
                    .await;
                    let (_, refused) = reconcile(&netlink, &all).await;
                    prop_assert_eq!(&refused, &impossible);
                    prop_assert_eq!(&netlink.vips().await.unwrap(), &possible);
                    let (done, refused) = reconcile(&netlink, &all).await;
                    prop_assert_eq!(done, 0, "one more pass does nothing");
                    prop_assert_eq!(&refused, &impossible);
                    prop_assert_eq!(foreign().await, before);
                    Ok(())
                })
            })
            .unwrap();
    });
}
