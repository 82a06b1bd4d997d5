//! Maglev lookup tables: which backend a hash of a flow belongs to.
//!
//! The algorithm is the one of Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
//! Balancer", NSDI 2016, section 3.4: each backend has its own permutation of the table's slots and
//! the backends take turns, each claiming the next free slot of its permutation. Weights give turns:
//! the heaviest backend takes one in every round, a backend of half its weight one in every second.
//!
//! Two appliances that know the same backends hold the same table without talking to each other.
//! So turns are taken in the order of the backends' addresses, never in the order of the slice, and
//! the hash behind the permutations is fixed for ever: changing [`stable_hash`], [`Turns::new`] or
//! the order re-spreads every flow of every running pair of appliances at the next upgrade. The
//! golden test at the end of this file guards that.
//!
//! Pure: no clock, no randomness, no IO.

use std::net::{IpAddr, SocketAddr};

use crate::Backend;

/// A slot nobody has claimed yet. Positions are below it: a table has fewer slots than this.
const FREE: u32 = u32::MAX;

/// One backend's turns: its walk through the slots and its credit.
struct Turns {
    /// Position in the caller's slice: what the table holds.
    position: u32,
    /// The slot the walk looks at next.
    next: u32,
    /// Step of the walk, in `1..size`; coprime to a prime size, so the walk visits every slot.
    skip: u32,
    weight: i64,
    /// A turn is due when this reaches zero, and costs the largest weight.
    credit: i64,
}

/// Fills a lookup table of `size` slots with positions into `backends`.
///
/// `size` is a prime below `u32::MAX` ([`is_prime`], checked where the constant is defined) and much
/// larger than the number of backends: shares are exact to about `backends / size`. A backend of
/// weight 0 gets no slot; every other one gets at least one as long as there are slots. Addresses
/// are expected to be unique. When no backend has weight, or `size` is 0, the table is empty.
pub fn fill(backends: &[Backend], size: u32) -> Vec<u32> {
    let mut turns = turns_in_canonical_order(backends, size);
    let heaviest = turns.iter().map(|turn| turn.weight).max().unwrap_or(0);
    if heaviest == 0 || size == 0 {
        return Vec::new();
    }
    let mut table = vec![FREE; size as usize];
    let mut free = size;
    loop {
        for turn in &mut turns {
            turn.credit += turn.weight;
            if turn.credit < 0 {
                continue;
            }
            turn.credit -= heaviest;
            turn.claim(&mut table, size);
            free -= 1;
            if free == 0 {
                return table;
            }
        }
    }
}

/// Whether `size` can be the size of a table: with a prime every skip visits every slot.
pub const fn is_prime(size: u32) -> bool {
    if size < 2 {
        return false;
    }
    let mut divisor = 2;
    while divisor as u64 * divisor as u64 <= size as u64 {
        if size.is_multiple_of(divisor) {
            return false;
        }
        divisor += 1;
    }
    true
}

fn turns_in_canonical_order(backends: &[Backend], size: u32) -> Vec<Turns> {
    let mut order: Vec<(u32, &Backend)> =
        (0..FREE).zip(backends).filter(|(_, backend)| backend.weight > 0).collect();
    order.sort_by_key(|(_, backend)| key_bytes(backend.address));
    order.into_iter().map(|(position, backend)| Turns::new(position, backend, size)).collect()
}

// === impl Turns ===

impl Turns {
    /// Offset and skip as in the paper, from two hashes of the backend's address and port.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of a u32 fits one")]
    fn new(position: u32, backend: &Backend, size: u32) -> Self {
        let key = key_bytes(backend.address);
        let below = |hash: u64, limit: u32| (hash % u64::from(limit.max(1))) as u32;
        Self {
            position,
            next: below(stable_hash(OFFSET_SEED, &key), size),
            skip: 1 + below(stable_hash(SKIP_SEED, &key), size.saturating_sub(1)),
            weight: i64::from(backend.weight),
            credit: 0,
        }
    }

    /// Claims the next free slot of this backend's walk. One exists: the caller counts them.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of a u32 fits one")]
    fn claim(&mut self, table: &mut [u32], size: u32) {
        // One lap is enough for a prime size; the bound keeps any other from hanging the daemon.
        for _ in 0..size {
            let slot = table.get_mut(self.next as usize);
            // Both are below the size, so this is the remainder, without the division that was most of the work.
            let sum = u64::from(self.next) + u64::from(self.skip);
            let size = u64::from(size);
            self.next = (if sum < size { sum } else { sum - size }) as u32;
            if let Some(slot) = slot
                && *slot == FREE
            {
                *slot = self.position;
                return;
            }
        }
        if let Some(slot) = table.iter_mut().find(|slot| **slot == FREE) {
            *slot = self.position;
        }
    }
}

// === the stable hash ===

const OFFSET_SEED: u64 = 0x736c_7569_6365_2d6f; // "sluice-o"
const SKIP_SEED: u64 = 0x736c_7569_6365_2d73; // "sluice-s"

/// A backend's identity as bytes: the address as IPv6 (IPv4 mapped, RFC 4291 section 2.5.5.2), then
/// the port, both in network order. Scope and flow label are no part of it. Also the sort key of
/// the canonical order.
fn key_bytes(address: SocketAddr) -> [u8; 18] {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut key = [0; 18];
    let (head, tail) = key.split_at_mut(16);
    head.copy_from_slice(&ip.octets());
    tail.copy_from_slice(&address.port().to_be_bytes());
    key
}

/// FNV-1a over the key, then the finalizer of SplitMix64; `seed` replaces FNV's offset basis.
///
/// FNV because it is eight lines that will never change under us (a hash from a crate or from std
/// may: std says so about its own). The finalizer because neighbouring addresses differ in their
/// last byte only, and FNV alone leaves their high bits alike. Not keyed on purpose: appliances
/// must agree, and who may name backends is already trusted.
fn stable_hash(seed: u64, key: &[u8]) -> u64 {
    const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash =
        key.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
#[path = "maglev_tests.rs"]
mod tests;
