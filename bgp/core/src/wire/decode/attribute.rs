//! Path attributes, one after the other, with the actions of RFC 7606.

use super::as_path;
use super::mp::{self, MpError};
use crate::wire::as_path::AsPath;
use crate::wire::attributes::{
    Aggregator, Attributes, Community, ExtCommunity, LargeCommunity, Origin, OtherAttribute, attr,
    flag,
};
use crate::wire::cursor::Cursor;
use crate::wire::ids::{Asn, Family};
use crate::wire::notification::{Notification, code, update as subcode};
use crate::wire::session::Codec;
use crate::wire::update::{Action, AttributeError, Reach, Unreach};
use std::net::Ipv4Addr;

/// What the path attributes of one UPDATE say.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) attributes: Attributes,
    pub(super) next_hop: Option<Ipv4Addr>,
    pub(super) mp_reach: Option<Reach>,
    pub(super) mp_unreach: Option<Unreach>,
    pub(super) errors: Vec<AttributeError>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    /// One bit per type; malformed ones count.
    seen: [u64; 4],
}

/// One attribute, cut out of the message.
#[derive(Clone, Copy)]
struct Raw<'a> {
    flags: u8,
    code: u8,
    value: &'a [u8],
    /// Header and value: what a NOTIFICATION carries (RFC 4271 §6.3).
    whole: &'a [u8],
}

