//! The rule as a table, and as a property.

use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn host() -> BTreeSet<HostAddress> {
    let has = |net: &str, link: &str| HostAddress { net: net.parse().unwrap(), link: link.into() };
    BTreeSet::from([
        has("10.0.0.2/24", "eth0"),
        has("10.9.0.0/31", "eth2"),
        has("2001:db8::2/64", "eth0"),
        has("fe80::2/64", "eth0"),
    ])
}

fn reserved() -> Reserved {
    let mut reserved = Reserved {
        vips: Prefixes { allow: Vec::new(), deny: nets(&["203.0.113.128/25"]) },
        trusted: nets(&["10.0.0.254/32", "169.254.20.10/32", "fe80::/10"]),
        ..Reserved::default()
    };
    reserved.hold(ip("10.0.0.1"), Holder::Peer);
    reserved.hold(ip("10.0.0.1"), Holder::Gateway);
    reserved.hold(ip("10.0.0.254"), Holder::Gateway);
    reserved.hold(ip("10.0.0.21"), Holder::NextHop);
    reserved.hold(ip("2001:db8::1"), Holder::Peer);
    reserved.hold(ip("10.0.0.9"), Holder::Own { key: "data-plane.nat64-source" });
    reserved
}

/// Address, what is said of it as VIP, as a source's backend, and as a backend that the operator wrote down.
const TABLE: [(&str, &str, &str, &str); 33] = [
    ("203.0.113.10", "", "", ""),
    ("10.0.0.50", "", "", ""),
    ("2001:db8:113::10", "", "", ""),
    ("10.0.0.2", "this host's on eth0", "this host's on eth0", "this host's on eth0"),
    ("10.9.0.0", "this host's on eth2", "this host's on eth2", "this host's on eth2"),
    ("10.9.0.1", "", "", ""),
    ("2001:db8::2", "this host's on eth0", "this host's", "this host's"),
    ("10.0.0.0", "first or last address of 10.0.0.0/24", "first or last", "first or last"),
    ("10.0.0.255", "first or last address of 10.0.0.0/24", "first or last", "first or last"),
    ("2001:db8::", "first or last address of 2001:db8::/64", "first or last", "first or last"),
    ("2001:db8::ffff:ffff:ffff:ffff", "", "", ""),
    ("10.0.0.1", "is a BGP peer's and is a default gateway's of this host", "is a BGP peer's", ""),
    ("10.0.0.254", "is a default gateway's", "", ""),
    ("10.0.0.21", "is a next hop's", "", ""),
    ("2001:db8::1", "is a BGP peer's", "is a BGP peer's", ""),
    ("10.0.0.9", "own (data-plane.nat64-source)", "nat64-source", "nat64-source"),
    ("203.0.113.200", "is in 203.0.113.128/25 of vips.deny", "", ""),
    ("0.0.0.0", "no host", "no host", "no host"),
    ("0.1.2.3", "no host", "no host", "no host"),
    ("127.0.0.1", "loopback", "loopback", "loopback"),
    ("127.255.0.1", "loopback", "loopback", "loopback"),
    ("169.254.169.254", "link-local", "link-local", "link-local"),
    ("169.254.20.10", "link-local", "", ""),
    ("224.0.0.1", "many hosts", "many hosts", "many hosts"),
    ("240.0.0.1", "many hosts", "many hosts", "many hosts"),
    ("255.255.255.255", "many hosts", "many hosts", "many hosts"),
    ("::", "no host", "no host", "no host"),
    ("::1", "loopback", "loopback", "loopback"),
    ("::ffff:203.0.113.10", "IPv4 address", "IPv4 address", "IPv4 address"),
    ("::203.0.113.10", "IPv4 address", "IPv4 address", "IPv4 address"),
    ("fe80::1", "link-local", "link-local", "link-local"),
    ("febf::1", "link-local", "link-local", "link-local"),
    ("ff02::1", "many hosts", "many hosts", "many hosts"),
];

