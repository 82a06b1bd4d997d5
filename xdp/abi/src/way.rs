//! Ways: where packets to a client leave, by the client's address. What the kernel's routes say, written ahead of traffic.
//!
//! A way is found under a [`PrefixKey`](crate::prefix::PrefixKey) of the list [`WAYS_LIST`].

use crate::limits::MAX_HOPS_PER_WAY;

/// The list number in the keys of ways, which lie in a trie of their own.
pub const WAYS_LIST: u16 = 0;

/// What is known of the destinations of one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Way {
    /// A [`WayKind`].
    pub kind: u16,
    /// How many of `hops` count.
    pub count: u16,
    /// Of [`WayKind::Link`]: the link.
    pub link_index: u32,
    /// Of [`WayKind::Routers`]: indexes into `ROUTERS`.
    pub hops: [u16; MAX_HOPS_PER_WAY],
}
crate::assert_size!(Way = 24);

/// What a way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum WayKind {
    /// No usable route, or one that cannot be followed here.
    Unknown = 0,
    /// An address of this host.
    Local = 1,
    /// A network of a link of this host: each destination is its own neighbour.
    Link = 2,
    /// Through one of some routers.
    Routers = 3,
}
