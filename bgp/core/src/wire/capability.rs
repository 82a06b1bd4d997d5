//! Capabilities of the OPEN message (RFC 5492). What we do not know is kept byte for byte.

use super::ids::{Asn, Family};
use std::fmt;

/// One capability.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Code 1: the peer exchanges routes of this family (RFC 4760 §8).
    Multiprotocol(Family),
    /// Code 2 (RFC 2918).
    RouteRefresh,
    /// Code 64 (RFC 4724, RFC 8538).
    GracefulRestart(GracefulRestart),
    /// Code 65: AS numbers have four octets, and this is the speaker's own (RFC 6793 §3).
    FourOctetAs(Asn),
    /// Code 70 (RFC 7313).
    EnhancedRouteRefresh,
    /// Any other code, and known codes whose value has a shape we do not know; ignored, kept.
    Unknown {
        /// IANA capability code.
        code: u8,
        /// At most 255 octets, so it fits its length field.
        value: Vec<u8>,
    },
}

/// How a speaker wants to be treated over a restart of its session (RFC 4724 §3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GracefulRestart {
    /// R: the speaker has restarted, so do not wait for its End-of-RIB before sending.
    pub restarting: bool,
    /// N: a NOTIFICATION keeps the routes as well, except for a hard reset (RFC 8538 §2).
    pub notification: bool,
    /// Seconds the routes may be kept until the session is back; 12 bits, so at most 4095.
    pub time_s: u16,
    /// The families for which routes may be kept.
    pub families: Vec<GracefulFamily>,
}

/// One family of [`GracefulRestart`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GracefulFamily {
    /// The family.
    pub family: Family,
    /// F: forwarding state survived the restart.
    pub forwarding: bool,
}

// === impl Capability ===

impl Capability {
    /// IANA capability code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => 1,
            Self::RouteRefresh => 2,
            Self::GracefulRestart(_) => 64,
            Self::FourOctetAs(_) => 65,
            Self::EnhancedRouteRefresh => 70,
            Self::Unknown { code, .. } => *code,
        }
    }
}

/// Names as in the RFCs' titles; an operator reads them beside the peer's own.
impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multiprotocol(family) => write!(f, "multiprotocol {family}"),
            Self::RouteRefresh => f.write_str("route refresh"),
            Self::GracefulRestart(gr) => write!(f, "graceful restart {} s", gr.time_s),
            Self::FourOctetAs(_) => f.write_str("4-octet AS"),
            Self::EnhancedRouteRefresh => f.write_str("enhanced route refresh"),
            Self::Unknown { code, .. } => match unknown_name(*code) {
                Some(name) => f.write_str(name),
                None => write!(f, "capability {code}"),
            },
        }
    }
}

/// IANA "Capability Codes" that real peers send and we only show.
fn unknown_name(code: u8) -> Option<&'static str> {
    Some(match code {
        3 => "outbound route filtering",
        5 => "extended next hop",
        6 => "extended message",
        9 => "role",
        64 => "graceful restart (malformed)",
        67 => "dynamic capability",
        69 => "add-path",
        71 => "long-lived graceful restart",
        73 => "hostname",
        75 => "software version",
        128 => "route refresh (old)",
        _ => return None,
    })
}
