//! Flows: the table both directions share, and the cache in front of it.

use crate::address::Address;

/// Where a frame goes. An interface index of 0 means nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NextHop {
    /// Egress interface.
    pub link_index: u32,
    /// Destination, then source MAC, as the first twelve octets of the frame lie in memory.
    pub macs: [u32; 3],
}
crate::assert_size!(NextHop = 16);

/// A flow, named by what the client sent. Replies are found under the same key: the map `ENDPOINTS`
/// tells the services of the endpoint that a reply comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// The client.
    pub client: Address,
    /// The VIP.
    pub vip: Address,
    /// The client's port.
    pub client_port_be: u16,
    /// The VIP's port.
    pub vip_port_be: u16,
    /// IP protocol number.
    pub protocol: u32,
}
crate::assert_size!(FlowKey = 40);

/// What is remembered of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// Last refresh, CLOCK_MONOTONIC_COARSE. Up to [`REFRESH_MS`](crate::limits::REFRESH_MS) behind the last packet.
    pub last_seen_ns: u64,
    /// First packet, same clock.
    pub created_ns: u64,
    /// Index into `BACKENDS`.
    pub backend: u32,
    /// The generation of that backend when it was chosen; another one there means it vanished.
    pub backend_generation: u32,
    /// Idle time-out of the service when the flow began.
    pub idle_timeout_s: u32,
    /// A [`FlowState`].
    pub state: u16,
    /// What was seen of both sides, see [`life`](crate::life).
    pub seen: u16,
    /// Where the client's packets come from: the way back when routing knows none.
    pub last_hop: NextHop,
    /// The source port its backend sees, with the VIP or the source of NAT64; 0 when it sees the client itself.
    pub nat_port_be: u16,
    /// The list of source ranges that let the flow in; it is checked again when its service has another.
    pub source_list: u16,
    /// Of TCP. While the flow is opening: what the client has to acknowledge; later where the client is in its own
    /// sequence, as of the last visit to the table.
    pub sequence: u32,
}
crate::assert_size!(Flow = 56);

/// How far a flow is, which decides its time-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FlowState {
    /// TCP, only SYNs seen from the client; SCTP, only INITs.
    Opening = 0,
    /// Everything else.
    Established = 1,
    /// TCP, a FIN seen from both sides or a RST that may be true; SCTP, an ABORT or SHUTDOWN COMPLETE.
    Closing = 2,
}

/// What is done with a packet of a known flow, besides its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Action {
    /// The low half of the tick when the flow table was last visited.
    pub refreshed_tick: u32,
    /// Index into `TRAFFIC`, of this CPU.
    pub traffic_index: u32,
    /// The frame's way.
    pub next_hop: NextHop,
    /// Source and destination port as they are to lie in the packet. Both are written even where one stays: a store is
    /// cheaper than asking which.
    pub ports: u32,
    /// Folded change of the IPv4 header's sum, decremented TTL included.
    pub l3_delta: u16,
    /// Folded change of the transport's sum.
    pub l4_delta: u16,
    /// A [`Direction`].
    pub direction: u32,
    /// Zero.
    pub reserved: u32,
}
crate::assert_size!(Action = 40);

/// An IPv4 flow as one CPU remembers it, in one direction: everything needed to send a packet on. One cache line, since
/// with many flows the memory is what a packet waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CacheEntryV4 {
    /// The packet's source address, as it lies there.
    pub source: u32,
    /// The packet's destination address.
    pub destination: u32,
    /// Source and destination port, as they lie in the packet.
    pub ports: u32,
    /// See [`cache_tag`].
    pub tag: u32,
    /// What is done.
    pub action: Action,
    /// Source and destination address as they are to lie in the packet.
    pub addresses: [u32; 2],
}
crate::assert_size!(CacheEntryV4 = 64);

/// As [`CacheEntryV4`], for IPv6: the first line decides, the second rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct CacheEntryV6 {
    /// The packet's source address, see [`pair`](crate::hash::pair).
    pub source: [u64; 2],
    /// The packet's destination address.
    pub destination: [u64; 2],
    /// Source and destination port, as they lie in the packet.
    pub ports: u32,
    /// See [`cache_tag`].
    pub tag: u32,
    /// What is done.
    pub action: Action,
    /// Source and destination address as they are to lie in the packet.
    pub addresses: [[u64; 2]; 2],
    /// Zero.
    pub reserved: [u64; 2],
}
crate::assert_size!(CacheEntryV6 = 128);

/// Which way a packet of a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// From a client.
    ToBackend = 0,
    /// From a backend.
    ToClient = 1,
}

/// Protocol and epoch in one word, so that one compare also rejects what an older epoch left. The epoch's low 24 bits
/// count, and never are 0, which is what an empty entry has.
#[inline(always)]
pub const fn cache_tag(protocol: u8, epoch: u32) -> u32 {
    protocol as u32 | epoch << 8
}

/// The epoch after `epoch`: 24 bits, never 0.
pub const fn next_epoch(epoch: u32) -> u32 {
    let next = (epoch + 1) & 0x00ff_ffff;
    if next == 0 { 1 } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_skip_zero() {
        assert_eq!(next_epoch(1), 2);
        assert_eq!(next_epoch(0x00ff_ffff), 1);
        assert_ne!(cache_tag(0, next_epoch(0)), 0);
    }
}
