//! Many prefixes into few UPDATEs: what a session calls to announce and withdraw. Allocates nothing beyond `out`.

use super::attributes::Attributes;
use super::ids::Family;
use super::message::EncodeError;
use super::session::Codec;
use bytes::BytesMut;
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

impl Codec {
    /// Announces IPv4 prefixes in the classic form; returns the number of messages written. None for no prefixes.
    /// Nothing is written on error.
    pub fn announce_v4(
        &self,
        _attributes: &Attributes,
        _next_hop: Ipv4Addr,
        _prefixes: &[Ipv4Net],
        _out: &mut BytesMut,
    ) -> Result<usize, EncodeError> {
        todo!()
    }

    /// Announces IPv6 prefixes in MP_REACH_NLRI; `link_local` makes the next hop 32 octets (RFC 2545 §3).
    pub fn announce_v6(
        &self,
        _attributes: &Attributes,
        _next_hop: Ipv6Addr,
        _link_local: Option<Ipv6Addr>,
        _prefixes: &[Ipv6Net],
        _out: &mut BytesMut,
    ) -> Result<usize, EncodeError> {
        todo!()
    }

    /// Withdraws IPv4 prefixes in the classic form; returns the number of messages written.
    pub fn withdraw_v4(&self, _prefixes: &[Ipv4Net], _out: &mut BytesMut) -> usize {
        todo!()
    }

    /// Withdraws IPv6 prefixes in MP_UNREACH_NLRI; returns the number of messages written.
    pub fn withdraw_v6(&self, _prefixes: &[Ipv6Net], _out: &mut BytesMut) -> usize {
        todo!()
    }

    /// End-of-RIB (RFC 4724 §2): an empty UPDATE for IPv4 unicast, an empty MP_UNREACH_NLRI for the others.
    pub fn end_of_rib(&self, _family: Family, _out: &mut BytesMut) {
        todo!()
    }
}
