//! Path attributes in ascending order of type (RFC 4271 §5), with the flags their definitions ask for.

use crate::wire::as_path::{AsPath, Segment};
use crate::wire::attributes::{Attributes, PartialSet, attr, flag};
use crate::wire::ids::Asn;
use crate::wire::message::EncodeError;
use crate::wire::session::Codec;
use bytes::{BufMut, BytesMut};
use std::net::Ipv4Addr;

const WELL_KNOWN: u8 = flag::TRANSITIVE;
const OPTIONAL: u8 = flag::OPTIONAL;
const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;
/// A segment counts its ASes in one octet.
const SEGMENT_MAX: usize = 255;

/// All attributes except MP_REACH_NLRI and MP_UNREACH_NLRI, which come before (RFC 7606 §5.1).
pub(super) fn write(
    codec: &Codec,
    attributes: &Attributes,
    next_hop: Option<Ipv4Addr>,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let mut other = attributes.other.iter().peekable();
    // The types with fields of their own, ascending; the others are put between them where they belong.
    for code in [
        attr::ORIGIN,
        attr::AS_PATH,
        attr::NEXT_HOP,
        attr::MED,
        attr::LOCAL_PREF,
        attr::ATOMIC_AGGREGATE,
        attr::AGGREGATOR,
        attr::COMMUNITIES,
        attr::EXT_COMMUNITIES,
        attr::AS4_PATH,
        attr::AS4_AGGREGATOR,
        attr::LARGE_COMMUNITIES,
    ] {
        while let Some(other) = other.next_if(|o| o.code < code) {
            header(other.flags, other.code, other.value.len(), out)?;
            out.put_slice(&other.value);
        }
        known(codec, attributes, next_hop, code, out)?;
    }
    for other in other {
        header(other.flags, other.code, other.value.len(), out)?;
        out.put_slice(&other.value);
    }
    Ok(())
}

/// The attribute of this type, if there is something to say.
fn known(
    codec: &Codec,
    attributes: &Attributes,
    next_hop: Option<Ipv4Addr>,
    code: u8,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let a = attributes;
    match code {
        attr::ORIGIN => a.origin.map_or(Ok(()), |o| fixed(WELL_KNOWN, code, [o.code()], out)),
        attr::AS_PATH => a.as_path.as_ref().map_or(Ok(()), |p| as_path(codec, p, out)),
        attr::NEXT_HOP => next_hop.map_or(Ok(()), |n| fixed(WELL_KNOWN, code, n.octets(), out)),
        attr::MED => a.med.map_or(Ok(()), |m| fixed(OPTIONAL, code, m.to_be_bytes(), out)),
        // RFC 4271 §5.1.5: never to external peers.
        attr::LOCAL_PREF => a
            .local_pref
            .filter(|_| codec.internal)
            .map_or(Ok(()), |p| fixed(WELL_KNOWN, code, p.to_be_bytes(), out)),
        attr::ATOMIC_AGGREGATE if a.atomic_aggregate => fixed(WELL_KNOWN, code, [], out),
        attr::AGGREGATOR => aggregator(codec, a, out),
        attr::COMMUNITIES => list(a.partial, code, &a.communities, |c| c.0.to_be_bytes(), out),
        attr::EXT_COMMUNITIES => list(a.partial, code, &a.ext_communities, |c| c.0, out),
        attr::AS4_PATH => a.as_path.as_ref().map_or(Ok(()), |p| as4_path(codec, a, p, out)),
        attr::AS4_AGGREGATOR => as4_aggregator(codec, a, out),
        attr::LARGE_COMMUNITIES => large_communities(a, out),
        _ => Ok(()),
    }
}

/// Flags, type, length; two octets of length only where one is not enough.
pub(super) fn header(
    flags: u8,
    code: u8,
    len: usize,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if let Ok(short) = u8::try_from(len) {
        out.put_slice(&[flags & !flag::EXTENDED_LENGTH, code, short]);
        return Ok(());
    }
    let len = u16::try_from(len).map_err(|_| EncodeError::TooLong { len })?;
    let [high, low] = len.to_be_bytes();
    out.put_slice(&[flags | flag::EXTENDED_LENGTH, code, high, low]);
    Ok(())
}

