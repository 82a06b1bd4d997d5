//! The one rule about which addresses may be VIPs and which may be backends. Every door asks it: the configuration file,
//! sources, and the planner just before anything is programmed.
//!
//! An address that somebody has already must not become a VIP: the data plane would take the packets of its holder. An
//! appliance's own address would lock its operator out, a router's would end its own sessions. The same for backends: a
//! probe and balanced packets reach what clients could not reach themselves.

use crate::service::ServiceName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that are no single host's, or do not go beyond a host or a link: these never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// `0.0.0.0/8` and `::` (RFC 1122 §3.2.1.3, RFC 4291 §2.5.2).
    Unspecified,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `169.254.0.0/16`, with the metadata services of clouds, and `fe80::/10` (RFC 3927, RFC 4291 §2.5.6).
    LinkLocal,
    /// `224.0.0.0/4` and `ff00::/8`.
    Multicast,
    /// `240.0.0.0/4` with the limited broadcast (RFC 1112 §4, RFC 919).
    Broadcast,
    /// `::ffff:0:0/96` and `::/96`: an IPv4 address in IPv6 notation (RFC 4291 §2.5.5).
    Mapped,
}

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// This host, on a link.
    Host {
        /// The link's name.
        link: String,
    },
    /// A BGP peer.
    Peer,
    /// The default gateway of this host.
    Gateway,
    /// The next hop of another route of this host. It may be a server: nodes of a cluster are next hops to their pods.
    NextHop,
    /// The configuration names it as ours: an API or BGP listener, `nat64-source`, a session's own end.
    Own {
        /// The key.
        key: &'static str,
    },
    /// A server: the backend of a service.
    Backend(ServiceName),
    /// It is a VIP of a service.
    Vip(ServiceName),
}

/// One reason why an address may not be what it is wanted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violation {
    /// It belongs to no single host that is routed.
    Class(Class),
    /// It is the first or the last address of a network this host is in.
    Edge(IpNet),
    /// Somebody has it.
    Taken(Holder),
    /// The configuration denies it.
    Denied {
        /// The key of the list.
        key: &'static str,
        /// The prefix it is in.
        prefix: IpNet,
    },
    /// The configuration lists what is allowed, and it is not in there.
    NotAllowed {
        /// The key of the list.
        key: &'static str,
    },
    /// The configuration limits who asks to other prefixes.
    NotOfSource,
}

/// Prefixes that are allowed, and those that are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Empty allows everything.
    pub allow: Vec<IpNet>,
    /// Counts more than `allow`.
    pub deny: Vec<IpNet>,
}

/// An address of this host that is no VIP of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostAddress {
    /// The address with the network it is in.
    pub net: IpNet,
    /// The link's name.
    pub link: String,
}

/// What is known of addresses that are not free, beside those of the host itself: those are observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    holders: BTreeMap<IpAddr, BTreeSet<Holder>>,
    /// `[vips]`.
    pub vips: Prefixes,
    /// `[backends]`.
    pub backends: Prefixes,
    /// `[backends] trust`: link-local IPv4 addresses, peers and gateways in these may be backends of sources too.
    pub trusted: Vec<IpNet>,
}

/// [`Reserved`] together with the host's addresses of one moment.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    reserved: &'a Reserved,
    host: BTreeMap<IpAddr, &'a str>,
    edges: BTreeMap<IpAddr, IpNet>,
}

// === impl Class ===

impl Class {
    /// The class of an address; `None` when it can be one host's.
    pub fn of(address: IpAddr) -> Option<Self> {
        BLOCKS.iter().find(|(_, block)| block.contains(&address)).map(|(class, _)| *class)
    }

    /// A class with a block that shares addresses with this range of one family; `None` when each can be one host's.
    pub fn within(first: IpAddr, last: IpAddr) -> Option<(Self, IpNet)> {
        let is_in = |block: &IpNet| block.network() <= last && first <= block.broadcast();
        let mut same = BLOCKS.iter().filter(|(_, b)| b.addr().is_ipv4() == first.is_ipv4());
        same.find(|(_, block)| is_in(block)).copied()
    }
}

/// The blocks of all classes. The first that has an address decides, so the narrow ones are ahead of the wide.
const BLOCKS: [(Class, IpNet); 11] = [
    (Class::Unspecified, v4([0, 0, 0, 0], 8)),
    (Class::Loopback, v4([127, 0, 0, 0], 8)),
    (Class::LinkLocal, v4([169, 254, 0, 0], 16)),
    (Class::Multicast, v4([224, 0, 0, 0], 4)),
    (Class::Broadcast, v4([240, 0, 0, 0], 4)),
    (Class::Unspecified, v6([0; 8], 128)),
    (Class::Loopback, v6([0, 0, 0, 0, 0, 0, 0, 1], 128)),
    (Class::Mapped, v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96)),
    (Class::Mapped, v6([0; 8], 96)),
    (Class::LinkLocal, v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)),
    (Class::Multicast, v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8)),
];

const fn v4(octets: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(segments: [u16; 8], length: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = segments;
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length))
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Unspecified => "stands for no host",
            Class::Loopback => "is a loopback address",
            Class::LinkLocal => "is link-local",
            Class::Multicast | Class::Broadcast => "stands for many hosts",
            Class::Mapped => "is an IPv4 address in IPv6 notation",
        })
    }
}

