//! Ranges of addresses, written as CIDR, `first-last` or one address.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of one family from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: IpAddr,
    last: IpAddr,
}

// === impl Range ===

impl Range {
    /// Reads one entry of a pool. `avoid_ends` leaves out the first and last address of an IPv4 CIDR shorter than /31.
    ///
    /// # Errors
    /// What is wrong with the text, and how it should look.
    pub(super) fn parse(text: &str, avoid_ends: bool) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || {
            format!(
                "{text:?} is no CIDR (203.0.113.0/24), range (203.0.113.1-203.0.113.9) or address"
            )
        };
        if let Some((first, last)) = text.split_once('-') {
            let first: IpAddr = first.trim().parse().map_err(|_| wrong())?;
            let last: IpAddr = last.trim().parse().map_err(|_| wrong())?;
            if first.is_ipv4() != last.is_ipv4() {
                return Err(format!("{text:?} begins in one address family and ends in the other"));
            }
            if first > last {
                return Err(format!("{text:?} ends before it begins; write {last}-{first}"));
            }
            return Ok(Range { first, last });
        }
        if !text.contains('/') {
            let only = text.parse().map_err(|_| wrong())?;
            return Ok(Range { first: only, last: only });
        }
        let net: IpNet = text.parse().map_err(|_| wrong())?;
        let (first, last) = (net.network(), net.broadcast());
        let has_ends = avoid_ends && matches!(net, IpNet::V4(v4) if v4.prefix_len() < 31);
        if !has_ends {
            return Ok(Range { first, last });
        }
        let inner = step(first, 1).zip(step(last, -1));
        inner.map(|(first, last)| Range { first, last }).ok_or_else(wrong)
    }

    /// True when the address is one of these.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }

    /// True when both have an address in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// True for IPv4.
    pub(super) fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// How many addresses; saturates at 2^128 - 1.
    pub(super) fn size(&self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }

    /// Every address from this one on, lowest first.
    pub(super) fn addresses_from(
        &self,
        start: Option<IpAddr>,
    ) -> impl Iterator<Item = IpAddr> + use<> {
        let Range { first, last } = *self;
        let start = start.map_or(first, |start| start.max(first));
        let start = (start <= last).then_some(start);
        let next = move |now: &IpAddr| if *now < last { step(*now, 1) } else { None };
        std::iter::successors(start, next)
    }

    /// The first address.
    pub(super) fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub(super) fn last(&self) -> IpAddr {
        self.last
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The address `by` further on; `None` beyond the family's end.
pub(super) fn step(address: IpAddr, by: i8) -> Option<IpAddr> {
    let next = number(address).checked_add_signed(by.into())?;
    match address {
        IpAddr::V4(_) => Some(IpAddr::V4(Ipv4Addr::from(u32::try_from(next).ok()?))),
        IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::from(next))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_is_read() {
        for (text, avoid, words, len) in [
            ("203.0.113.0/30", false, "203.0.113.0-203.0.113.3", 4),
            ("203.0.113.0/30", true, "203.0.113.1-203.0.113.2", 2),
            ("203.0.113.4/31", true, "203.0.113.4-203.0.113.5", 2),
            (" 203.0.113.9 - 203.0.113.10 ", true, "203.0.113.9-203.0.113.10", 2),
            ("203.0.113.7", true, "203.0.113.7-203.0.113.7", 1),
            ("2001:db8::/126", true, "2001:db8::-2001:db8::3", 4),
            ("::/0", false, "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", u128::MAX),
        ] {
            let range = Range::parse(text, avoid).unwrap();
            assert_eq!((range.to_string().as_str(), range.size()), (words, len), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("203.0.113.0/33", "is no CIDR"),
            ("203.0.113", "is no CIDR"),
            ("203.0.113.9-203.0.113.1", "write 203.0.113.1-203.0.113.9"),
            ("203.0.113.9-2001:db8::1", "address family"),
            ("", "is no CIDR"),
        ] {
            let error = Range::parse(text, false).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn addresses_end_with_the_last() {
        let all = |text| Range::parse(text, false).unwrap().addresses_from(None).count();
        assert_eq!(all("203.0.113.0/24"), 256);
        assert_eq!(all("255.255.255.254-255.255.255.255"), 2);
        assert_eq!(all("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 1);
    }

    #[test]
    fn overlaps_are_seen_from_both_sides() {
        let range = |text| Range::parse(text, false).unwrap();
        let (wide, inner, other) =
            (range("10.0.0.0/8"), range("10.1.0.1"), range("11.0.0.0-11.0.0.9"));
        assert!(wide.overlaps(&inner) && inner.overlaps(&wide));
        assert!(!wide.overlaps(&other) && !range("::a00:0/104").overlaps(&wide));
    }
}
