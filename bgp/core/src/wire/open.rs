//! OPEN (RFC 4271 §4.2) with optional parameters of both shapes (RFC 9072).

use super::capability::Capability;
use super::ids::{Asn, HoldTime};
use std::net::Ipv4Addr;

/// The first message of each side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// The field "My Autonomous System"; AS_TRANS where the real one needs four octets. See [`Open::asn`].
    pub my_as: u16,
    /// Proposed hold time; the smaller of both sides' counts.
    pub hold_time: HoldTime,
    /// BGP identifier, never 0.0.0.0 (RFC 6286).
    pub router_id: Ipv4Addr,
    /// In the order sent.
    pub capabilities: Vec<Capability>,
}

// === impl Open ===

impl Open {
    /// An OPEN of ours; adds the 4-octet AS capability when `capabilities` lacks it (RFC 6793 §4.1).
    pub fn new(
        asn: Asn,
        hold_time: HoldTime,
        router_id: Ipv4Addr,
        mut capabilities: Vec<Capability>,
    ) -> Self {
        if !capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_))) {
            capabilities.push(Capability::FourOctetAs(asn));
        }
        Self { my_as: asn.as_u16(), hold_time, router_id, capabilities }
    }

    /// The speaker's AS: of the 4-octet capability if present, else of the two-octet field (RFC 6793 §4.1).
    /// A decoded OPEN has never AS 0 in either place.
    pub fn asn(&self) -> Asn {
        self.four_octet_as().or_else(|| Asn::new(u32::from(self.my_as))).unwrap_or(Asn::TRANS)
    }

    /// The AS of the 4-octet capability, if it was sent.
    pub fn four_octet_as(&self) -> Option<Asn> {
        self.capabilities.iter().find_map(|c| match c {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        })
    }
}
