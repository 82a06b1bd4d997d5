//! ROUTE-REFRESH (RFC 2918) with the markers of RFC 7313.

use super::ids::Family;

/// "Send me your routes of this family again", or a marker around the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// Which routes.
    pub family: Family,
    /// Request or marker.
    pub subtype: RefreshSubtype,
}

/// RFC 7313 §3.2; reserved and zero in RFC 2918.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefreshSubtype {
    /// 0: please send.
    Request,
    /// 1: beginning of the answer (BoRR).
    Begin,
    /// 2: end of the answer (EoRR).
    End,
    /// Anything else; the receiver must ignore the message (RFC 7313 §5).
    Other(u8),
}

// === impl RefreshSubtype ===

impl RefreshSubtype {
    /// The wire value.
    pub fn code(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Begin => 1,
            Self::End => 2,
            Self::Other(code) => code,
        }
    }

    /// Of any wire value.
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Request,
            1 => Self::Begin,
            2 => Self::End,
            other => Self::Other(other),
        }
    }
}
