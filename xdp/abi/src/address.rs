//! One address type for both families.

/// An IPv6 address, or an IPv4 address mapped into IPv6 (RFC 4291 section 2.5.5.2), in network byte order.
///
/// One shape for both families keeps one code path and one set of maps; comparing costs two words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Address {
    /// Four words as they lie in memory: `octets` in groups of four, each group read natively.
    pub words: [u32; 4],
}
crate::assert_size!(Address = 16);

/// The third word of a mapped IPv4 address, `::ffff:0:0/96`, as it lies in memory.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

// === impl Address ===

impl Address {
    /// From four octets in network order.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self::v4_word(u32::from_ne_bytes(octets))
    }

    /// From an IPv4 address as it lies in a packet.
    #[inline(always)]
    pub const fn v4_word(word: u32) -> Self {
        Self { words: [0, 0, MAPPED, word] }
    }

    /// From sixteen octets in network order.
    #[inline(always)]
    pub const fn v6(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self {
            words: [
                u32::from_ne_bytes([a, b, c, d]),
                u32::from_ne_bytes([e, f, g, h]),
                u32::from_ne_bytes([i, j, k, l]),
                u32::from_ne_bytes([m, n, o, p]),
            ],
        }
    }

    /// Sixteen octets in network order; an IPv4 address comes mapped.
    pub const fn octets(&self) -> [u8; 16] {
        let [first, second, third, last] = self.words;
        let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
        let ([i, j, k, l], [m, n, o, p]) = (third.to_ne_bytes(), last.to_ne_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Whether this is a mapped IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let [a, b, c, _] = self.words;
        a == 0 && b == 0 && c == MAPPED
    }

    /// The last word: the whole of an IPv4 address, as it lies in a packet.
    #[inline(always)]
    pub const fn last_word(&self) -> u32 {
        let [_, _, _, d] = self.words;
        d
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "test data is cut to size on purpose")]
mod tests {
    use super::*;

    #[test]
    fn octets_come_back_in_network_order() {
        let v4 = Address::v4([203, 0, 113, 10]);
        assert!(v4.is_v4());
        assert_eq!(v4.octets(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 10]);
        let octets = core::array::from_fn(|i| i as u8 + 1);
        let v6 = Address::v6(octets);
        assert!(!v6.is_v4());
        assert_eq!(v6.octets(), octets);
    }
}
