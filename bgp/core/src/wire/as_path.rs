//! AS_PATH (RFC 4271 §5.1.2) and its reconstruction from AS4_PATH (RFC 6793 §4.2.3).

use super::ids::Asn;
use std::fmt;

/// The ASes a route came through, nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath {
    /// Each has 1 to 255 ASes in a decoded path; longer ones are split when encoded.
    pub segments: Vec<Segment>,
}

/// A part of the path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// How to read the ASes.
    pub kind: SegmentKind,
    /// Never empty in a decoded path.
    pub asns: Vec<Asn>,
}

/// RFC 4271 §4.3, RFC 5065 §3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// Any order, counts as one AS.
    Set,
    /// In order.
    Sequence,
    /// In order, within a confederation; does not count.
    ConfedSequence,
    /// Any order, within a confederation; does not count.
    ConfedSet,
}

// === impl AsPath ===

impl AsPath {
    /// One sequence of these ASes, nearest first; an empty path for none.
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        let asns: Vec<Asn> = asns.into_iter().collect();
        if asns.is_empty() {
            return Self::default();
        }
        Self { segments: vec![Segment { kind: SegmentKind::Sequence, asns }] }
    }

    /// Length in the decision process: a set counts as one, confederations not at all (RFC 4271 §9.1.2.2, RFC 5065 §5.3).
    pub fn hops(&self) -> usize {
        self.segments.iter().map(Segment::hops).sum()
    }

    /// All ASes, nearest first, sets and confederations included.
    pub fn iter(&self) -> impl Iterator<Item = Asn> + '_ {
        self.segments.iter().flat_map(|s| s.asns.iter().copied())
    }

    /// Whether the AS occurs anywhere: a loop, if it is ours (RFC 4271 §9.1.2).
    pub fn contains(&self, asn: Asn) -> bool {
        self.iter().any(|a| a == asn)
    }

    /// The nearest AS, which over eBGP must be the peer's (RFC 4271 §6.3).
    pub fn first(&self) -> Option<Asn> {
        self.segments.first().and_then(|s| s.asns.first()).copied()
    }
}

/// `65001 65002 {1 2}`.
impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments.iter().enumerate() {
            let (open, close) = segment.kind.brackets();
            write!(f, "{}{open}", if i == 0 { "" } else { " " })?;
            for (j, asn) in segment.asns.iter().enumerate() {
                write!(f, "{}{asn}", if j == 0 { "" } else { " " })?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

// === impl Segment ===

impl Segment {
    fn hops(&self) -> usize {
        match self.kind {
            SegmentKind::Set => 1,
            SegmentKind::Sequence => self.asns.len(),
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        }
    }
}

// === impl SegmentKind ===

impl SegmentKind {
    /// The wire value.
    pub fn code(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfedSequence => 3,
            Self::ConfedSet => 4,
        }
    }

    /// `None` for a value no RFC defines.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Set,
            2 => Self::Sequence,
            3 => Self::ConfedSequence,
            4 => Self::ConfedSet,
            _ => return None,
        })
    }

    /// Whether it is of RFC 5065.
    pub fn is_confederation(self) -> bool {
        matches!(self, Self::ConfedSequence | Self::ConfedSet)
    }

    fn brackets(self) -> (&'static str, &'static str) {
        match self {
            Self::Set => ("{", "}"),
            Self::Sequence => ("", ""),
            Self::ConfedSequence => ("(", ")"),
            Self::ConfedSet => ("[", "]"),
        }
    }
}
