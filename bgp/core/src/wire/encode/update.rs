//! One UPDATE as it is described; see `pack` for many prefixes.

use super::{attributes, with_len16};
use crate::wire::attributes::{Attributes, attr, flag};
use crate::wire::ids::Family;
use crate::wire::message::EncodeError;
use crate::wire::nlri::{self, Nlri};
use crate::wire::session::Codec;
use crate::wire::update::{Form, NextHop, Prefixes, Reach, Unreach, Update};
use bytes::{BufMut, BytesMut};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// AFI, SAFI.
pub(super) const FAMILY_LEN: usize = 3;

pub(super) fn write(codec: &Codec, update: &Update, out: &mut BytesMut) -> Result<(), EncodeError> {
    if let Some(family) = update.end_of_rib {
        return write_end_of_rib(family, out);
    }
    let (classic, mp_reach) = split_reach(&update.reach)?;
    let (withdrawn, mp_unreach) = split_unreach(&update.unreach)?;
    with_len16(out, |out| {
        put_all(withdrawn, out);
        Ok(())
    })?;
    with_len16(out, |out| {
        if let Some(reach) = mp_reach {
            match &reach.prefixes {
                Prefixes::V4(p) => write_mp_reach(Family::IPV4_UNICAST, &reach.next_hop, p, out)?,
                Prefixes::V6(p) => write_mp_reach(Family::IPV6_UNICAST, &reach.next_hop, p, out)?,
            }
        }
        match mp_unreach {
            Some(Prefixes::V4(p)) => write_mp_unreach(Family::IPV4_UNICAST, p, out)?,
            Some(Prefixes::V6(p)) => write_mp_unreach(Family::IPV6_UNICAST, p, out)?,
            None => {}
        }
        attributes::write(codec, &update.attributes, classic.map(|(n, _)| n), out)
    })?;
    put_all(classic.map_or(&[], |(_, prefixes)| prefixes), out);
    Ok(())
}

/// An empty UPDATE for IPv4 unicast, an empty MP_UNREACH_NLRI for the others (RFC 4724 §2).
pub(super) fn write_end_of_rib(family: Family, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_u16(0);
    if family == Family::IPV4_UNICAST {
        out.put_u16(0);
        return Ok(());
    }
    with_len16(out, |out| write_mp_unreach::<Ipv4Net>(family, &[], out))
}

/// MP_REACH_NLRI (RFC 4760 §3).
pub(super) fn write_mp_reach<N: Nlri>(
    family: Family,
    next_hop: &NextHop,
    prefixes: &[N],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let octets = prefixes.iter().map(Nlri::wire_len).sum();
    let len = FAMILY_LEN + 1 + next_hop_len(next_hop) + 1 + octets;
    attributes::header(flag::OPTIONAL, attr::MP_REACH, len, out)?;
    out.put_u16(family.afi);
    out.put_u8(family.safi);
    match next_hop {
        NextHop::V4(address) => {
            out.put_u8(4);
            out.put_slice(&address.octets());
        }
        NextHop::V6 { global, link_local } => {
            out.put_u8(if link_local.is_some() { 32 } else { 16 });
            out.put_slice(&global.octets());
            if let Some(link_local) = link_local {
                out.put_slice(&link_local.octets());
            }
        }
    }
    // RFC 4760 §3: reserved.
    out.put_u8(0);
    nlri::write(prefixes, octets, out);
    Ok(())
}

/// MP_UNREACH_NLRI (RFC 4760 §4).
pub(super) fn write_mp_unreach<N: Nlri>(
    family: Family,
    prefixes: &[N],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let octets = prefixes.iter().map(Nlri::wire_len).sum();
    attributes::header(flag::OPTIONAL, attr::MP_UNREACH, FAMILY_LEN + octets, out)?;
    out.put_u16(family.afi);
    out.put_u8(family.safi);
    nlri::write(prefixes, octets, out);
    Ok(())
}

pub(super) fn next_hop_len(next_hop: &NextHop) -> usize {
    match next_hop {
        NextHop::V4(_) => 4,
        NextHop::V6 { link_local: None, .. } => 16,
        NextHop::V6 { link_local: Some(_), .. } => 32,
    }
}

/// How long the attributes are; written at the end of `out` and taken back.
pub(super) fn attributes_len(
    codec: &Codec,
    set: &Attributes,
    next_hop: Option<Ipv4Addr>,
    out: &mut BytesMut,
) -> Result<usize, EncodeError> {
    let start = out.len();
    let result = attributes::write(codec, set, next_hop, out);
    let len = out.len() - start;
    out.truncate(start);
    result.map(|()| len)
}

fn put_all(prefixes: &[Ipv4Net], out: &mut BytesMut) {
    let octets = prefixes.iter().map(Nlri::wire_len).sum();
    nlri::write(prefixes, octets, out);
}

type Classic<'a> = Option<(Ipv4Addr, &'a [Ipv4Net])>;

fn split_reach(entries: &[Reach]) -> Result<(Classic<'_>, Option<&Reach>), EncodeError> {
    let (mut classic, mut multiprotocol) = (None, None);
    for reach in entries {
        let is_new = match (reach.form, reach.next_hop, &reach.prefixes) {
            (Form::Classic, NextHop::V4(next_hop), Prefixes::V4(prefixes)) => {
                classic.replace((next_hop, prefixes.as_slice())).is_none()
            }
            (Form::Multiprotocol, NextHop::V4(_), Prefixes::V4(_))
            | (Form::Multiprotocol, NextHop::V6 { .. }, Prefixes::V6(_)) => {
                multiprotocol.replace(reach).is_none()
            }
            _ => false,
        };
        if !is_new {
            return Err(EncodeError::Shape);
        }
    }
    Ok((classic, multiprotocol))
}

fn split_unreach(entries: &[Unreach]) -> Result<(&[Ipv4Net], Option<&Prefixes>), EncodeError> {
    let (mut classic, mut multiprotocol): (&[Ipv4Net], _) = (&[], None);
    for unreach in entries {
        let is_new = match (unreach.form, &unreach.prefixes) {
            (Form::Classic, Prefixes::V4(prefixes)) => {
                std::mem::replace(&mut classic, prefixes).is_empty()
            }
            (Form::Classic, Prefixes::V6(_)) => false,
            (Form::Multiprotocol, prefixes) => multiprotocol.replace(prefixes).is_none(),
        };
        if !is_new {
            return Err(EncodeError::Shape);
        }
    }
    Ok((classic, multiprotocol))
}
