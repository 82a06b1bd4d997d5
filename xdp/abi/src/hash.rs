//! The hash of a flow: which backend, and which cache slot.

use crate::address::Address;

/// Odd constants with evenly spread bits (the golden ratio, and the multipliers of SplitMix64).
const K1: u64 = 0x9e37_79b9_7f4a_7c15;
const K2: u64 = 0xbf58_476d_1ce4_e5b9;
const K3: u64 = 0x94d0_49bb_1331_11eb;

/// Hash of a packet's addresses and ports. `ports` is source and destination port as they lie in the packet.
///
/// It has no key: any two appliances must choose the same backend for a flow (an attacker who aims at one backend can
/// as well address it by trying). Changing it re-spreads every flow of every running pair of appliances.
#[inline(always)]
pub const fn flow_hash(source: &[u64; 2], destination: &[u64; 2], ports: u32, protocol: u8) -> u64 {
    let [s0, s1] = *source;
    let [d0, d1] = *destination;
    // Two independent multiplies first, so that they overlap.
    let a = (s1 ^ s0.rotate_left(29) ^ d0.rotate_left(43)).wrapping_mul(K1);
    let b = (d1 ^ ((ports as u64) << 8) ^ protocol as u64).wrapping_mul(K2);
    let mut hash = a ^ b.rotate_left(31);
    hash = (hash ^ (hash >> 32)).wrapping_mul(K3);
    hash ^ (hash >> 29)
}

/// An address as the two words that [`flow_hash`] takes.
#[inline(always)]
pub const fn pair(address: &Address) -> [u64; 2] {
    let [a, b, c, d] = address.words;
    // As one load of eight bytes sees it on a little endian machine, the only kind there is here.
    [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32]
}

/// The inverse of [`pair`].
#[inline(always)]
pub const fn unpair(pair: &[u64; 2]) -> Address {
    let [a, b] = *pair;
    Address { words: [low(a), low(a >> 32), low(b), low(b >> 32)] }
}

/// The low half of a number.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "that is the point")]
const fn low(number: u64) -> u32 {
    number as u32
}

/// A slot of `0..slots` from the hash's upper half (the cache takes the lower).
#[inline(always)]
pub const fn slot(hash: u64, slots: u32) -> u32 {
    low(((hash >> 32) * slots as u64) >> 32)
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "test data is cut to size on purpose")]
mod tests {
    use super::*;

    #[test]
    fn neighbours_spread_over_slots_and_cache() {
        let vip = pair(&Address::v4([203, 0, 113, 10]));
        let (mut slots, mut cache) = ([0u32; 64], [0u32; 64]);
        let flows = 64 * 200u32;
        for n in 0..flows {
            let client = pair(&Address::v4([192, 168, (n >> 12) as u8, (n >> 4) as u8]));
            let ports =
                u32::from(u16::to_be(40_000 + (n as u16 & 15))) | u32::from(80u16.to_be()) << 16;
            let hash = flow_hash(&client, &vip, ports, 6);
            slots[slot(hash, 64) as usize] += 1;
            cache[(hash & 63) as usize] += 1;
        }
        for count in slots.into_iter().chain(cache) {
            assert!((130..270).contains(&count), "{count} flows where 200 are fair");
        }
    }

    #[test]
    fn the_hash_never_changes() {
        let hash = flow_hash(&[1, 2], &[3, 4], 5, 6);
        assert_eq!(hash, GOLDEN, "{hash:#x}");
    }
    const GOLDEN: u64 = 0xfe2e_dfab_dfa0_03d0;

    #[test]
    fn pairs_come_back() {
        let address = Address::v6(core::array::from_fn(|i| i as u8));
        assert_eq!(unpair(&pair(&address)), address);
    }
}
