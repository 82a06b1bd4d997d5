//! Incremental Internet checksums, RFC 1624.
//!
//! A rewrite changes the same fields of every packet of a flow, so what it adds to the checksum is computed once, as a
//! [`Delta`], and kept with the flow. Ones' complement sums do not care about byte order as long as both sides use one
//! (RFC 1071 section 2, B), so nothing here is swapped.

/// What a rewrite adds to a ones' complement sum: the `~m + m'` of RFC 1624 equation 3, not yet folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

// === impl Delta ===

impl Delta {
    /// Nothing changes.
    pub const ZERO: Self = Self(0);

    /// A 16-bit field changes. Both values as they lie in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn word16(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// A 32-bit field, aligned to 16 bits in its packet, changes. Both values as they lie in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn word32(self, old: u32, new: u32) -> Self {
        // 2^16 is 1 in ones' complement arithmetic, so a 32-bit word counts as the sum of its halves.
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// The sum in 16 bits.
    #[inline(always)]
    pub const fn fold(self) -> u16 {
        fold(self.0)
    }
}

/// The checksum after a change: RFC 1624 equation 3, `HC' = ~(~HC + ~m + m')`.
#[inline(always)]
pub const fn update(checksum: u16, folded_delta: u16) -> u16 {
    !fold((!checksum) as u64 + folded_delta as u64)
}

/// A sum of 16-bit or 32-bit words in 16 bits, with every carry brought round (RFC 1071).
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // In range: after the steps above nothing is left beyond 16 bits.
    (sum & 0xffff) as u16
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "test data is cut to size on purpose")]
mod tests {
    use super::*;

    fn full(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]) as u64);
        !fold(words.sum())
    }

    #[test]
    fn example_of_rfc_1624_section_4() {
        // HC = 0xDD2F, m = 0x5555, m' = 0x3285: the old method gave 0xFFFF, the right answer is 0x0000.
        let delta = Delta::ZERO.word16(0x5555, 0x3285).fold();
        assert_eq!(update(0xdd2f, delta), 0x0000);
    }

    #[test]
    fn incremental_equals_full() {
        // A linear congruence is random enough and needs no crate.
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u32
        };
        for _ in 0..10_000 {
            let mut bytes = [0u8; 40];
            bytes.iter_mut().for_each(|byte| *byte = next() as u8);
            let before = full(&bytes);
            let (old32, new32, new16) =
                (u32::from_ne_bytes(bytes[12..16].try_into().unwrap()), next(), next() as u16);
            let old16 = u16::from_ne_bytes(bytes[20..22].try_into().unwrap());
            bytes[12..16].copy_from_slice(&new32.to_ne_bytes());
            bytes[20..22].copy_from_slice(&new16.to_ne_bytes());
            let delta = Delta::ZERO.word32(old32, new32).word16(old16, new16).fold();
            let after = update(before, delta);
            // 0x0000 and 0xffff are the same number; only an all-zero packet makes a difference, which none is.
            assert_eq!(after % 0xffff, full(&bytes) % 0xffff);
        }
    }
}