// === impl Prefixes ===

impl Prefixes {
    /// What is against an address; `allow` and `deny` are the keys of the lists.
    pub fn against(
        &self,
        address: IpAddr,
        allow: &'static str,
        deny: &'static str,
    ) -> Option<Violation> {
        let contains = |prefix: &&IpNet| prefix.contains(&address);
        if let Some(prefix) = self.deny.iter().find(contains) {
            return Some(Violation::Denied { key: deny, prefix: *prefix });
        }
        let is_allowed = self.allow.is_empty() || self.allow.iter().any(|p| contains(&p));
        (!is_allowed).then_some(Violation::NotAllowed { key: allow })
    }
}

// === impl Reserved ===

impl Reserved {
    /// Somebody has this address.
    pub fn hold(&mut self, address: IpAddr, holder: Holder) {
        self.holders.entry(address).or_default().insert(holder);
    }

    /// The rule as long as the host has these addresses.
    pub fn rule<'a>(&'a self, host: &'a BTreeSet<HostAddress>) -> Rule<'a> {
        let links = host.iter().map(|has| (has.net.addr(), has.link.as_str()));
        let edges = host.iter().flat_map(|has| edges(has.net));
        Rule { reserved: self, host: links.collect(), edges: edges.collect() }
    }
}

// === impl Rule ===

impl Rule<'_> {
    /// Everything against an address as VIP; empty when it may be one. Whether it is a backend is not known here.
    pub fn vip(&self, address: IpAddr) -> Vec<Violation> {
        let class = Class::of(address).map(Violation::Class);
        let lists = self.reserved.vips.against(address, "vips.allow", "vips.deny");
        class.into_iter().chain(self.taken(address)).chain(lists).collect()
    }

    /// Everything against an address as backend. `is_vouched`: the operator wrote it into the configuration file, so it
    /// may be a router's. Whether it is a VIP is not known here.
    pub fn backend(&self, address: IpAddr, is_vouched: bool) -> Vec<Violation> {
        let is_trusted = self.reserved.trusted.iter().any(|prefix| prefix.contains(&address));
        let is_excused = |violation: &Violation| match violation {
            Violation::Class(Class::LinkLocal) => is_trusted && address.is_ipv4(),
            Violation::Taken(Holder::NextHop) => true,
            Violation::Taken(Holder::Peer | Holder::Gateway) => is_trusted || is_vouched,
            _ => false,
        };
        let class = Class::of(address).map(Violation::Class);
        let lists = self.reserved.backends.against(address, "backends.allow", "backends.deny");
        let all = class.into_iter().chain(self.taken(address)).chain(lists);
        all.filter(|violation| !is_excused(violation)).collect()
    }

    fn taken(&self, address: IpAddr) -> impl Iterator<Item = Violation> + '_ {
        let host = self.host.get(&address).map(|link| Holder::Host { link: (*link).to_owned() });
        let known = self.reserved.holders.get(&address).into_iter().flatten().cloned();
        let edge = self.edges.get(&address).copied().map(Violation::Edge);
        host.into_iter().chain(known).map(Violation::Taken).chain(edge)
    }
}

/// The addresses of a network that are no host's: the network's own and the broadcast address of IPv4, the subnet
/// routers' of IPv6 (RFC 4291 §2.6.1). Links with two addresses or one have none (RFC 3021, RFC 6164).
fn edges(net: IpNet) -> impl Iterator<Item = (IpAddr, IpNet)> {
    let is_wide = net.max_prefix_len() - net.prefix_len() > 1;
    let last = matches!(net, IpNet::V4(_)).then(|| net.broadcast());
    let both = std::iter::once(net.network()).chain(last).filter(move |_| is_wide);
    both.map(move |address| (address, net.trunc()))
}

// === impl Violation ===

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Host { link } => write!(f, "this host's on {link}"),
            Holder::Peer => f.write_str("a BGP peer's"),
            Holder::Gateway => f.write_str("a default gateway's of this host"),
            Holder::NextHop => f.write_str("a next hop's of this host"),
            Holder::Own { key } => write!(f, "the appliance's own ({key})"),
            Holder::Backend(service) => write!(f, "a backend's of service {service}"),
            Holder::Vip(service) => write!(f, "a VIP of service {service}"),
        }
    }
}

/// What follows the address in a sentence.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Class(class) => class.fmt(f),
            Violation::Edge(net) => write!(f, "is the first or last address of {net}"),
            Violation::Taken(holder) => write!(f, "is {holder}"),
            Violation::Denied { key, prefix } => write!(f, "is in {prefix} of {key}"),
            Violation::NotAllowed { key } => write!(f, "is in no prefix of {key}"),
            Violation::NotOfSource => f.write_str("is in no prefix that its source may ask for"),
        }
    }
}

/// All of them in a sentence, after the address.
pub fn reasons(violations: &[Violation]) -> String {
    let words: Vec<String> = violations.iter().map(ToString::to_string).collect();
    words.join(" and ")
}

#[cfg(test)]
#[path = "reserved_tests.rs"]
mod tests;