#[test]
fn each_address_is_judged() {
    let (reserved, host) = (reserved(), host());
    let rule = reserved.rule(&host);
    for (address, vip, backend, vouched) in TABLE {
        let judged = [
            rule.vip(ip(address)),
            rule.backend(ip(address), false),
            rule.backend(ip(address), true),
        ];
        for (violations, wanted) in judged.iter().zip([vip, backend, vouched]) {
            let said = reasons(violations);
            assert_eq!(said.is_empty(), wanted.is_empty(), "{address}: {said:?}");
            assert!(said.contains(wanted), "{address}: {said:?} without {wanted:?}");
        }
    }
}

#[test]
fn an_allow_list_leaves_nothing_else() {
    let vips = Prefixes { allow: nets(&["203.0.113.0/24"]), deny: nets(&["203.0.113.7/32"]) };
    let reserved = Reserved { vips, ..Reserved::default() };
    let (none, said) = (BTreeSet::new(), |violations: Vec<Violation>| reasons(&violations));
    let rule = reserved.rule(&none);
    assert_eq!(said(rule.vip(ip("203.0.113.10"))), "");
    assert_eq!(said(rule.vip(ip("203.0.113.7"))), "is in 203.0.113.7/32 of vips.deny");
    assert_eq!(said(rule.vip(ip("8.8.8.8"))), "is in no prefix of vips.allow");
    assert_eq!(said(rule.vip(ip("2001:db8::1"))), "is in no prefix of vips.allow");
    assert_eq!(said(rule.backend(ip("8.8.8.8"), false)), "", "of VIPs only");
}

proptest! {
    #[test]
    fn the_host_and_who_it_talks_to_are_never_vips(
        address in any::<u32>(), length in 0u8..=32, peer in any::<u32>(),
    ) {
        let address = IpAddr::V4(address.into());
        let peer = IpAddr::V4(peer.into());
        let net = IpNet::new(address, length).unwrap();
        let host = BTreeSet::from([HostAddress { net, link: "eth0".into() }]);
        let mut reserved = Reserved::default();
        reserved.hold(peer, Holder::Peer);
        let rule = reserved.rule(&host);
        prop_assert!(!rule.vip(address).is_empty());
        prop_assert!(!rule.backend(address, true).is_empty());
        prop_assert!(!rule.vip(peer).is_empty());
        prop_assert!(!rule.backend(peer, false).is_empty());
        if length < 31 {
            prop_assert!(!rule.vip(net.network()).is_empty());
            prop_assert!(!rule.vip(net.broadcast()).is_empty());
        }
    }
}

#[test]
fn a_range_is_of_a_class_when_one_address_is() {
    for (first, last, block) in [
        ("203.0.113.0", "203.0.113.255", None),
        ("127.0.0.1", "127.0.0.1", Some("127.0.0.0/8")),
        ("126.0.0.0", "128.0.0.0", Some("127.0.0.0/8")),
        ("126.255.255.0", "126.255.255.255", None),
        ("128.0.0.0", "169.253.255.255", None),
        ("128.0.0.0", "169.254.0.0", Some("169.254.0.0/16")),
        ("255.255.255.255", "255.255.255.255", Some("240.0.0.0/4")),
        ("0.0.0.0", "255.255.255.255", Some("0.0.0.0/8")),
        ("2001:db8::", "2001:db8::ffff", None),
        ("::1", "::1", Some("::1/128")),
        ("fe00::", "fec0::", Some("fe80::/10")),
        ("fec0::", "feff::", None),
    ] {
        let found = Class::within(ip(first), ip(last)).map(|(_, block)| block.to_string());
        assert_eq!(found.as_deref(), block, "{first}-{last}");
        let ends = [first, last].map(|end| Class::of(ip(end)));
        assert!(found.is_some() || ends == [None, None], "{first}-{last}");
    }
}
