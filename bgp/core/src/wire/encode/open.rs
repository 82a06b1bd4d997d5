//! OPEN: all capabilities in one optional parameter (RFC 5492 §4), extended where they need it (RFC 9072).

use super::with_len16;
use crate::wire::capability::{Capability, GracefulRestart};
use crate::wire::message::EncodeError;
use crate::wire::open::Open;
use bytes::{BufMut, BytesMut};

const VERSION: u8 = 4;
const PARAMETER_CAPABILITIES: u8 = 2;
const PARAMETER_EXTENDED: u8 = 255;

pub(super) fn write(open: &Open, out: &mut BytesMut) -> Result<(), EncodeError> {
    out.put_u8(VERSION);
    out.put_u16(open.my_as);
    out.put_u16(open.hold_time.secs());
    out.put_slice(&open.router_id.octets());
    let len: usize = open.capabilities.iter().map(|c| 2 + value_len(c)).sum();
    match u8::try_from(len + 2) {
        _ if len == 0 => out.put_u8(0),
        // 255 itself is RFC 9072's mark, so it is left to it.
        Ok(parameters @ ..=254) => {
            out.put_slice(&[parameters, PARAMETER_CAPABILITIES, parameters - 2]);
            capabilities(open, out)?;
        }
        _ => {
            // RFC 9072 §2: both marks, then every length has two octets.
            out.put_slice(&[255, PARAMETER_EXTENDED]);
            with_len16(out, |out| {
                out.put_u8(PARAMETER_CAPABILITIES);
                with_len16(out, |out| capabilities(open, out))
            })?;
        }
    }
    Ok(())
}

fn capabilities(open: &Open, out: &mut BytesMut) -> Result<(), EncodeError> {
    for capability in &open.capabilities {
        let len = value_len(capability);
        out.put_u8(capability.code());
        out.put_u8(u8::try_from(len).map_err(|_| EncodeError::TooLong { len })?);
        match capability {
            Capability::Multiprotocol(family) => {
                out.put_u16(family.afi);
                out.put_u8(0);
                out.put_u8(family.safi);
            }
            Capability::GracefulRestart(graceful) => graceful_restart(graceful, out),
            Capability::FourOctetAs(asn) => out.put_u32(asn.get()),
            Capability::RouteRefresh | Capability::EnhancedRouteRefresh => {}
            Capability::Unknown { value, .. } => out.put_slice(value),
        }
    }
    Ok(())
}

fn value_len(capability: &Capability) -> usize {
    match capability {
        Capability::Multiprotocol(_) | Capability::FourOctetAs(_) => 4,
        Capability::GracefulRestart(graceful) => 2 + 4 * graceful.families.len(),
        Capability::RouteRefresh | Capability::EnhancedRouteRefresh => 0,
        Capability::Unknown { value, .. } => value.len(),
    }
}

fn graceful_restart(graceful: &GracefulRestart, out: &mut BytesMut) {
    let mut head = graceful.time_s.min(0x0fff);
    if graceful.restarting {
        head |= 0x8000;
    }
    if graceful.notification {
        head |= 0x4000;
    }
    out.put_u16(head);
    for family in &graceful.families {
        out.put_u16(family.family.afi);
        out.put_u8(family.family.safi);
        out.put_u8(if family.forwarding { 0x80 } else { 0 });
    }
}
