//! Bodies of messages into values.

mod as_path;
mod attribute;
mod mp;
mod open;
mod update;

use super::cursor::Cursor;
use super::frame::Frame;
use super::ids::Family;
use super::message::{DecodeError, Message, kind};
use super::notification::{self, Notification, code};
use super::refresh::{RefreshSubtype, RouteRefresh};
use super::session::Codec;

impl Codec {
    /// Decodes a frame. Errors in an UPDATE that do not end the session are in [`super::Update::errors`].
    pub fn decode(&self, frame: &Frame) -> Result<Message, DecodeError> {
        let body = frame.body();
        match frame.kind() {
            kind::OPEN => open::decode(body).map(Message::Open),
            kind::UPDATE => update::decode(self, body).map(Message::Update),
            kind::NOTIFICATION => notification(body).map(Message::Notification),
            kind::KEEPALIVE => Ok(Message::KeepAlive),
            kind::ROUTE_REFRESH => route_refresh(frame).map(Message::RouteRefresh),
            other => Err(error(
                code::HEADER,
                notification::header::BAD_TYPE,
                &[other],
                "the message type is unknown",
            )),
        }
    }
}

fn error(code: u8, subcode: u8, data: &[u8], reason: &'static str) -> DecodeError {
    DecodeError { notification: Notification::with_data(code, subcode, data), reason }
}

fn notification(body: &[u8]) -> Result<Notification, DecodeError> {
    let mut cursor = Cursor::new(body);
    match (cursor.u8(), cursor.u8()) {
        (Some(code), Some(subcode)) => {
            Ok(Notification { code, subcode, data: cursor.rest().to_vec() })
        }
        // Framing refuses these; and nothing may be sent in answer to a NOTIFICATION (RFC 4271 §6.4).
        _ => Err(error(
            code::HEADER,
            notification::header::BAD_LENGTH,
            &[],
            "the NOTIFICATION is too short",
        )),
    }
}

/// Longer ones carry filters (RFC 5291), which we do not have: a peer that sends them without our capability wants its
/// routes all the same. RFC 7313 §5 makes a wrong length an error of the markers only.
fn route_refresh(frame: &Frame) -> Result<RouteRefresh, DecodeError> {
    let wrong_length = |reason| {
        // The data is the complete message.
        error(code::ROUTE_REFRESH, 1, &frame.to_message(), reason)
    };
    let Some((&[afi_high, afi_low, subtype, safi], filters)) = frame.body().split_first_chunk()
    else {
        // Framing refuses these.
        return Err(wrong_length("the ROUTE-REFRESH is too short"));
    };
    let subtype = RefreshSubtype::from_code(subtype);
    let is_marker = matches!(subtype, RefreshSubtype::Begin | RefreshSubtype::End);
    if is_marker && !filters.is_empty() {
        return Err(wrong_length("the marker of a refresh does not have 23 octets"));
    }
    Ok(RouteRefresh {
        family: Family { afi: u16::from_be_bytes([afi_high, afi_low]), safi },
        subtype,
    })
}
