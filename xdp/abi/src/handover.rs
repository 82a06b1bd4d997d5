//! NAT64: what the first program, which knows the flow, tells the second, which rewrites the packet.

use crate::flow::FlowKey;

/// Whose packet it is. The rest follows from the packet and the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Handover {
    /// Of a reply: the flow that has its port.
    pub flow: FlowKey,
    /// Of a client's packet: index into `BACKENDS`.
    pub backend: u32,
    /// Of a client's packet: its source port as it is to be.
    pub nat_port_be: u16,
    /// Zero.
    pub reserved: u16,
}
crate::assert_size!(Handover = 48);
