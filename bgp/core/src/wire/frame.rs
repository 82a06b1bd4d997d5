//! Framing (RFC 4271 §4.1): finds message borders in a byte stream and checks the header, nothing else.

use super::message::{DecodeError, kind};
use super::notification::{self, Notification, code};
use bytes::{Buf, Bytes, BytesMut};

/// Marker, length, type.
pub const HEADER_LEN: usize = 19;
/// Longest message without the extended-message capability (RFC 4271 §4.1).
pub const MAX_LEN: usize = 4096;
/// Length of the marker, all ones.
pub const MARKER_LEN: usize = 16;

/// One message with a checked header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    kind: u8,
    body: Bytes,
}

// === impl Frame ===

impl Frame {
    /// Takes the next message off the front of `buf`; `None` until it is complete. An error ends the session:
    /// the stream has no other borders than the length fields.
    pub fn split(buf: &mut BytesMut) -> Result<Option<Self>, DecodeError> {
        // Checked as it comes in, so that a stranger's bytes are refused at once and not after the hold time.
        if buf.iter().take(MARKER_LEN).any(|b| *b != 0xff) {
            return Err(header_error(
                notification::header::NOT_SYNCHRONIZED,
                &[],
                "the marker is not all ones",
            ));
        }
        let Some((len, kind)) = header(buf) else {
            return Ok(None);
        };
        check_header(len, kind)?;
        if buf.len() < usize::from(len) {
            return Ok(None);
        }
        let mut message = buf.split_to(usize::from(len));
        message.advance(HEADER_LEN);
        Ok(Some(Self { kind, body: message.freeze() }))
    }

    /// One of [`kind`].
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The message with its header, as it came.
    pub fn to_message(&self) -> Vec<u8> {
        let len = u16::try_from(HEADER_LEN + self.body.len()).unwrap_or(u16::MAX);
        let mut message = vec![0xff; MARKER_LEN];
        message.extend_from_slice(&len.to_be_bytes());
        message.push(self.kind);
        message.extend_from_slice(&self.body);
        message
    }

    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Length and type, once there.
fn header(buf: &[u8]) -> Option<(u16, u8)> {
    match *buf.get(MARKER_LEN..HEADER_LEN)? {
        [high, low, kind] => Some((u16::from_be_bytes([high, low]), kind)),
        _ => None,
    }
}

/// RFC 4271 §6.1: limits of all types first, then the type, then its own minimum.
fn check_header(len: u16, message_kind: u8) -> Result<(), DecodeError> {
    let bad_length =
        |reason| header_error(notification::header::BAD_LENGTH, &len.to_be_bytes(), reason);
    let octets = usize::from(len);
    if !(HEADER_LEN..=MAX_LEN).contains(&octets) {
        return Err(bad_length("the length is not between 19 and 4096"));
    }
    let plausible = match message_kind {
        kind::OPEN => octets >= 29,
        kind::UPDATE => octets >= 23,
        kind::NOTIFICATION => octets >= 21,
        kind::KEEPALIVE => octets == HEADER_LEN,
        kind::ROUTE_REFRESH => octets >= 23,
        _ => {
            return Err(header_error(
                notification::header::BAD_TYPE,
                &[message_kind],
                "the message type is unknown",
            ));
        }
    };
    if plausible { Ok(()) } else { Err(bad_length("the length does not suit the message type")) }
}

fn header_error(subcode: u8, data: &[u8], reason: &'static str) -> DecodeError {
    DecodeError { notification: Notification::with_data(code::HEADER, subcode, data), reason }
}