fn fixed<const N: usize>(
    flags: u8,
    code: u8,
    value: [u8; N],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    header(flags, code, N, out)?;
    out.put_slice(&value);
    Ok(())
}

/// Flags of an optional transitive attribute that some speaker may not have known.
fn transitive(partial: PartialSet, code: u8) -> u8 {
    OPTIONAL_TRANSITIVE | if partial.contains(code) { flag::PARTIAL } else { 0 }
}

fn list<T, const N: usize>(
    partial: PartialSet,
    code: u8,
    items: &[T],
    octets: impl Fn(&T) -> [u8; N],
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if items.is_empty() {
        return Ok(());
    }
    header(transitive(partial, code), code, N * items.len(), out)?;
    for item in items {
        out.put_slice(&octets(item));
    }
    Ok(())
}

fn large_communities(a: &Attributes, out: &mut BytesMut) -> Result<(), EncodeError> {
    let code = attr::LARGE_COMMUNITIES;
    if a.large_communities.is_empty() {
        return Ok(());
    }
    header(transitive(a.partial, code), code, 12 * a.large_communities.len(), out)?;
    for community in &a.large_communities {
        out.put_u32(community.global);
        out.put_u32(community.local1);
        out.put_u32(community.local2);
    }
    Ok(())
}

fn as_path(codec: &Codec, path: &AsPath, out: &mut BytesMut) -> Result<(), EncodeError> {
    let len = path.segments.iter().map(|s| segment_len(s, codec.as4)).sum();
    header(WELL_KNOWN, attr::AS_PATH, len, out)?;
    path.segments.iter().for_each(|s| segment(s, codec.as4, out));
    Ok(())
}

/// What AS_TRANS hides from a two-octet speaker (RFC 6793 §4.2.2); confederations are left out.
fn as4_path(
    codec: &Codec,
    a: &Attributes,
    path: &AsPath,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if codec.as4 || path.iter().all(Asn::fits_u16) {
        return Ok(());
    }
    let said = || path.segments.iter().filter(|s| !s.kind.is_confederation());
    let len = said().map(|s| segment_len(s, true)).sum();
    header(transitive(a.partial, attr::AS4_PATH), attr::AS4_PATH, len, out)?;
    said().for_each(|s| segment(s, true, out));
    Ok(())
}

fn segment_len(segment: &Segment, as4: bool) -> usize {
    let count = segment.asns.len();
    2 * count.div_ceil(SEGMENT_MAX) + count * if as4 { 4 } else { 2 }
}

fn segment(segment: &Segment, as4: bool, out: &mut BytesMut) {
    for part in segment.asns.chunks(SEGMENT_MAX) {
        out.put_u8(segment.kind.code());
        // chunks() gives at most 255.
        out.put_u8(u8::try_from(part.len()).unwrap_or(u8::MAX));
        for asn in part {
            if as4 { out.put_u32(asn.get()) } else { out.put_u16(asn.as_u16()) }
        }
    }
}

fn aggregator(codec: &Codec, a: &Attributes, out: &mut BytesMut) -> Result<(), EncodeError> {
    let Some(aggregator) = a.aggregator else {
        return Ok(());
    };
    let flags = transitive(a.partial, attr::AGGREGATOR);
    header(flags, attr::AGGREGATOR, if codec.as4 { 8 } else { 6 }, out)?;
    if codec.as4 {
        out.put_u32(aggregator.asn.get());
    } else {
        out.put_u16(aggregator.asn.as_u16());
    }
    out.put_slice(&aggregator.router_id.octets());
    Ok(())
}

/// RFC 6793 §4.2.2: only beside an AGGREGATOR that says AS_TRANS.
fn as4_aggregator(codec: &Codec, a: &Attributes, out: &mut BytesMut) -> Result<(), EncodeError> {
    let hidden = a.aggregator.filter(|g| !codec.as4 && !g.asn.fits_u16());
    let Some(aggregator) = hidden else {
        return Ok(());
    };
    header(transitive(a.partial, attr::AS4_AGGREGATOR), attr::AS4_AGGREGATOR, 8, out)?;
    out.put_u32(aggregator.asn.get());
    out.put_slice(&aggregator.router_id.octets());
    Ok(())
}