/// What is wrong with an attribute: the action, the UPDATE subcode, and words.
type Fault = (Action, u8, &'static str);

// === impl Collected ===

impl Collected {
    pub(super) fn read(codec: &Codec, bytes: &[u8]) -> Self {
        let mut collected = Self {
            attributes: Attributes::default(),
            next_hop: None,
            mp_reach: None,
            mp_unreach: None,
            errors: Vec::new(),
            as4_path: None,
            as4_aggregator: None,
            seen: [0; 4],
        };
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            let Some(raw) = Raw::next(&mut cursor) else {
                // RFC 7606 §4: the prefixes are still where Total Path Attribute Length says.
                collected.errors.push(AttributeError {
                    attribute: None,
                    action: Action::TreatAsWithdraw,
                    family: None,
                    notification: Notification::new(code::UPDATE, subcode::MALFORMED_LIST),
                    reason: "an attribute overruns the attributes",
                });
                break;
            };
            collected.attribute(codec, raw);
        }
        collected.merge_as4();
        collected.attributes.other.sort_by_key(|o| o.code);
        collected
    }

    /// Whether an attribute of the type was there, malformed or not.
    pub(super) fn saw(&self, code: u8) -> bool {
        self.seen.get(usize::from(code >> 6)).is_some_and(|word| word & (1 << (code & 63)) != 0)
    }

    fn attribute(&mut self, codec: &Codec, raw: Raw<'_>) {
        let duplicate = self.saw(raw.code);
        if let Some(word) = self.seen.get_mut(usize::from(raw.code >> 6)) {
            *word |= 1 << (raw.code & 63);
        }
        if duplicate {
            self.fault(raw, duplicate_fault(raw.code));
            return;
        }
        // Both: the worse of two faults counts (RFC 7606 §3 (h)).
        for result in [self.store(codec, raw), check_flags(raw)] {
            if let Err(fault) = result {
                self.fault(raw, fault);
            }
        }
    }

    fn fault(&mut self, raw: Raw<'_>, (action, subcode, reason): Fault) {
        self.errors.push(AttributeError {
            attribute: Some(raw.code),
            action,
            family: None,
            notification: Notification::with_data(code::UPDATE, subcode, raw.whole),
            reason,
        });
    }

    fn store(&mut self, codec: &Codec, raw: Raw<'_>) -> Result<(), Fault> {
        let attributes = &mut self.attributes;
        if raw.flags & flag::PARTIAL != 0 {
            attributes.partial.insert(raw.code);
        }
        match raw.code {
            attr::ORIGIN => attributes.origin = Some(origin(raw.value)?),
            attr::AS_PATH => attributes.as_path = Some(as_path(codec, raw.value)?),
            attr::NEXT_HOP => self.next_hop = Some(Ipv4Addr::from(fixed::<4>(raw.value)?)),
            attr::MED => attributes.med = Some(u32::from_be_bytes(fixed(raw.value)?)),
            attr::LOCAL_PREF if codec.internal => {
                attributes.local_pref = Some(u32::from_be_bytes(fixed(raw.value)?));
            }
            attr::ATOMIC_AGGREGATE => {
                fixed::<0>(raw.value).map_err(discard)?;
                attributes.atomic_aggregate = true;
            }
            attr::AGGREGATOR => attributes.aggregator = Some(aggregator(raw.value, codec.as4)?),
            attr::COMMUNITIES => {
                attributes.communities = list(raw.value, |c| Community(u32::from_be_bytes(c)))?;
            }
            attr::EXT_COMMUNITIES => attributes.ext_communities = list(raw.value, ExtCommunity)?,
            attr::LARGE_COMMUNITIES => attributes.large_communities = list(raw.value, large)?,
            attr::AS4_PATH | attr::AS4_AGGREGATOR if codec.as4 => {
                // RFC 6793 §4.1.
                let reason = "AS4_PATH or AS4_AGGREGATOR from a four-octet speaker";
                return Err((Action::AttributeDiscard, subcode::OPTIONAL, reason));
            }
            // RFC 6793 §6: malformed ones are discarded.
            attr::AS4_PATH => self.as4_path = Some(as4_path(raw.value)?),
            attr::AS4_AGGREGATOR => self.as4_aggregator = Some(aggregator(raw.value, true)?),
            attr::LOCAL_PREF | attr::ORIGINATOR_ID | attr::CLUSTER_LIST if !codec.internal => {
                // RFC 7606 §7.5, §7.9, §7.10.
                let reason = "an attribute for internal peers from an external one";
                return Err((Action::AttributeDiscard, subcode::OPTIONAL, reason));
            }
            attr::MP_REACH => self.store_reach(codec, raw)?,
            attr::MP_UNREACH => self.store_unreach(codec, raw)?,
            _ => attributes.other.push(other(raw)?),
        }
        Ok(())
    }

    fn store_reach(&mut self, codec: &Codec, raw: Raw<'_>) -> Result<(), Fault> {
        match mp::reach(codec, raw.value) {
            Ok((reach, usable)) => {
                self.mp_reach = Some(reach);
                let reason = "the MP_REACH_NLRI next hop is not a host address";
                let fault = (Action::TreatAsWithdraw, subcode::OPTIONAL, reason);
                if usable { Ok(()) } else { Err(fault) }
            }
            Err(error) => self.mp_fault(error, raw),
        }
    }

    fn store_unreach(&mut self, codec: &Codec, raw: Raw<'_>) -> Result<(), Fault> {
        match mp::unreach(codec, raw.value) {
            Ok(unreach) => {
                self.mp_unreach = Some(unreach);
                Ok(())
            }
            Err(error) => self.mp_fault(error, raw),
        }
    }

    /// RFC 7606 §3 (j) and RFC 4760 §7: the prefixes are lost, and with them what we know of the family.
    fn mp_fault(&mut self, error: MpError, raw: Raw<'_>) -> Result<(), Fault> {
        let (action, family, reason): (Action, Option<Family>, &'static str) = match error {
            MpError::TooShort => {
                let reason = "MP_REACH_NLRI or MP_UNREACH_NLRI names no family";
                (Action::SessionReset, None, reason)
            }
            MpError::NotNegotiated(family) => {
                let reason = "routes of a family that was not negotiated";
                (Action::AttributeDiscard, Some(family), reason)
            }
            MpError::Malformed(family, reason) => (Action::AfiSafiDisable, Some(family), reason),
        };
        self.errors.push(AttributeError {
            attribute: Some(raw.code),
            action,
            family,
            notification: Notification::with_data(code::UPDATE, subcode::OPTIONAL, raw.whole),
            reason,
        });
        Ok(())
    }

    /// RFC 6793 §4.2.3.
    fn merge_as4(&mut self) {
        let attributes = &mut self.attributes;
        match (&mut attributes.aggregator, self.as4_aggregator) {
            (Some(aggregator), Some(_)) if aggregator.asn != Asn::TRANS => return,
            (Some(aggregator), Some(as4_aggregator)) => *aggregator = as4_aggregator,
            _ => {}
        }
        if let Some(as4_path) = self.as4_path.take() {
            attributes.as_path = attributes.as_path.take().map(|p| as_path::merge(p, as4_path));
        }
    }
}

// === impl Raw ===

impl<'a> Raw<'a> {
    fn next(cursor: &mut Cursor<'a>) -> Option<Self> {
        let start = cursor.rest();
        let flags = cursor.u8()?;
        let code = cursor.u8()?;
        let value =
            if flags & flag::EXTENDED_LENGTH != 0 { cursor.block16() } else { cursor.block8() }?;
        let whole = start.get(..start.len() - cursor.rest().len())?;
        Some(Self { flags, code, value, whole })
    }
}

/// RFC 7606 §3 (g).
fn duplicate_fault(code: u8) -> Fault {
    let action = match code {
        attr::MP_REACH | attr::MP_UNREACH => Action::SessionReset,
        _ => Action::AttributeDiscard,
    };
    (action, subcode::MALFORMED_LIST, "an attribute occurs twice")
}

