//! NOTIFICATION (RFC 4271 §4.5): codes, names, and the shutdown text (RFC 9003).

use std::fmt;

/// Why a session ends. Codes that we do not know are kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// One of [`code`].
    pub code: u8,
    /// Meaning depends on the code; 0 is "unspecific".
    pub subcode: u8,
    /// Meaning depends on code and subcode.
    pub data: Vec<u8>,
}

/// IANA "BGP Error (Notification) Codes".
pub mod code {
    /// Message Header Error (RFC 4271 §6.1).
    pub const HEADER: u8 = 1;
    /// OPEN Message Error (RFC 4271 §6.2).
    pub const OPEN: u8 = 2;
    /// UPDATE Message Error (RFC 4271 §6.3).
    pub const UPDATE: u8 = 3;
    /// Hold Timer Expired (RFC 4271 §6.5).
    pub const HOLD_TIMER: u8 = 4;
    /// Finite State Machine Error (RFC 4271 §6.6).
    pub const FSM: u8 = 5;
    /// Cease (RFC 4271 §6.7, RFC 4486).
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error (RFC 7313 §5).
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send Hold Timer Expired (RFC 9687).
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of [`code::HEADER`].
pub mod header {
    /// Connection Not Synchronized.
    pub const NOT_SYNCHRONIZED: u8 = 1;
    /// Bad Message Length; data is the length field.
    pub const BAD_LENGTH: u8 = 2;
    /// Bad Message Type; data is the type field.
    pub const BAD_TYPE: u8 = 3;
}

/// Subcodes of [`code::OPEN`].
pub mod open {
    /// Unsupported Version Number; data is the version we speak, two octets.
    pub const UNSUPPORTED_VERSION: u8 = 1;
    /// Bad Peer AS.
    pub const BAD_PEER_AS: u8 = 2;
    /// Bad BGP Identifier.
    pub const BAD_IDENTIFIER: u8 = 3;
    /// Unsupported Optional Parameter.
    pub const UNSUPPORTED_PARAMETER: u8 = 4;
    /// Unacceptable Hold Time.
    pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
    /// Unsupported Capability; data lists the capabilities that we need (RFC 5492 §5).
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
    /// Role Mismatch (RFC 9234).
    pub const ROLE_MISMATCH: u8 = 11;
}

/// Subcodes of [`code::UPDATE`].
pub mod update {
    /// Malformed Attribute List.
    pub const MALFORMED_LIST: u8 = 1;
    /// Unrecognized Well-known Attribute; data is the attribute.
    pub const UNRECOGNIZED_WELL_KNOWN: u8 = 2;
    /// Missing Well-known Attribute; data is its type.
    pub const MISSING_WELL_KNOWN: u8 = 3;
    /// Attribute Flags Error; data is the attribute.
    pub const FLAGS: u8 = 4;
    /// Attribute Length Error; data is the attribute.
    pub const LENGTH: u8 = 5;
    /// Invalid ORIGIN Attribute; data is the attribute.
    pub const INVALID_ORIGIN: u8 = 6;
    /// Invalid NEXT_HOP Attribute; data is the attribute.
    pub const INVALID_NEXT_HOP: u8 = 8;
    /// Optional Attribute Error; data is the attribute.
    pub const OPTIONAL: u8 = 9;
    /// Invalid Network Field.
    pub const INVALID_NETWORK: u8 = 10;
    /// Malformed AS_PATH.
    pub const MALFORMED_AS_PATH: u8 = 11;
}

/// Subcodes of [`code::FSM`] (RFC 6608).
pub mod fsm {
    /// Receive Unexpected Message in OpenSent State; data is the message type.
    pub const OPEN_SENT: u8 = 1;
    /// Receive Unexpected Message in OpenConfirm State; data is the message type.
    pub const OPEN_CONFIRM: u8 = 2;
    /// Receive Unexpected Message in Established State; data is the message type.
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of [`code::CEASE`] (RFC 4486).
pub mod cease {
    /// Maximum Number of Prefixes Reached.
    pub const MAX_PREFIXES: u8 = 1;
    /// Administrative Shutdown; data may carry a text (RFC 9003).
    pub const ADMIN_SHUTDOWN: u8 = 2;
    /// Peer De-configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative Reset; data may carry a text (RFC 9003).
    pub const ADMIN_RESET: u8 = 4;
    /// Connection Rejected.
    pub const REJECTED: u8 = 5;
    /// Other Configuration Change.
    pub const CONFIG_CHANGE: u8 = 6;
    /// Connection Collision Resolution.
    pub const COLLISION: u8 = 7;
    /// Out of Resources.
    pub const OUT_OF_RESOURCES: u8 = 8;
    /// Hard Reset: the routes go even under graceful restart (RFC 8538 §3).
    pub const HARD_RESET: u8 = 9;
    /// BFD Down (RFC 9384).
    pub const BFD_DOWN: u8 = 10;
}

/// RFC 9003 §2: the text has at most 255 octets of UTF-8.
pub const MAX_SHUTDOWN_TEXT: usize = 255;

// === impl Notification ===

impl Notification {
    /// Without data.
    pub fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// With data.
    pub fn with_data(code: u8, subcode: u8, data: impl Into<Vec<u8>>) -> Self {
        Self { code, subcode, data: data.into() }
    }

