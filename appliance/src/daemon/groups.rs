//! Membership in the multicast groups that neighbours ask for the MACs of IPv6 VIPs by (RFC 4861 section 7.2.1).
//!
//! The data plane answers such questions, but a NIC lets only the groups in that somebody has joined, and a switch with
//! MLD snooping forwards no others. The kernel joins for addresses of the link itself; a VIP is none. Only VIPs in a
//! prefix of the link are asked for there, so the others are not joined.

use ipnet::IpNet;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};

/// A group on a link.
type Membership = (Ipv6Addr, u32);

/// Held by a socket; without this process neighbours go on with what they know until they ask again.
#[derive(Default)]
pub(super) struct Groups {
    socket: Option<UdpSocket>,
    joined: BTreeSet<Membership>,
    problem: Option<String>,
}

// === impl Groups ===

impl Groups {
    /// Joins what these VIPs need on these links, given with their prefixes, and leaves the rest.
    pub(super) fn follow(
        &mut self,
        vips: &BTreeSet<IpAddr>,
        links: impl Iterator<Item = (u32, Vec<IpNet>)>,
    ) {
        let wanted = wanted(vips, links);
        if self.joined == wanted {
            return;
        }
        let failed = self.set(&wanted).err();
        let words = |error| format!("cannot be asked for the MACs of all IPv6 VIPs: {error}");
        let problem = failed.map(words);
        if let Some(problem) = problem.as_ref().filter(|_| self.problem != problem) {
            tracing::warn!("{problem}");
        }
        self.problem = problem;
    }

    pub(super) fn problem(&self) -> Option<&String> {
        self.problem.as_ref()
    }

    fn set(&mut self, wanted: &BTreeSet<Membership>) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            // Any port: nothing is received by it.
            socket => socket.insert(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?),
        };
        for (group, link) in self.joined.difference(wanted) {
            // Gone with its link, if it is not there.
            drop(socket.leave_multicast_v6(group, *link));
        }
        self.joined.retain(|membership| wanted.contains(membership));
        let mut result = Ok(());
        for (group, link) in wanted {
            if self.joined.contains(&(*group, *link)) {
                continue;
            }
            match socket.join_multicast_v6(group, *link) {
                Ok(()) => drop(self.joined.insert((*group, *link))),
                Err(error) => result = Err(error),
            }
        }
        result
    }
}

fn wanted(
    vips: &BTreeSet<IpAddr>,
    links: impl Iterator<Item = (u32, Vec<IpNet>)>,
) -> BTreeSet<Membership> {
    let mut wanted = BTreeSet::new();
    for (link, prefixes) in links {
        for vip in vips {
            let IpAddr::V6(address) = vip else { continue };
            if prefixes.iter().any(|prefix| prefix.contains(vip)) {
                wanted.insert((solicited_node(*address), link));
            }
        }
    }
    wanted
}

/// RFC 4291 section 2.7.1: a fixed prefix and the last 24 bits.
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips_are_asked_for_where_they_are_on_link() {
        let vips = ["2001:db8::ab12:3456", "2001:db8:113::10", "10.0.0.100"];
        let vips = vips.map(|vip| vip.parse().unwrap()).into();
        let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let links = [
            (2, prefixes(&["10.0.0.2/24", "2001:db8::2/64"])),
            (3, prefixes(&["2001:db8:1::1/64"])),
        ];
        let group = "ff02::1:ff12:3456".parse().unwrap();
        assert_eq!(wanted(&vips, links.into_iter()), [(group, 2)].into());
    }
}
