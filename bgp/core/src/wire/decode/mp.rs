//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760 §3 and §4, RFC 2545).

use crate::wire::cursor::Cursor;
use crate::wire::ids::Family;
use crate::wire::nlri;
use crate::wire::session::Codec;
use crate::wire::update::{Form, NextHop, Prefixes, Reach, Unreach};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Why one of the two cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MpError {
    /// Not even the family can be told.
    TooShort,
    /// Not a family of this session.
    NotNegotiated(Family),
    /// RFC 7606 §7.11: the prefixes cannot be found, or not be read (§5.3).
    Malformed(Family, &'static str),
}

/// The prefixes with their next hop, and whether a router can have that address.
pub(super) fn reach(codec: &Codec, value: &[u8]) -> Result<(Reach, bool), MpError> {
    let mut cursor = Cursor::new(value);
    let family = family(codec, &mut cursor)?;
    let malformed = |reason| MpError::Malformed(family, reason);
    let next_hop = cursor.block8().ok_or(malformed("the MP_REACH_NLRI next hop is cut"))?;
    let next_hop = next_hop_of(family, next_hop)
        .ok_or(malformed("the MP_REACH_NLRI next hop's length does not suit the family"))?;
    // RFC 4760 §3: reserved, ignored.
    cursor.u8().ok_or(malformed("the MP_REACH_NLRI ends after the next hop"))?;
    let prefixes = prefixes(family, cursor.rest())?;
    Ok((Reach { form: Form::Multiprotocol, next_hop, prefixes }, is_usable(&next_hop)))
}

pub(super) fn unreach(codec: &Codec, value: &[u8]) -> Result<Unreach, MpError> {
    let mut cursor = Cursor::new(value);
    let family = family(codec, &mut cursor)?;
    Ok(Unreach { form: Form::Multiprotocol, prefixes: prefixes(family, cursor.rest())? })
}

fn family(codec: &Codec, cursor: &mut Cursor<'_>) -> Result<Family, MpError> {
    let (Some(afi), Some(safi)) = (cursor.u16(), cursor.u8()) else {
        return Err(MpError::TooShort);
    };
    let family = Family { afi, safi };
    if codec.has(family) { Ok(family) } else { Err(MpError::NotNegotiated(family)) }
}

fn prefixes(family: Family, bytes: &[u8]) -> Result<Prefixes, MpError> {
    let read = match family {
        Family::IPV6_UNICAST => nlri::read(bytes).map(Prefixes::V6),
        _ => nlri::read(bytes).map(Prefixes::V4),
    };
    read.map_err(|_| MpError::Malformed(family, "a prefix is too long or cut"))
}

/// By length: RFC 4760 §3 for IPv4, RFC 2545 §3 for IPv6.
fn next_hop_of(family: Family, bytes: &[u8]) -> Option<NextHop> {
    let mut cursor = Cursor::new(bytes);
    let next_hop = match (family, bytes.len()) {
        (Family::IPV4_UNICAST, 4) => NextHop::V4(Ipv4Addr::from(cursor.array::<4>()?)),
        (Family::IPV6_UNICAST, 16) => {
            NextHop::V6 { global: Ipv6Addr::from(cursor.array::<16>()?), link_local: None }
        }
        (Family::IPV6_UNICAST, 32) => NextHop::V6 {
            global: Ipv6Addr::from(cursor.array::<16>()?),
            link_local: Some(Ipv6Addr::from(cursor.array::<16>()?)),
        },
        _ => return None,
    };
    Some(next_hop)
}

/// Whether a router can have the address (RFC 4271 §6.3). An unspecified global address beside a link-local one is
/// what some speakers send on unnumbered links.
fn is_usable(next_hop: &NextHop) -> bool {
    match next_hop {
        NextHop::V4(address) => is_host(*address),
        NextHop::V6 { global, link_local } => {
            let missing = global.is_unspecified() && link_local.is_none();
            !(missing || global.is_multicast() || global.is_loopback())
        }
    }
}

/// Not "this network", loopback, multicast or reserved.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [0 | 127 | 224..=255, ..])
}
