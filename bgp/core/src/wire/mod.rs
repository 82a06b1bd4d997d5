//! The wire format (RFC 4271 §4): bytes in, values out, and back.
//!
//! [`Frame::split`] finds the messages in a stream, [`Codec::decode`] reads one, [`Codec::encode`] and the packing
//! methods write. A peer's bytes never panic: an error is a [`DecodeError`] with the NOTIFICATION to send, or an
//! entry in [`Update::errors`] with the action that RFC 7606 asks for.

mod as_path;
mod attributes;
mod capability;
mod cursor;
mod decode;
mod encode;
mod frame;
mod ids;
mod message;
mod nlri;
pub mod notification;
mod open;
mod refresh;
mod session;
mod update;

pub use as_path::{AsPath, Segment, SegmentKind};
pub use attributes::{
    Aggregator, Attributes, Community, ExtCommunity, LargeCommunity, Origin, OtherAttribute,
    PartialSet, attr, flag,
};
pub use capability::{Capability, GracefulFamily, GracefulRestart};
pub use frame::{Frame, HEADER_LEN, MARKER_LEN, MAX_LEN};
pub use ids::{Asn, AsnError, Family, HoldTime, HoldTimeError};
pub use message::{DecodeError, EncodeError, Message, kind};
pub use notification::Notification;
pub use open::Open;
pub use refresh::{RefreshSubtype, RouteRefresh};
pub use session::{Codec, Negotiated};
pub use update::{Action, AttributeError, Form, NextHop, Prefixes, Reach, Unreach, Update};
