//! What the bench programs and the user space that steers them share; both sides include this file.

/// Bytes of the frame template: enough for Ethernet, IPv6 and TCP.
pub const FRAME_BYTES: usize = 80;

/// One experiment: the frame to send, how to make flow `n` of it, and what must arrive.
///
/// Sums are ones' complement sums (RFC 1071) in host order over everything the checksum covers
/// except the client's address and port, which the programs fill in.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Script {
    /// The frame, client address low bits, client port and checksums zero.
    pub frame: [u64; FRAME_BYTES / 8],
    /// Packets after which flow numbers start again; 0: every packet is a new flow.
    pub flows: u64,
    /// Low 32 bits of the client address of flow 0, host order.
    pub client: u32,
    /// 4 or 6.
    pub family: u32,
    /// Sum of the IPv4 header.
    pub ip_sum: u32,
    /// Sum of pseudo header, transport header and payload.
    pub transport_sum: u32,
    /// Where the transport checksum is in the frame.
    pub transport_sum_offset: u32,
    /// Where the generator redirects to.
    pub out_link_index: u32,
    /// Where the stand-in device redirects to.
    pub limit_link_index: u32,
    /// What the sink expects: IPv4 destination as it is in the packet, read as one word.
    pub wanted_destination: u32,
    /// And the destination port, likewise.
    pub wanted_port: u32,
    /// The stand-in device writes this Ethernet header: destination, source, as in the frame.
    pub out_macs: [u16; 6],
}

/// What the sink saw.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Frames for the wanted destination.
    pub right: u64,
    /// Everything else.
    pub wrong: u64,
}

const _: () = assert!(size_of::<Script>() == 80 + 8 + 9 * 4 + 12);
