//! Values into bytes. Nothing here allocates beyond the output buffer.

mod attributes;
mod open;
mod pack;
mod update;

use super::frame::{HEADER_LEN, MARKER_LEN, MAX_LEN};
use super::message::{EncodeError, Message, kind};
use super::notification::Notification;
use super::refresh::RouteRefresh;
use super::session::Codec;
use bytes::{BufMut, BytesMut};

impl Codec {
    /// Appends one message. Nothing is written on error.
    pub fn encode(&self, message: &Message, out: &mut BytesMut) -> Result<(), EncodeError> {
        framed(message.kind(), out, |out| match message {
            Message::Open(open) => open::write(open, out),
            Message::Update(update) => update::write(self, update, out),
            Message::Notification(notification) => {
                write_notification(notification, out);
                Ok(())
            }
            Message::KeepAlive => Ok(()),
            Message::RouteRefresh(refresh) => {
                write_refresh(refresh, out);
                Ok(())
            }
        })
    }
}

/// Writes the header, then the body, then the length into the header. Takes everything back on error.
fn framed(
    kind: u8,
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_slice(&[0xff; MARKER_LEN]);
    out.put_slice(&[0, 0, kind]);
    let result = body(out).and_then(|()| {
        let len = out.len() - start;
        if len > MAX_LEN {
            return Err(EncodeError::TooLong { len });
        }
        patch_u16(out, start + MARKER_LEN, len)
    });
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Overwrites a length field.
fn patch_u16(out: &mut BytesMut, at: usize, value: usize) -> Result<(), EncodeError> {
    let short = u16::try_from(value).map_err(|_| EncodeError::TooLong { len: value })?;
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&short.to_be_bytes());
    }
    Ok(())
}

/// Writes a two-octet length field, then what it counts.
fn with_len16(
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let at = out.len();
    out.put_u16(0);
    body(out)?;
    patch_u16(out, at, out.len() - at - 2)
}

fn write_notification(notification: &Notification, out: &mut BytesMut) {
    out.put_u8(notification.code);
    out.put_u8(notification.subcode);
    // The data is a hint for people and cut to what fits; the code is what ends the session.
    let room = MAX_LEN - HEADER_LEN - 2;
    out.put_slice(notification.data.get(..room).unwrap_or(&notification.data));
}

fn write_refresh(refresh: &RouteRefresh, out: &mut BytesMut) {
    out.put_u16(refresh.family.afi);
    out.put_u8(refresh.subtype.code());
    out.put_u8(refresh.family.safi);
}

/// One complete UPDATE.
fn framed_update(
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    framed(kind::UPDATE, out, body)
}
