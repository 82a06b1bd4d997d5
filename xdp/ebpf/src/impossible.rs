//! Sources that no client has. Nothing can be answered to them, so nothing is opened for them.

use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::hash::unpair;

use crate::maps::{FILTER, VIPS};
use crate::packet::Packet;

/// Whether the packet is for an owned VIP and comes from an address that cannot be a client's.
#[inline(always)]
pub fn is_from_impossible(packet: &Packet) -> bool {
    (is_no_client(packet.is_v4, &unpair(&packet.source)) || is_from_vip(packet))
        && VIPS.get_ptr(unpair(&packet.destination)).is_some()
}

/// Loopback, multicast, broadcast, unspecified (RFC 6890, RFC 4291 section 2.7): `0/8`, `127/8`, `224/3`; `::`, `::1`,
/// `ff00::/8`. An IPv4 address in IPv6's clothes (`::ffff:0:0/96`) never is on a wire, and our tables take it for IPv4.
#[inline(always)]
pub fn is_no_client(is_v4: bool, address: &Address) -> bool {
    if is_v4 {
        let octet = address.last_word() as u8;
        return octet == 0 || octet == 127 || octet >= 224;
    }
    let [first, second, third, last] = address.words;
    let is_low = (first | second | third) == 0 && (last == 0 || last == 1u32.to_be());
    is_low || first as u8 == 0xff || address.is_v4()
}

#[inline(always)]
fn is_from_vip(packet: &Packet) -> bool {
    let source = unpair(&packet.source);
    FILTER.get(0).is_none_or(|filter| filter.may_have_vip(&source))
        && VIPS.get_ptr(source).is_some()
}