/// RFC 7606 §3 (c): optional and transitive must be as the attribute's definition says.
fn check_flags(raw: Raw<'_>) -> Result<(), Fault> {
    const WELL_KNOWN: u8 = flag::TRANSITIVE;
    const BOTH: u8 = flag::OPTIONAL | flag::TRANSITIVE;
    let wanted = match raw.code {
        attr::ORIGIN | attr::AS_PATH | attr::NEXT_HOP | attr::LOCAL_PREF => WELL_KNOWN,
        attr::ATOMIC_AGGREGATE => WELL_KNOWN,
        attr::AGGREGATOR | attr::COMMUNITIES | attr::EXT_COMMUNITIES => BOTH,
        attr::LARGE_COMMUNITIES | attr::AS4_PATH | attr::AS4_AGGREGATOR => BOTH,
        attr::MED | attr::ORIGINATOR_ID | attr::CLUSTER_LIST => flag::OPTIONAL,
        attr::MP_REACH | attr::MP_UNREACH => flag::OPTIONAL,
        _ => return Ok(()),
    };
    if raw.flags & BOTH == wanted {
        return Ok(());
    }
    Err((Action::TreatAsWithdraw, subcode::FLAGS, "an attribute has wrong flags"))
}

/// The same fault with the mildest action (RFC 7606 §3 (f), RFC 6793 §6).
fn discard((_, subcode, reason): Fault) -> Fault {
    (Action::AttributeDiscard, subcode, reason)
}

fn withdraw(subcode: u8, reason: &'static str) -> Fault {
    (Action::TreatAsWithdraw, subcode, reason)
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Fault> {
    value.try_into().map_err(|_| withdraw(subcode::LENGTH, "an attribute has a wrong length"))
}

/// At least one item: only AS_PATH and ATOMIC_AGGREGATE may be empty (RFC 7606 §5.3, §7.8, §7.14; RFC 8092 §6).
fn list<const N: usize, T>(value: &[u8], item: impl Fn([u8; N]) -> T) -> Result<Vec<T>, Fault> {
    let (items, rest) = value.as_chunks::<N>();
    if items.is_empty() || !rest.is_empty() {
        return Err(withdraw(subcode::LENGTH, "a list attribute is empty or cut"));
    }
    Ok(items.iter().map(|i| item(*i)).collect())
}

fn origin(value: &[u8]) -> Result<Origin, Fault> {
    let [origin] = fixed(value)?;
    let reason = "ORIGIN is not 0, 1 or 2";
    Origin::from_code(origin).ok_or(withdraw(subcode::INVALID_ORIGIN, reason))
}

fn as_path(codec: &Codec, value: &[u8]) -> Result<AsPath, Fault> {
    let malformed = |reason| withdraw(subcode::MALFORMED_AS_PATH, reason);
    let path = as_path::read(value, codec.as4).map_err(malformed)?;
    // RFC 5065 §5: confederations stay inside one AS.
    if !codec.internal && path.segments.iter().any(|s| s.kind.is_confederation()) {
        return Err(malformed("confederation segments from an external peer"));
    }
    Ok(path)
}

fn as4_path(value: &[u8]) -> Result<AsPath, Fault> {
    as_path::read(value, true)
        .map_err(|reason| (Action::AttributeDiscard, subcode::OPTIONAL, reason))
}

fn aggregator(value: &[u8], as4: bool) -> Result<Aggregator, Fault> {
    let (asn, router_id) = if as4 {
        let [a, b, c, d, router_id @ ..] = fixed::<8>(value).map_err(discard)?;
        (u32::from_be_bytes([a, b, c, d]), router_id)
    } else {
        let [a, b, router_id @ ..] = fixed::<6>(value).map_err(discard)?;
        (u32::from(u16::from_be_bytes([a, b])), router_id)
    };
    // RFC 7607 §2: malformed, hence discarded (RFC 7606 §7.7).
    let asn = Asn::new(asn).ok_or((
        Action::AttributeDiscard,
        subcode::OPTIONAL,
        "the aggregator's AS is 0",
    ))?;
    Ok(Aggregator { asn, router_id: Ipv4Addr::from(router_id) })
}

fn large([a, b, c, d, e, f, g, h, i, j, k, l]: [u8; 12]) -> LargeCommunity {
    LargeCommunity {
        global: u32::from_be_bytes([a, b, c, d]),
        local1: u32::from_be_bytes([e, f, g, h]),
        local2: u32::from_be_bytes([i, j, k, l]),
    }
}

/// Kept as it is, after the checks that are possible.
fn other(raw: Raw<'_>) -> Result<OtherAttribute, Fault> {
    match raw.code {
        // RFC 7606 §7.9, §7.10.
        attr::ORIGINATOR_ID => fixed::<4>(raw.value).map(drop)?,
        attr::CLUSTER_LIST => list::<4, _>(raw.value, drop).map(drop)?,
        _ if raw.flags & flag::OPTIONAL == 0 => {
            // RFC 4271 §6.3; RFC 7606 leaves it as it is.
            let reason = "a well-known attribute is not known";
            return Err((Action::SessionReset, subcode::UNRECOGNIZED_WELL_KNOWN, reason));
        }
        _ => {}
    }
    let flags = raw.flags & !flag::EXTENDED_LENGTH;
    Ok(OtherAttribute { code: raw.code, flags, value: raw.value.to_vec() })
}
