//! UPDATE: its three fields, what must be in them, and the actions of RFC 7606.

use super::attribute::Collected;
use super::{error, mp};
use crate::wire::attributes::{Attributes, attr};
use crate::wire::cursor::Cursor;
use crate::wire::ids::Family;
use crate::wire::message::DecodeError;
use crate::wire::nlri;
use crate::wire::notification::{Notification, code, update as subcode};
use crate::wire::session::Codec;
use crate::wire::update::{
    Action, AttributeError, Form, NextHop, Prefixes, Reach, Unreach, Update,
};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

pub(super) fn decode(codec: &Codec, body: &[u8]) -> Result<Update, DecodeError> {
    let mut cursor = Cursor::new(body);
    let (Some(withdrawn), Some(attributes)) = (cursor.block16(), cursor.block16()) else {
        // RFC 7606 §3 (a).
        let reason = "the lengths inside the UPDATE exceed the message";
        return Err(error(code::UPDATE, subcode::MALFORMED_LIST, &[], reason));
    };
    let announced = cursor.rest();
    if body == [0; 4] {
        return Ok(Update::end_of_rib(Family::IPV4_UNICAST));
    }
    let withdrawn = classic(withdrawn)?;
    let announced = classic(announced)?;
    let mut collected = Collected::read(codec, attributes);
    if let Some(family) = end_of_rib(&collected, attributes, &withdrawn, &announced) {
        return Ok(Update::end_of_rib(family));
    }
    check_classic(codec, &mut collected, !withdrawn.is_empty() || !announced.is_empty());
    check_presence(codec, &mut collected, &announced);
    reset(&mut collected, !announced.is_empty())?;
    Ok(assemble(codec, collected, withdrawn, announced))
}

/// RFC 7606 §3 (i) and (j): without the prefixes, nothing milder than a reset is possible.
fn classic(bytes: &[u8]) -> Result<Vec<Ipv4Net>, DecodeError> {
    nlri::read(bytes).map_err(|_| {
        let reason = "a prefix is too long or cut";
        error(code::UPDATE, subcode::INVALID_NETWORK, &[], reason)
    })
}

/// RFC 4724 §2: nothing but an MP_UNREACH_NLRI without prefixes.
fn end_of_rib(
    collected: &Collected,
    attributes: &[u8],
    withdrawn: &[Ipv4Net],
    announced: &[Ipv4Net],
) -> Option<Family> {
    let unreach = collected.mp_unreach.as_ref().filter(|u| u.prefixes.is_empty())?;
    // Header of three or four octets, and three of value.
    let alone = attributes.len() <= 7 && withdrawn.is_empty() && announced.is_empty();
    (alone && collected.errors.is_empty()).then(|| unreach.prefixes.family())
}

/// Classic prefixes are routes of IPv4 unicast, whether it was negotiated or not.
fn check_classic(codec: &Codec, collected: &mut Collected, has_classic: bool) {
    if has_classic && !codec.ipv4 {
        collected.errors.push(AttributeError {
            attribute: None,
            action: Action::AttributeDiscard,
            family: Some(Family::IPV4_UNICAST),
            notification: Notification::new(code::UPDATE, subcode::OPTIONAL),
            reason: "routes of a family that was not negotiated",
        });
    }
}

/// What an announcement must have (RFC 4271 §5, RFC 7606 §3 (d)).
fn check_presence(codec: &Codec, collected: &mut Collected, announced: &[Ipv4Net]) {
    let classic = codec.ipv4 && !announced.is_empty();
    let multiprotocol = collected.mp_reach.as_ref().is_some_and(|r| !r.prefixes.is_empty());
    if !classic && !multiprotocol {
        return;
    }
    let mandatory = [
        (attr::ORIGIN, true, "ORIGIN is missing"),
        (attr::AS_PATH, true, "AS_PATH is missing"),
        (attr::NEXT_HOP, classic, "NEXT_HOP is missing"),
        (attr::LOCAL_PREF, codec.internal, "LOCAL_PREF is missing"),
    ];
    for (attribute, wanted, reason) in mandatory {
        if wanted && !collected.saw(attribute) {
            let missing = (subcode::MISSING_WELL_KNOWN, vec![attribute]);
            collected.errors.push(withdraw(attribute, missing, reason));
        }
    }
    // RFC 4760 §3: ignored where there is no classic prefix.
    if let Some(next_hop) = collected.next_hop
        && classic
        && !mp::is_host(next_hop)
    {
        let [a, b, c, d] = next_hop.octets();
        let whole = vec![0x40, attr::NEXT_HOP, 4, a, b, c, d];
        let invalid = (subcode::INVALID_NEXT_HOP, whole);
        let reason = "NEXT_HOP is not a host address";
        collected.errors.push(withdraw(attr::NEXT_HOP, invalid, reason));
    }
}

fn withdraw(attribute: u8, (subcode, data): (u8, Vec<u8>), reason: &'static str) -> AttributeError {
    AttributeError {
        attribute: Some(attribute),
        action: Action::TreatAsWithdraw,
        family: None,
        notification: Notification::with_data(code::UPDATE, subcode, data),
        reason,
    }
}

/// The errors that end the session.
fn reset(collected: &mut Collected, has_announced: bool) -> Result<(), DecodeError> {
    // RFC 7606 §5.2: attributes without a prefix they speak of, and an error among them: the prefixes may be what
    // was lost, so withdrawing what we can see is not enough.
    let mp_empty = collected.mp_reach.as_ref().is_some_and(|r| r.prefixes.is_empty());
    let headless = !has_announced && (mp_empty || !collected.saw(attr::MP_REACH));
    let unsure = |e: &&mut AttributeError| {
        e.action == Action::SessionReset || (headless && e.action == Action::TreatAsWithdraw)
    };
    match collected.errors.iter_mut().find(unsure) {
        Some(e) => Err(DecodeError { notification: e.notification.clone(), reason: e.reason }),
        None => Ok(()),
    }
}

fn assemble(
    codec: &Codec,
    collected: Collected,
    withdrawn: Vec<Ipv4Net>,
    announced: Vec<Ipv4Net>,
) -> Update {
    let mut update = Update { errors: collected.errors, ..Update::default() };
    let classic = codec.ipv4;
    let withdrawn = Some(withdrawn).filter(|w| classic && !w.is_empty());
    update
        .unreach
        .extend(withdrawn.map(|w| Unreach { form: Form::Classic, prefixes: Prefixes::V4(w) }));
    update.unreach.extend(collected.mp_unreach.filter(|u| !u.prefixes.is_empty()));
    let announced = Some(announced).filter(|a| classic && !a.is_empty()).map(|prefixes| Reach {
        form: Form::Classic,
        // Absent only where the prefixes are about to be withdrawn.
        next_hop: NextHop::V4(collected.next_hop.unwrap_or(Ipv4Addr::UNSPECIFIED)),
        prefixes: Prefixes::V4(prefixes),
    });
    let multiprotocol = collected.mp_reach.filter(|r| !r.prefixes.is_empty());
    let reach = announced.into_iter().chain(multiprotocol);
    if update.errors.iter().any(|e| e.action == Action::TreatAsWithdraw) {
        let withdraw = |r: Reach| Unreach { form: r.form, prefixes: r.prefixes };
        update.unreach.extend(reach.map(withdraw));
        update.attributes = Attributes::default();
    } else {
        update.reach.extend(reach);
        update.attributes = collected.attributes;
    }
    update
}
