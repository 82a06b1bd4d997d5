//! Whether a client is in a list of prefixes.

use aya_ebpf::btf_maps::lpm_trie::Key;
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::prefix::{FULL_BITS, PrefixKey};

use crate::maps::PREFIXES;

/// Asked for a flow's first packet, and again when its service has another list; never for a cached packet.
#[inline(always)]
pub fn contains(list: u16, client: &Address) -> bool {
    PREFIXES.get(&Key::new(FULL_BITS, PrefixKey::new(list, *client))).is_some()
}
