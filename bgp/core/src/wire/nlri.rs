//! Prefixes on the wire: a length in bits and as many octets as it needs (RFC 4271 §4.3).

use bytes::BytesMut;
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A kind of prefix. The loops over it are the codec's hot path: they move whole addresses and mask, rather than
/// copying octet by octet.
pub(super) trait Nlri: Copy {
    /// Octets of the longest prefix on the wire, length octet included.
    const MAX_LEN: usize;

    /// Of a length and as many address octets as are left, at most `MAX_LEN - 1`; `None` when the length is out of
    /// range. Octets past the prefix are ignored.
    fn parse(len: u8, octets: &[u8]) -> Option<Self>;

    /// Length in bits.
    fn bits(&self) -> u8;

    /// Writes the length and the whole address to `out`, which has `MAX_LEN` octets.
    fn store(&self, out: &mut [u8]);

    /// Octets on the wire.
    fn wire_len(&self) -> usize {
        1 + usize::from(self.bits().div_ceil(8))
    }
}

/// Why a list of prefixes cannot be read (RFC 4271 §6.3, RFC 7606 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NlriError;

/// Reads prefixes to the end of `bytes`. Host bits are cleared: RFC 4271 §4.3 calls them irrelevant.
pub(super) fn read<N: Nlri>(bytes: &[u8]) -> Result<Vec<N>, NlriError> {
    let Some(first) = bytes.first() else {
        return Ok(Vec::new());
    };
    // A guess that is right where all prefixes are equally long, as those of virtual IPs are.
    let guess = bytes.len() / (1 + usize::from(first.div_ceil(8)));
    let mut prefixes = Vec::with_capacity(guess);
    let mut rest = bytes;
    while let Some((len, octets)) = rest.split_first() {
        let prefix = N::parse(*len, octets).ok_or(NlriError)?;
        rest = octets.get(usize::from(len.div_ceil(8))..).ok_or(NlriError)?;
        prefixes.push(prefix);
    }
    Ok(prefixes)
}

/// How many of `prefixes` fit in `room` octets, and how many octets they take.
pub(super) fn fit<N: Nlri>(prefixes: &[N], room: usize) -> (usize, usize) {
    let mut octets = 0;
    for (count, prefix) in prefixes.iter().enumerate() {
        let next = octets + prefix.wire_len();
        if next > room {
            return (count, octets);
        }
        octets = next;
    }
    (prefixes.len(), octets)
}

/// Appends prefixes that take `octets` octets in all (of [`fit`]).
pub(super) fn write<N: Nlri>(prefixes: &[N], octets: usize, out: &mut BytesMut) {
    let start = out.len();
    // Whole addresses are stored and overlapped by the next prefix; the slack is for the last one.
    out.resize(start + octets + N::MAX_LEN, 0);
    let mut position = start;
    for prefix in prefixes {
        if let Some(slot) = out.get_mut(position..position + N::MAX_LEN) {
            prefix.store(slot);
            position += prefix.wire_len();
        }
    }
    out.truncate(position);
}

// === impl Nlri ===

impl Nlri for Ipv4Net {
    const MAX_LEN: usize = 5;

    #[inline]
    fn parse(len: u8, octets: &[u8]) -> Option<Self> {
        let raw = match octets.first_chunk::<4>() {
            Some(whole) => *whole,
            None => padded(octets),
        };
        let shift = 32_u32.checked_sub(u32::from(len))?;
        let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
        Self::new(Ipv4Addr::from_bits(u32::from_be_bytes(raw) & mask), len).ok()
    }

    #[inline]
    fn bits(&self) -> u8 {
        self.prefix_len()
    }

    #[inline]
    fn store(&self, out: &mut [u8]) {
        if let Some(slot) = out.first_chunk_mut::<5>() {
            let [a, b, c, d] = self.addr().octets();
            *slot = [self.prefix_len(), a, b, c, d];
        }
    }
}

impl Nlri for Ipv6Net {
    const MAX_LEN: usize = 17;

    #[inline]
    fn parse(len: u8, octets: &[u8]) -> Option<Self> {
        let raw = match octets.first_chunk::<16>() {
            Some(whole) => *whole,
            None => padded(octets),
        };
        let shift = 128_u32.checked_sub(u32::from(len))?;
        let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
        Self::new(Ipv6Addr::from_bits(u128::from_be_bytes(raw) & mask), len).ok()
    }

    #[inline]
    fn bits(&self) -> u8 {
        self.prefix_len()
    }

    #[inline]
    fn store(&self, out: &mut [u8]) {
        if let [len, address @ ..] = out
            && let Some(address) = address.first_chunk_mut::<16>()
        {
            *len = self.prefix_len();
            *address = self.addr().octets();
        }
    }
}

/// The octets that are there, zeros behind; for the last prefixes of a message.
fn padded<const N: usize>(octets: &[u8]) -> [u8; N] {
    let mut raw = [0; N];
    for (to, from) in raw.iter_mut().zip(octets) {
        *to = *from;
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(s: &str) -> Ipv4Net {
        s.parse().unwrap()
    }

    #[test]
    fn reads_each_length_and_clears_host_bits() {
        let bytes = [0, 8, 10, 9, 10, 0xff, 24, 192, 0, 2, 32, 203, 0, 113, 10, 17, 172, 16, 0xff];
        let prefixes: Vec<Ipv4Net> = read(&bytes).unwrap();
        let wanted = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.128.0.0/9",
            "192.0.2.0/24",
            "203.0.113.10/32",
            "172.16.128.0/17",
        ];
        assert_eq!(prefixes, wanted.map(v4));
    }

    #[test]
    fn refuses_what_is_too_long_or_cut() {
        assert_eq!(read::<Ipv4Net>(&[33, 1, 2, 3, 4, 5]), Err(NlriError));
        assert_eq!(read::<Ipv4Net>(&[24, 1, 2]), Err(NlriError));
        assert_eq!(read::<Ipv4Net>(&[8]), Err(NlriError));
        assert_eq!(read::<Ipv4Net>(&[255]), Err(NlriError));
        assert_eq!(read::<Ipv6Net>(&[129; 18]), Err(NlriError));
        assert_eq!(read::<Ipv6Net>(&[128; 16]), Err(NlriError));
    }

    #[test]
    fn writes_what_fits() {
        let prefixes = [v4("10.0.0.0/8"), v4("192.0.2.0/24"), v4("203.0.113.10/32")];
        assert_eq!(fit(&prefixes, 10), (2, 6));
        assert_eq!(fit(&prefixes, 11), (3, 11));
        let mut out = BytesMut::new();
        write(&prefixes, 11, &mut out);
        assert_eq!(out.as_ref(), [8, 10, 24, 192, 0, 2, 32, 203, 0, 113, 10]);
    }
}
