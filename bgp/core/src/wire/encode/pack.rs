//! Many prefixes into few UPDATEs: what a session calls to announce and withdraw.

use super::update::{
    FAMILY_LEN, attributes_len, next_hop_len, write_end_of_rib, write_mp_reach, write_mp_unreach,
};
use super::{attributes, framed_update, with_len16};
use crate::wire::attributes::Attributes;
use crate::wire::frame::{HEADER_LEN, MAX_LEN};
use crate::wire::ids::Family;
use crate::wire::message::EncodeError;
use crate::wire::nlri::{self, Nlri};
use crate::wire::session::Codec;
use crate::wire::update::NextHop;
use bytes::{BufMut, BytesMut};
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What is left of a message beside the header and the two length fields of an UPDATE.
const ROOM: usize = MAX_LEN - HEADER_LEN - 4;
/// Flags, type and the long form of the length.
const ATTRIBUTE_HEADER_LEN: usize = 4;

impl Codec {
    /// Announces IPv4 prefixes in the classic form; returns the number of messages written, 0 for no prefixes.
    /// Nothing is written on error.
    pub fn announce_v4(
        &self,
        attributes: &Attributes,
        next_hop: Ipv4Addr,
        prefixes: &[Ipv4Net],
        out: &mut BytesMut,
    ) -> Result<usize, EncodeError> {
        let taken = attributes_len(self, attributes, Some(next_hop), out)?;
        packed(prefixes, taken, out, |prefixes, octets, out| {
            framed_update(out, |out| {
                out.put_u16(0);
                with_len16(out, |out| attributes::write(self, attributes, Some(next_hop), out))?;
                nlri::write(prefixes, octets, out);
                Ok(())
            })
        })
    }

    /// Announces IPv6 prefixes in MP_REACH_NLRI; `link_local` makes the next hop 32 octets (RFC 2545 §3).
    /// Returns the number of messages written. Nothing is written on error.
    pub fn announce_v6(
        &self,
        attributes: &Attributes,
        next_hop: Ipv6Addr,
        link_local: Option<Ipv6Addr>,
        prefixes: &[Ipv6Net],
        out: &mut BytesMut,
    ) -> Result<usize, EncodeError> {
        let next_hop = NextHop::V6 { global: next_hop, link_local };
        // Length and reserved octet beside the next hop.
        let mp = ATTRIBUTE_HEADER_LEN + FAMILY_LEN + 2 + next_hop_len(&next_hop);
        let taken = mp + attributes_len(self, attributes, None, out)?;
        packed(prefixes, taken, out, |prefixes, _, out| {
            framed_update(out, |out| {
                out.put_u16(0);
                with_len16(out, |out| {
                    write_mp_reach(Family::IPV6_UNICAST, &next_hop, prefixes, out)?;
                    attributes::write(self, attributes, None, out)
                })
            })
        })
    }

    /// Withdraws IPv4 prefixes in the classic form; returns the number of messages written.
    pub fn withdraw_v4(
        &self,
        prefixes: &[Ipv4Net],
        out: &mut BytesMut,
    ) -> Result<usize, EncodeError> {
        packed(prefixes, 0, out, |prefixes, octets, out| {
            framed_update(out, |out| {
                with_len16(out, |out| {
                    nlri::write(prefixes, octets, out);
                    Ok(())
                })?;
                out.put_u16(0);
                Ok(())
            })
        })
    }

    /// Withdraws IPv6 prefixes in MP_UNREACH_NLRI; returns the number of messages written.
    pub fn withdraw_v6(
        &self,
        prefixes: &[Ipv6Net],
        out: &mut BytesMut,
    ) -> Result<usize, EncodeError> {
        packed(prefixes, ATTRIBUTE_HEADER_LEN + FAMILY_LEN, out, |prefixes, _, out| {
            framed_update(out, |out| {
                out.put_u16(0);
                with_len16(out, |out| write_mp_unreach(Family::IPV6_UNICAST, prefixes, out))
            })
        })
    }

    /// Says that a family's initial routes are complete (RFC 4724 §2).
    pub fn end_of_rib(&self, family: Family, out: &mut BytesMut) -> Result<(), EncodeError> {
        framed_update(out, |out| write_end_of_rib(family, out))
    }
}

/// Calls `message` with as many prefixes at a time as fit beside `taken` octets.
fn packed<N: Nlri>(
    mut prefixes: &[N],
    taken: usize,
    out: &mut BytesMut,
    mut message: impl FnMut(&[N], usize, &mut BytesMut) -> Result<(), EncodeError>,
) -> Result<usize, EncodeError> {
    let start = out.len();
    let room = ROOM.saturating_sub(taken);
    let mut messages = 0;
    while let Some(first) = prefixes.first() {
        let (count, octets) = nlri::fit(prefixes, room);
        if count == 0 {
            out.truncate(start);
            return Err(EncodeError::TooLong { len: MAX_LEN - ROOM + taken + first.wire_len() });
        }
        let (now, later) = prefixes.split_at(count);
        // A failure later on would leave half a set behind.
        message(now, octets, out).inspect_err(|_| out.truncate(start))?;
        prefixes = later;
        messages += 1;
    }
    Ok(messages)
}
