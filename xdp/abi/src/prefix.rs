//! Lists of client prefixes: who may open flows, and whose source is replaced.
//!
//! Lists are numbered, and all of them lie in one trie of longest prefixes: a key begins with the list's number, so a
//! list is a subtree. The family is part of the key because an IPv4 address, mapped, lies below `::/0` as well.

use crate::address::Address;

/// What a prefix is found by, behind the trie's own length in bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixKey {
    /// Number of the list.
    pub list: u16,
    /// 4 or 6.
    pub family: u16,
    /// The prefix, its host bits zero; an IPv4 prefix comes mapped.
    pub address: Address,
}
crate::assert_size!(PrefixKey = 20);

/// The number that no list has: everybody may, or nobody's source is replaced.
pub const NO_LIST: u16 = 0;

/// Bits in front of the address.
pub const LIST_BITS: u32 = 32;

/// Bits of a whole key: what a lookup asks with.
pub const FULL_BITS: u32 = LIST_BITS + 128;

/// Bits of a mapped IPv4 address in front of its own.
pub const MAPPED_BITS: u32 = 96;

// === impl PrefixKey ===

impl PrefixKey {
    /// For one address in one list.
    #[inline(always)]
    pub const fn new(list: u16, address: Address) -> Self {
        Self { list, family: if address.is_v4() { 4 } else { 6 }, address }
    }
}
