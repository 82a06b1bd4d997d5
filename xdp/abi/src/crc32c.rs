//! The sum of SCTP packets: CRC32c, RFC 9260 appendix A, changed without looking at the packet.
//!
//! A CRC is linear: it changes by that of the difference, which is zero but for the ports at the front. Zeros behind a
//! difference multiply it by a power of x modulo the polynomial, so the change is one product, whatever the packet's
//! length. There is no pseudo header: addresses do not count, and IPv4 and IPv6 are the same.
//!
//! Numbers are polynomials as the algorithm shifts them: bit 31 is the coefficient of 1, bit 0 that of x^31. That is
//! also how the sum and the ports lie in a packet, when they are read on a little endian machine.

/// Castagnoli's, without x^32.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const ONE: u32 = 1 << 31;
/// x^8: what an octet behind multiplies by.
const OCTET: u32 = ONE >> 8;

/// Octets that one product covers: more than an Ethernet frame has.
const STRETCH: usize = 2048;
/// Powers of x^8.
static OCTETS: [u32; STRETCH] = powers(OCTET);
/// Powers of x^(8 · 2048): up to what an IP packet can be at all.
static STRETCHES: [u32; 32] = powers(multiply(power(OCTET, STRETCH - 1), OCTET));

/// The product modulo the polynomial. It takes the same steps whatever the factors are.
#[inline(always)]
pub const fn multiply(a: u32, b: u32) -> u32 {
    let (mut a, mut b, mut product) = (a, b, 0);
    let mut step = 0;
    while step < 32 {
        product ^= b & (a >> 31).wrapping_neg();
        a <<= 1;
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        step += 1;
    }
    product
}

const fn power(base: u32, exponent: usize) -> u32 {
    let (mut power, mut done) = (ONE, 0);
    while done < exponent {
        power = multiply(power, base);
        done += 1;
    }
    power
}

const fn powers<const N: usize>(base: u32) -> [u32; N] {
    let (mut powers, mut power) = ([0; N], ONE);
    let mut rest = powers.as_mut_slice();
    while let Some((first, others)) = rest.split_first_mut() {
        *first = power;
        power = multiply(power, base);
        rest = others;
    }
    powers
}

/// What the sum of a packet of `len` octets changes by (exclusive or) when its first four octets do. `change` is the
/// exclusive or of the old and the new ones as they lie in memory.
#[inline(always)]
pub fn change(change: u32, len: usize) -> u32 {
    // Always there: the masks keep to the tables.
    let octets = OCTETS.get(len % STRETCH).copied().unwrap_or(ONE);
    let moved = multiply(change, octets);
    let stretches = len / STRETCH % STRETCHES.len();
    if stretches == 0 {
        return moved;
    }
    multiply(moved, STRETCHES.get(stretches).copied().unwrap_or(ONE))
}

/// The sum over words as they lie in memory.
#[inline(always)]
pub fn sum<const N: usize>(words: &[u32; N]) -> u32 {
    const WORD: u32 = power(OCTET, 4);
    let mut sum = u32::MAX;
    for word in words {
        sum = multiply(sum ^ word, WORD);
    }
    !sum
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "test data is cut to size on purpose")]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    /// Bit by bit, as the standard describes it.
    fn reference(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 }
            })
        })
    }

    #[test]
    fn the_reference_is_the_published_one() {
        assert_eq!(reference(b"123456789"), 0xe306_9283);
        // RFC 3720 appendix B.4: thirty-two zeros, and as many ones.
        assert_eq!(reference(&[0; 32]), 0x8a91_36aa);
        assert_eq!(reference(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn sums_of_words() {
        let words = [0x0102_0304, 0xdead_beef, 0, 0x0400_0006];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        assert_eq!(sum(&words), reference(&bytes));
        assert_eq!(sum(&[0; 8]), 0x8a91_36aa);
    }

    #[test]
    fn a_changed_front_is_what_a_whole_sum_says_at_any_length() {
        for len in (4..600).chain([1499, 1500, 2047, 2048, 2049, 4095, 4096, 9000, 40_961, 65_535])
        {
            let mut bytes: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
            let (before, old) = (reference(&bytes), [bytes[0], bytes[1], bytes[2], bytes[3]]);
            let new = [old[0] ^ 0x5a, old[1], old[2] ^ 1, old[3].wrapping_add(len as u8 | 1)];
            bytes[..4].copy_from_slice(&new);
            let difference = u32::from_le_bytes(old) ^ u32::from_le_bytes(new);
            assert_eq!(before ^ change(difference, len), reference(&bytes), "{len} octets");
        }
    }
}
