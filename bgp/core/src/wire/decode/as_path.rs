//! AS_PATH off the wire, and its reconstruction behind a two-octet speaker (RFC 6793 §4.2.3).

use crate::wire::as_path::{AsPath, Segment, SegmentKind};
use crate::wire::cursor::Cursor;
use crate::wire::ids::Asn;

/// Reads segments; the error says what RFC 7606 §7.2 calls malformed.
pub(super) fn read(value: &[u8], as4: bool) -> Result<AsPath, &'static str> {
    let mut cursor = Cursor::new(value);
    let mut segments = Vec::new();
    while let Some(kind) = cursor.u8() {
        let kind = SegmentKind::from_code(kind).ok_or("an AS_PATH segment has an unknown type")?;
        let count = cursor.u8().ok_or("an AS_PATH segment is cut")?;
        if count == 0 {
            return Err("an AS_PATH segment is empty");
        }
        segments.push(Segment { kind, asns: asns(&mut cursor, usize::from(count), as4)? });
    }
    Ok(AsPath { segments })
}

fn asns(cursor: &mut Cursor<'_>, count: usize, as4: bool) -> Result<Vec<Asn>, &'static str> {
    let octets = if as4 { 4 } else { 2 };
    let block = cursor.take(count * octets).ok_or("an AS_PATH segment overruns the attribute")?;
    let mut asns = Vec::with_capacity(count);
    for raw in block.chunks_exact(octets) {
        let number = raw.iter().fold(0, |n, octet| n << 8 | u32::from(*octet));
        // RFC 7607 §2: malformed.
        asns.push(Asn::new(number).ok_or("an AS_PATH contains AS 0")?);
    }
    Ok(asns)
}

/// AS_PATH with AS_TRANS in it, and what a four-octet speaker further away said (RFC 6793 §4.2.3). The nearest ASes
/// come from AS_PATH, since only they were added behind its back.
pub(super) fn merge(as_path: AsPath, mut as4_path: AsPath) -> AsPath {
    // RFC 6793 §6: confederation segments do not belong there.
    as4_path.segments.retain(|s| matches!(s.kind, SegmentKind::Set | SegmentKind::Sequence));
    let Some(mut lead) = as_path.hops().checked_sub(as4_path.hops()) else {
        return as_path;
    };
    let mut segments: Vec<Segment> = Vec::new();
    for mut segment in as_path.segments {
        match segment.kind {
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => segments.push(segment),
            _ if lead == 0 => break,
            SegmentKind::Set => {
                lead -= 1;
                segments.push(segment);
            }
            SegmentKind::Sequence => {
                segment.asns.truncate(lead);
                lead -= segment.asns.len();
                segments.push(segment);
            }
        }
    }
    for segment in as4_path.segments {
        append(&mut segments, segment);
    }
    AsPath { segments }
}

/// Adjacent sequences are one sequence, up to the 255 that a segment holds.
fn append(segments: &mut Vec<Segment>, segment: Segment) {
    match segments.last_mut() {
        Some(last)
            if last.kind == SegmentKind::Sequence
                && segment.kind == SegmentKind::Sequence
                && last.asns.len() + segment.asns.len() <= 255 =>
        {
            last.asns.extend(segment.asns);
        }
        _ => segments.push(segment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(asns: &[u32]) -> Segment {
        Segment {
            kind: SegmentKind::Sequence,
            asns: asns.iter().map(|a| Asn::new(*a).unwrap()).collect(),
        }
    }

    fn set(asns: &[u32]) -> Segment {
        Segment { kind: SegmentKind::Set, ..seq(asns) }
    }

    fn path(segments: &[Segment]) -> AsPath {
        AsPath { segments: segments.to_vec() }
    }

    #[test]
    fn merges_as_rfc_6793_says() {
        let cases = [
            ("equal length", vec![seq(&[23456, 10])], vec![seq(&[100_000, 10])], "100000 10"),
            ("one hop more", vec![seq(&[7, 23456, 10])], vec![seq(&[100_000, 10])], "7 100000 10"),
            ("AS4_PATH longer: ignored", vec![seq(&[7])], vec![seq(&[100_000, 10])], "7"),
            ("no AS4_PATH hops", vec![seq(&[7, 8])], vec![], "7 8"),
            (
                "a set counts once",
                vec![seq(&[7]), set(&[8, 9]), seq(&[23456])],
                vec![seq(&[100_000])],
                "7 {8 9} 100000",
            ),
            (
                "a set in AS4_PATH",
                vec![seq(&[7, 8]), set(&[23456, 9])],
                vec![set(&[100_000, 9])],
                "7 8 {100000 9}",
            ),
        ];
        for (what, as_path, as4_path, wanted) in cases {
            assert_eq!(merge(path(&as_path), path(&as4_path)).to_string(), wanted, "{what}");
        }
    }

    #[test]
    fn refuses_malformed_segments() {
        for bytes in [&[2][..], &[2, 0], &[2, 1, 0], &[5, 1, 0, 1], &[2, 1, 0, 0], &[2, 2, 0, 1, 0]]
        {
            assert!(read(bytes, false).is_err(), "{bytes:?}");
        }
        assert_eq!(read(&[], true), Ok(AsPath::default()));
    }
}
