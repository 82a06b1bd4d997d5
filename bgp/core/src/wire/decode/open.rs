//! OPEN and its optional parameters (RFC 4271 §4.2 and §6.2, RFC 5492, RFC 9072).

use super::error;
use crate::wire::capability::{Capability, GracefulFamily, GracefulRestart};
use crate::wire::cursor::Cursor;
use crate::wire::ids::{Asn, Family, HoldTime};
use crate::wire::message::DecodeError;
use crate::wire::notification::{code, open as subcode};
use crate::wire::open::Open;
use std::net::Ipv4Addr;

/// Optional parameter type of RFC 5492 §4.
const PARAMETER_CAPABILITIES: u8 = 2;
/// Says that the lengths that follow have two octets (RFC 9072 §2).
const PARAMETER_EXTENDED: u8 = 255;

pub(super) fn decode(body: &[u8]) -> Result<Open, DecodeError> {
    let mut cursor = Cursor::new(body);
    let fixed = (cursor.u8(), cursor.u16(), cursor.u16(), cursor.u32());
    let (Some(version), Some(my_as), Some(hold), Some(router_id)) = fixed else {
        return Err(malformed("the OPEN is too short"));
    };
    if version != 4 {
        // RFC 4271 §6.2: the data is the largest version we speak below the peer's.
        let reason = "the peer does not speak version 4";
        return Err(error(code::OPEN, subcode::UNSUPPORTED_VERSION, &[0, 4], reason));
    }
    if my_as == 0 {
        return Err(error(code::OPEN, subcode::BAD_PEER_AS, &[], "the peer's AS is 0"));
    }
    let hold_time = HoldTime::new(hold).map_err(|_| {
        let reason = "the peer's hold time is 1 or 2 seconds";
        error(code::OPEN, subcode::UNACCEPTABLE_HOLD_TIME, &[], reason)
    })?;
    if router_id == 0 {
        let reason = "the peer's BGP identifier is 0.0.0.0";
        return Err(error(code::OPEN, subcode::BAD_IDENTIFIER, &[], reason));
    }
    let capabilities = parameters(&mut cursor)?;
    Ok(Open { my_as, hold_time, router_id: Ipv4Addr::from_bits(router_id), capabilities })
}

fn malformed(reason: &'static str) -> DecodeError {
    // RFC 4271 §6.2: "unspecific" where a known parameter is malformed.
    error(code::OPEN, 0, &[], reason)
}

fn parameters(cursor: &mut Cursor<'_>) -> Result<Vec<Capability>, DecodeError> {
    let len = cursor.u8().ok_or_else(|| malformed("the OPEN is too short"))?;
    // RFC 9072 §2 looks at the type alone, but only a length of 255 may bring it; some length other than 0 must be
    // accepted too.
    let extended = len != 0 && cursor.rest().first() == Some(&PARAMETER_EXTENDED);
    let block = if extended {
        cursor.u8();
        cursor.block16()
    } else {
        cursor.take(usize::from(len))
    };
    let block = block.ok_or_else(|| malformed("the optional parameters overrun the OPEN"))?;
    if !cursor.is_empty() {
        return Err(malformed("octets follow the optional parameters"));
    }
    let mut parameters = Cursor::new(block);
    let mut capabilities = Vec::new();
    while let Some(kind) = parameters.u8() {
        let value = if extended { parameters.block16() } else { parameters.block8() };
        let value = value.ok_or_else(|| malformed("an optional parameter overruns its block"))?;
        if kind != PARAMETER_CAPABILITIES {
            let reason = "an optional parameter is not known";
            return Err(error(code::OPEN, subcode::UNSUPPORTED_PARAMETER, &[], reason));
        }
        read_capabilities(value, &mut capabilities)?;
    }
    Ok(capabilities)
}

fn read_capabilities(bytes: &[u8], into: &mut Vec<Capability>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    while let Some(code) = cursor.u8() {
        let value = cursor
            .block8()
            .ok_or_else(|| malformed("a capability overruns its optional parameter"))?;
        into.push(capability(code, value)?);
    }
    Ok(())
}

/// A known capability of a shape we do not know must not be acted on, but is no reason to refuse the peer either.
fn capability(capability_code: u8, value: &[u8]) -> Result<Capability, DecodeError> {
    let known = match (capability_code, value) {
        (1, [afi_high, afi_low, _, safi]) => Some(Capability::Multiprotocol(Family {
            afi: u16::from_be_bytes([*afi_high, *afi_low]),
            safi: *safi,
        })),
        (2, []) => Some(Capability::RouteRefresh),
        (64, _) => graceful_restart(value).map(Capability::GracefulRestart),
        (65, [a, b, c, d]) => {
            let asn = Asn::new(u32::from_be_bytes([*a, *b, *c, *d])).ok_or_else(|| {
                let reason = "the peer's 4-octet AS is 0";
                error(code::OPEN, subcode::BAD_PEER_AS, &[], reason)
            })?;
            Some(Capability::FourOctetAs(asn))
        }
        (70, []) => Some(Capability::EnhancedRouteRefresh),
        _ => None,
    };
    Ok(known
        .unwrap_or_else(|| Capability::Unknown { code: capability_code, value: value.to_vec() }))
}

fn graceful_restart(value: &[u8]) -> Option<GracefulRestart> {
    let mut cursor = Cursor::new(value);
    let head = cursor.u16()?;
    let mut families = Vec::new();
    while !cursor.is_empty() {
        let family = Family { afi: cursor.u16()?, safi: cursor.u8()? };
        families.push(GracefulFamily { family, forwarding: cursor.u8()? & 0x80 != 0 });
    }
    Some(GracefulRestart {
        restarting: head & 0x8000 != 0,
        notification: head & 0x4000 != 0,
        time_s: head & 0x0fff,
        families,
    })
}
