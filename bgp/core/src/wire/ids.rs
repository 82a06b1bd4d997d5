//! Numbers with limits: AS numbers, hold times, address families.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// An AS number. Zero does not exist (RFC 7607).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Asn(NonZeroU32);

/// AS 0 was given (RFC 7607).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("0 is not an AS number (RFC 7607): use 1 to 4294967295")]
pub struct AsnError;

/// Seconds without a message after which the peer is dead: 0 (never) or at least 3 (RFC 4271 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldTime(u16);

/// A hold time of 1 or 2 seconds was given (RFC 4271 §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hold time of {0} s is too short: use 0 (never expires) or at least 3")]
pub struct HoldTimeError(pub u16);

/// What a prefix is: address family and subsequent address family (RFC 4760 §3), numbers as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family {
    /// IANA address family number: 1 is IPv4, 2 is IPv6.
    pub afi: u16,
    /// Subsequent address family identifier: 1 is unicast.
    pub safi: u8,
}

// === impl Asn ===

impl Asn {
    /// AS_TRANS: stands for an AS number that a two-octet speaker cannot say (RFC 6793 §9).
    pub const TRANS: Self = match NonZeroU32::new(23456) {
        Some(n) => Self(n),
        None => Self(NonZeroU32::MIN),
    };

    /// `None` for 0.
    pub const fn new(asn: u32) -> Option<Self> {
        match NonZeroU32::new(asn) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The number in two octets, AS_TRANS where it does not fit (RFC 6793 §4.2.2).
    pub fn as_u16(self) -> u16 {
        u16::try_from(self.get()).unwrap_or(23456)
    }

    /// Whether two octets hold the number.
    pub fn fits_u16(self) -> bool {
        self.get() <= u32::from(u16::MAX)
    }
}

impl TryFrom<u32> for Asn {
    type Error = AsnError;

    fn try_from(asn: u32) -> Result<Self, AsnError> {
        Self::new(asn).ok_or(AsnError)
    }
}

impl From<Asn> for u32 {
    fn from(asn: Asn) -> Self {
        asn.get()
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

// === impl HoldTime ===

impl HoldTime {
    /// No keepalives, and the session never expires.
    pub const OFF: Self = Self(0);
    /// What RFC 4271 §10 suggests.
    pub const DEFAULT: Self = Self(90);

    /// Accepts 0 and everything from 3 seconds (RFC 4271 §4.2).
    pub const fn new(secs: u16) -> Result<Self, HoldTimeError> {
        match secs {
            1 | 2 => Err(HoldTimeError(secs)),
            _ => Ok(Self(secs)),
        }
    }

    /// Seconds.
    pub const fn secs(self) -> u16 {
        self.0
    }

    /// `None` when the session never expires.
    pub fn duration(self) -> Option<Duration> {
        (self.0 != 0).then(|| Duration::from_secs(u64::from(self.0)))
    }

    /// Time between keepalives, a third of the hold time (RFC 4271 §4.4); `None` when none are sent.
    pub fn keepalive(self) -> Option<Duration> {
        self.duration().map(|hold| hold / 3)
    }
}

// === impl Family ===

impl Family {
    /// IPv4 unicast.
    pub const IPV4_UNICAST: Self = Self { afi: 1, safi: 1 };
    /// IPv6 unicast.
    pub const IPV6_UNICAST: Self = Self { afi: 2, safi: 1 };
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.afi, self.safi) {
            (1, 1) => f.write_str("ipv4-unicast"),
            (1, 2) => f.write_str("ipv4-multicast"),
            (2, 1) => f.write_str("ipv6-unicast"),
            (2, 2) => f.write_str("ipv6-multicast"),
            (afi, safi) => write!(f, "afi-{afi}-safi-{safi}"),
        }
    }
}
