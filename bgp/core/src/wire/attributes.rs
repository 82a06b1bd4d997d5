//! Path attributes as values (RFC 4271 §5); next hops live beside the prefixes they lead to, in `update`.

use super::as_path::AsPath;
use super::ids::Asn;
use std::fmt;
use std::net::Ipv4Addr;

/// Everything an UPDATE says about its prefixes except the next hop.
///
/// Equal sets share messages: group prefixes by this before encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes {
    /// Type 1; mandatory in an announcement.
    pub origin: Option<Origin>,
    /// Type 2 merged with type 17; mandatory in an announcement, and empty for routes of the peer's own AS in iBGP.
    pub as_path: Option<AsPath>,
    /// Type 4.
    pub med: Option<u32>,
    /// Type 5; between iBGP peers only.
    pub local_pref: Option<u32>,
    /// Type 6.
    pub atomic_aggregate: bool,
    /// Type 7 merged with type 18.
    pub aggregator: Option<Aggregator>,
    /// Type 8 (RFC 1997), in the order received.
    pub communities: Vec<Community>,
    /// Type 16 (RFC 4360).
    pub ext_communities: Vec<ExtCommunity>,
    /// Type 32 (RFC 8092).
    pub large_communities: Vec<LargeCommunity>,
    /// All others, ascending by type; see [`OtherAttribute`].
    pub other: Vec<OtherAttribute>,
    /// Which of the optional transitive ones above passed a speaker that did not know them.
    pub partial: PartialSet,
}

/// How the origin AS learned the route (RFC 4271 §5.1.1); lower is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// From inside the AS; what a speaker says of its own prefixes.
    Igp,
    /// By EGP (RFC 904).
    Egp,
    /// By other means.
    Incomplete,
}

/// The last aggregating speaker (RFC 4271 §5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
}

/// RFC 1997; the AS is in the high 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

/// RFC 4360; octets as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtCommunity(pub [u8; 8]);

/// RFC 8092.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Global administrator, usually an AS.
    pub global: u32,
    /// Local data, part 1.
    pub local1: u32,
    /// Local data, part 2.
    pub local2: u32,
}

/// An attribute that is kept but not interpreted: unknown optional ones, and known ones that only others act on
/// (ORIGINATOR_ID, CLUSTER_LIST).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherAttribute {
    /// IANA path attribute type.
    pub code: u8,
    /// As received, without the extended-length bit. See [`OtherAttribute::for_readvertising`].
    pub flags: u8,
    /// As received.
    pub value: Vec<u8>,
}

/// Set of the attributes, among those with fields of their own, that carry the Partial bit (RFC 4271 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartialSet(u8);

/// Attribute flags (RFC 4271 §4.3).
pub mod flag {
    /// Not every implementation knows the attribute.
    pub const OPTIONAL: u8 = 0x80;
    /// To be passed on.
    pub const TRANSITIVE: u8 = 0x40;
    /// Passed a speaker that did not know it.
    pub const PARTIAL: u8 = 0x20;
    /// The length field has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;
}

/// IANA path attribute types that the codec knows.
pub mod attr {
    /// RFC 4271 §5.1.1.
    pub const ORIGIN: u8 = 1;
    /// RFC 4271 §5.1.2.
    pub const AS_PATH: u8 = 2;
    /// RFC 4271 §5.1.3.
    pub const NEXT_HOP: u8 = 3;
    /// RFC 4271 §5.1.4, MULTI_EXIT_DISC.
    pub const MED: u8 = 4;
    /// RFC 4271 §5.1.5.
    pub const LOCAL_PREF: u8 = 5;
    /// RFC 4271 §5.1.6.
    pub const ATOMIC_AGGREGATE: u8 = 6;
    /// RFC 4271 §5.1.7.
    pub const AGGREGATOR: u8 = 7;
    /// RFC 1997.
    pub const COMMUNITIES: u8 = 8;
    /// RFC 4456 §8.
    pub const ORIGINATOR_ID: u8 = 9;
    /// RFC 4456 §8.
    pub const CLUSTER_LIST: u8 = 10;
    /// RFC 4760 §3.
    pub const MP_REACH: u8 = 14;
    /// RFC 4760 §4.
    pub const MP_UNREACH: u8 = 15;
    /// RFC 4360.
    pub const EXT_COMMUNITIES: u8 = 16;
    /// RFC 6793.
    pub const AS4_PATH: u8 = 17;
    /// RFC 6793.
    pub const AS4_AGGREGATOR: u8 = 18;
    /// RFC 8092.
    pub const LARGE_COMMUNITIES: u8 = 32;
}

// === impl Attributes ===

impl Attributes {
    /// What a speaker says of a prefix of its own: ORIGIN IGP and the path (empty towards iBGP peers).
    pub fn originated(as_path: AsPath) -> Self {
        Self { origin: Some(Origin::Igp), as_path: Some(as_path), ..Self::default() }
    }
}

// === impl Origin ===

impl Origin {
    /// The wire value.
    pub fn code(self) -> u8 {
        match self {
            Self::Igp => 0,
            Self::Egp => 1,
            Self::Incomplete => 2,
        }
    }

    /// `None` for a value RFC 4271 does not define.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Igp,
            1 => Self::Egp,
            2 => Self::Incomplete,
            _ => return None,
        })
    }
}

// === impl Community ===

impl Community {
    /// Prefer other paths: this one is about to go (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// Discard traffic to the prefix (RFC 7999).
    pub const BLACKHOLE: Self = Self(0xffff_029a);
    /// RFC 1997.
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// RFC 1997.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
}

/// `65000:100`.
impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

// === impl LargeCommunity ===

impl From<[u32; 3]> for LargeCommunity {
    fn from([global, local1, local2]: [u32; 3]) -> Self {
        Self { global, local1, local2 }
    }
}

/// `65000:1:2`.
impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

// === impl OtherAttribute ===

impl OtherAttribute {
    /// As it is passed on: optional transitive with the Partial bit set, and nothing when it is non-transitive
    /// (RFC 4271 §5).
    pub fn for_readvertising(&self) -> Option<Self> {
        (self.flags & flag::TRANSITIVE != 0)
            .then(|| Self { flags: self.flags | flag::PARTIAL, ..self.clone() })
    }
}

// === impl PartialSet ===

impl PartialSet {
    /// Adds the attribute of this type; one that cannot be partial is ignored.
    pub fn insert(&mut self, code: u8) {
        self.0 |= Self::bit(code);
    }

    /// Whether the attribute of this type is in the set.
    pub fn contains(self, code: u8) -> bool {
        self.0 & Self::bit(code) != 0
    }

    fn bit(code: u8) -> u8 {
        match code {
            attr::AGGREGATOR => 1,
            attr::COMMUNITIES => 2,
            attr::EXT_COMMUNITIES => 4,
            attr::LARGE_COMMUNITIES => 8,
            attr::AS4_PATH => 16,
            attr::AS4_AGGREGATOR => 32,
            _ => 0,
        }
    }
}
