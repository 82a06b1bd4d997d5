//! What is: read back from the kernel and from the BGP speaker, never remembered from what was asked for.

use crate::reserved::HostAddress;
use crate::service::{Frontend, Program};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Attributes of an announced prefix beyond the mandatory ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteAttributes {
    /// RFC 4271 §5.1.4.
    pub med: Option<u32>,
    /// RFC 4271 §5.1.5.
    pub local_pref: Option<u32>,
    /// RFC 1997, high 16 bits first.
    pub communities: Vec<u32>,
    /// RFC 8092.
    pub large_communities: Vec<[u32; 3]>,
    /// How many extra times our AS is prepended.
    pub prepend: u8,
}

/// Everything of ours that exists outside this process, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// What the data plane balances.
    pub programs: BTreeMap<Frontend, Program>,
    /// VIPs for which the data plane keeps the kernel's stack silent.
    pub guarded: BTreeSet<IpAddr>,
    /// VIPs that are addresses of this host.
    pub addresses: BTreeSet<IpAddr>,
    /// Addresses of this host that are no VIPs of ours.
    pub host: BTreeSet<HostAddress>,
    /// True when the data plane sees the packets of some link.
    pub attached: bool,
    /// Prefixes the routers are told.
    pub announced: BTreeMap<IpNet, RouteAttributes>,
}

/// The /32 or /128 of an address.
pub fn host_prefix(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::from(v4)),
        IpAddr::V6(v6) => IpNet::V6(Ipv6Net::from(v6)),
    }
}

// === impl Observed ===

impl Observed {
    /// True when a new flow to some port of the VIP finds a backend.
    pub fn serves(&self, vip: IpAddr) -> bool {
        self.programs.range(Frontend::all_of(vip)).any(|(_, program)| program.serves())
    }

    /// True when announcing the VIP sends nobody into a hole: it is served, guarded and on the host, and the data plane
    /// is attached.
    pub fn can_announce(&self, vip: IpAddr) -> bool {
        self.attached
            && self.serves(vip)
            && self.guarded.contains(&vip)
            && self.addresses.contains(&vip)
    }

    /// True when the host has the address for itself.
    pub fn is_host(&self, address: IpAddr) -> bool {
        self.host.iter().any(|has| has.net.addr() == address)
    }

    /// True when the routers are told of the VIP.
    pub fn announces(&self, vip: IpAddr) -> bool {
        self.announced.contains_key(&host_prefix(vip))
    }
}