    /// Cease with a text for the peer's operator, cut at a character boundary to what fits (RFC 9003 §2).
    /// `subcode` is [`cease::ADMIN_SHUTDOWN`] or [`cease::ADMIN_RESET`].
    pub fn shutdown(subcode: u8, text: &str) -> Self {
        let mut end = text.len().min(MAX_SHUTDOWN_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or_default();
        let mut data = Vec::with_capacity(1 + text.len());
        // A text of no octets says nothing; RFC 9003 §2 allows the length 0.
        data.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        data.extend_from_slice(text.as_bytes());
        Self { code: code::CEASE, subcode, data }
    }

    /// The peer's text, if this is an administrative shutdown or reset with one. Invalid UTF-8 is shown with
    /// replacement characters, as RFC 9003 §4 wants it visible rather than rejected. A text without its length
    /// octet (RFC 8203 era bugs) or longer than the data is not a text.
    pub fn shutdown_text(&self) -> Option<String> {
        let administrative = matches!(self.subcode, cease::ADMIN_SHUTDOWN | cease::ADMIN_RESET);
        if self.code != code::CEASE || !administrative {
            return None;
        }
        let (len, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(*len))?;
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// The notification inside a hard reset (RFC 8538 §3.1).
    pub fn hard_reset_cause(&self) -> Option<Self> {
        if (self.code, self.subcode) != (code::CEASE, cease::HARD_RESET) {
            return None;
        }
        let (head, data) = self.data.split_first_chunk::<2>()?;
        let [code, subcode] = *head;
        Some(Self { code, subcode, data: data.to_vec() })
    }

    /// IANA's name of the code.
    pub fn code_name(&self) -> &'static str {
        match self.code {
            code::HEADER => "Message Header Error",
            code::OPEN => "OPEN Message Error",
            code::UPDATE => "UPDATE Message Error",
            code::HOLD_TIMER => "Hold Timer Expired",
            code::FSM => "Finite State Machine Error",
            code::CEASE => "Cease",
            code::ROUTE_REFRESH => "ROUTE-REFRESH Message Error",
            code::SEND_HOLD_TIMER => "Send Hold Timer Expired",
            _ => "Unknown Error",
        }
    }

    /// IANA's name of the subcode; `None` for "unspecific" and for what has no name.
    pub fn subcode_name(&self) -> Option<&'static str> {
        match self.code {
            code::HEADER => header_name(self.subcode),
            code::OPEN => open_name(self.subcode),
            code::UPDATE => update_name(self.subcode),
            code::FSM => fsm_name(self.subcode),
            code::CEASE => cease_name(self.subcode),
            code::ROUTE_REFRESH if self.subcode == 1 => Some("Invalid Message Length"),
            _ => None,
        }
    }
}

/// `Cease/Administrative Shutdown (6/2): "text"`.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code_name())?;
        if let Some(name) = self.subcode_name() {
            write!(f, "/{name}")?;
        }
        write!(f, " ({}/{})", self.code, self.subcode)?;
        match self.shutdown_text() {
            Some(text) => write!(f, ": {text:?}"),
            None => Ok(()),
        }
    }
}

fn header_name(subcode: u8) -> Option<&'static str> {
    Some(match subcode {
        header::NOT_SYNCHRONIZED => "Connection Not Synchronized",
        header::BAD_LENGTH => "Bad Message Length",
        header::BAD_TYPE => "Bad Message Type",
        _ => return None,
    })
}

fn open_name(subcode: u8) -> Option<&'static str> {
    Some(match subcode {
        open::UNSUPPORTED_VERSION => "Unsupported Version Number",
        open::BAD_PEER_AS => "Bad Peer AS",
        open::BAD_IDENTIFIER => "Bad BGP Identifier",
        open::UNSUPPORTED_PARAMETER => "Unsupported Optional Parameter",
        open::UNACCEPTABLE_HOLD_TIME => "Unacceptable Hold Time",
        open::UNSUPPORTED_CAPABILITY => "Unsupported Capability",
        open::ROLE_MISMATCH => "Role Mismatch",
        _ => return None,
    })
}

fn update_name(subcode: u8) -> Option<&'static str> {
    Some(match subcode {
        update::MALFORMED_LIST => "Malformed Attribute List",
        update::UNRECOGNIZED_WELL_KNOWN => "Unrecognized Well-known Attribute",
        update::MISSING_WELL_KNOWN => "Missing Well-known Attribute",
        update::FLAGS => "Attribute Flags Error",
        update::LENGTH => "Attribute Length Error",
        update::INVALID_ORIGIN => "Invalid ORIGIN Attribute",
        update::INVALID_NEXT_HOP => "Invalid NEXT_HOP Attribute",
        update::OPTIONAL => "Optional Attribute Error",
        update::INVALID_NETWORK => "Invalid Network Field",
        update::MALFORMED_AS_PATH => "Malformed AS_PATH",
        _ => return None,
    })
}

fn fsm_name(subcode: u8) -> Option<&'static str> {
    Some(match subcode {
        fsm::OPEN_SENT => "Receive Unexpected Message in OpenSent State",
        fsm::OPEN_CONFIRM => "Receive Unexpected Message in OpenConfirm State",
        fsm::ESTABLISHED => "Receive Unexpected Message in Established State",
        _ => return None,
    })
}

fn cease_name(subcode: u8) -> Option<&'static str> {
    Some(match subcode {
        cease::MAX_PREFIXES => "Maximum Number of Prefixes Reached",
        cease::ADMIN_SHUTDOWN => "Administrative Shutdown",
        cease::DECONFIGURED => "Peer De-configured",
        cease::ADMIN_RESET => "Administrative Reset",
        cease::REJECTED => "Connection Rejected",
        cease::CONFIG_CHANGE => "Other Configuration Change",
        cease::COLLISION => "Connection Collision Resolution",
        cease::OUT_OF_RESOURCES => "Out of Resources",
        cease::HARD_RESET => "Hard Reset",
        cease::BFD_DOWN => "BFD Down",
        _ => return None,
    })
}
