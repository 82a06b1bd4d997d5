//! The captured sessions under `tests/data/bgp`.

use sluice_bgp_core::wire::{Codec, Frame, MARKER_LEN, Message, Negotiated, attr, flag, kind};

use bytes::BytesMut;
use std::path::Path;

/// One TCP connection between two daemons.
pub(super) struct Session {
    /// File and number, for messages.
    pub(super) name: String,
    /// `frr=65001 bird=65002 as4=yes ipv4=yes ipv6=yes`, as the capture script read it from the OPENs.
    pub(super) parameters: String,
    /// In the order of the capture.
    pub(super) messages: Vec<Recorded>,
}

/// One message.
pub(super) struct Recorded {
    /// Name of the daemon that sent it.
    pub(super) sender: String,
    /// With the marker.
    pub(super) bytes: Vec<u8>,
}

/// All sessions of all files.
pub(super) fn sessions() -> Vec<Session> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/bgp");
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Session> {
    let text = std::fs::read_to_string(file).unwrap();
    let stem = file.file_stem().unwrap().to_string_lossy();
    let mut sessions: Vec<Session> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (head, rest) = line.split_once(' ').unwrap();
        if head == "session" {
            let name = format!("{stem}#{}", sessions.len());
            sessions.push(Session { name, parameters: rest.to_owned(), messages: Vec::new() });
            continue;
        }
        let (sender, _) = head.split_once('>').unwrap();
        let mut bytes = vec![0xff; MARKER_LEN];
        bytes.extend(octets(rest));
        let session = sessions.last_mut().unwrap();
        session.messages.push(Recorded { sender: sender.to_owned(), bytes });
    }
    sessions
}

fn octets(hex: &str) -> impl Iterator<Item = u8> + '_ {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
}

impl Session {
    /// The value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> &str {
        let prefix = format!("{name}=");
        self.parameters.split(' ').find_map(|p| p.strip_prefix(&prefix)).unwrap()
    }

    /// The codec of either side, from the parameters.
    pub(super) fn codec(&self) -> Codec {
        let daemons: Vec<&str> = self
            .parameters
            .split(' ')
            .filter_map(|p| p.split_once('='))
            .filter(|(name, _)| matches!(*name, "frr" | "bird" | "gobgp"))
            .map(|(_, asn)| asn)
            .collect();
        Codec {
            as4: self.parameter("as4") == "yes",
            internal: daemons[0] == daemons[1],
            ipv4: self.parameter("ipv4") == "yes",
            ipv6: self.parameter("ipv6") == "yes",
        }
    }

    /// What the two OPENs agree on, by our own reading of them.
    pub(super) fn negotiated(&self) -> Negotiated {
        let mut opens = self.messages.iter().filter_map(|m| match decode(&Codec::default(), m) {
            Message::Open(open) => Some((m.sender.clone(), open)),
            _ => None,
        });
        let (first, ours) = opens.next().unwrap();
        let (_, theirs) = opens.find(|(sender, _)| *sender != first).unwrap();
        Negotiated::new(&ours, &theirs)
    }
}

/// Decodes a recorded message, which must succeed.
pub(super) fn decode(codec: &Codec, recorded: &Recorded) -> Message {
    let mut buffer = BytesMut::from(&recorded.bytes[..]);
    let frame = Frame::split(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty());
    codec.decode(&frame).unwrap_or_else(|e| panic!("{e}: {:02x?}", recorded.bytes))
}

/// Whether the message has the form that ours has: capabilities in one parameter; attributes ascending, but
/// MP_REACH_NLRI and MP_UNREACH_NLRI first, and the long form of a length only where it is needed.
pub(super) fn is_canonical(bytes: &[u8]) -> bool {
    let (kind, body) = (bytes[MARKER_LEN + 2], &bytes[MARKER_LEN + 3..]);
    match kind {
        kind::OPEN => body[9] == 0 || usize::from(body[11]) + 2 == usize::from(body[9]),
        kind::UPDATE => {
            let withdrawn = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let len = usize::from(u16::from_be_bytes([body[2 + withdrawn], body[3 + withdrawn]]));
            has_canonical_attributes(&body[4 + withdrawn..][..len])
        }
        _ => true,
    }
}

fn has_canonical_attributes(mut attributes: &[u8]) -> bool {
    let mut ranks = Vec::new();
    while let [flags, code, rest @ ..] = attributes {
        let (len, header) = if flags & flag::EXTENDED_LENGTH != 0 {
            (usize::from(u16::from_be_bytes([rest[0], rest[1]])), 4)
        } else {
            (usize::from(rest[0]), 3)
        };
        if (header == 4) != (len > 255) {
            return false;
        }
        ranks.push((!matches!(*code, attr::MP_REACH | attr::MP_UNREACH), *code));
        attributes = &attributes[header + len..];
    }
    ranks.is_sorted()
}
