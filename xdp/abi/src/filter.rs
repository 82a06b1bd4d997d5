//! What is certainly not ours, in one look.
//!
//! Most packets of a router are not the load balancer's. Two bit sets, hashed by address, say "never heard of it" for
//! the destination (is it a VIP?) and the source (is it a backend?), so such a packet costs no hash map lookup. A bit
//! that is set proves nothing.

use crate::address::Address;

/// Bits per set; a thousand addresses make one foreign packet in sixteen look further.
pub const FILTER_BITS: u32 = 16_384;
const WORDS: usize = FILTER_BITS as usize / 64;

/// Both sets; 4 KiB, which stay in the first-level cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Filter {
    /// Addresses that may be VIPs.
    pub vips: [u64; WORDS],
    /// Addresses that may be backends.
    pub backends: [u64; WORDS],
}
crate::assert_size!(Filter = 4096);

/// Word and bit of an address.
#[inline(always)]
const fn position(address: &Address) -> (usize, u64) {
    let [a, b, c, d] = address.words;
    let folded = (a ^ c) ^ (b ^ d).rotate_left(7);
    // Knuth's multiplicative hash: neighbours in the last octet land far apart; the top bits are the good ones.
    let bit = folded.wrapping_mul(0x9e37_79b1) >> (32 - FILTER_BITS.trailing_zeros());
    ((bit / 64) as usize, 1 << (bit % 64))
}

// === impl Filter ===

impl Filter {
    /// Nothing is ours.
    pub const EMPTY: Self = Self { vips: [0; WORDS], backends: [0; WORDS] };

    /// False for what is certainly no VIP.
    #[inline(always)]
    pub fn may_have_vip(&self, address: &Address) -> bool {
        is_set(&self.vips, address)
    }

    /// False for what is certainly no backend.
    #[inline(always)]
    pub fn may_have_backend(&self, address: &Address) -> bool {
        is_set(&self.backends, address)
    }

    /// Sets a VIP's bit.
    pub fn add_vip(&mut self, address: &Address) {
        add(&mut self.vips, address);
    }

    /// Sets a backend's bit.
    pub fn add_backend(&mut self, address: &Address) {
        add(&mut self.backends, address);
    }
}

#[inline(always)]
fn is_set(set: &[u64; WORDS], address: &Address) -> bool {
    let (word, bit) = position(address);
    set.get(word).is_some_and(|word| word & bit != 0)
}

fn add(set: &mut [u64; WORDS], address: &Address) {
    let (word, bit) = position(address);
    if let Some(word) = set.get_mut(word) {
        *word |= bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_in_range_and_spread() {
        let mut filter = Filter::EMPTY;
        for last in 0..=255 {
            let address = Address::v4([10, 1, 0, last]);
            assert!(position(&address).0 < WORDS);
            filter.add_backend(&address);
            assert!(filter.may_have_backend(&address) && !filter.may_have_vip(&address));
        }
        let bits: u32 = filter.backends.iter().map(|word| word.count_ones()).sum();
        assert!(bits > 240, "{bits} bits for 256 neighbours");
        assert_eq!(filter.vips, Filter::EMPTY.vips);
    }
}
