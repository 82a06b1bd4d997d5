//! Why a packet was dropped.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $label:literal;)+) => {
        /// Index into [`CpuState::drops`](crate::counter::CpuState::drops). Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum DropReason { $($(#[$doc])* $name = $value,)+ }

        impl DropReason {
            /// All of them, in order.
            pub const ALL: [Self; [$($value),+].len()] = [$(Self::$name),+];

            /// Stable, snake case: a metric label.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

drop_reasons! {
    /// New flow to a service of which no backend has weight. Answered, when the service's policy is to reject.
    NoBackend = 0, "no_backend";
    /// The chosen backend's next hop is not resolved.
    NoNextHop = 1, "no_next_hop";
    /// To an owned VIP's port that no service has. Answered with RST, ABORT or port unreachable.
    NoService = 2, "no_service";
    /// A fragment to an owned VIP.
    Fragment = 3, "fragment";
    /// Headers that do not fit the frame or contradict themselves, to an owned VIP.
    Malformed = 4, "malformed";
    /// TTL or hop limit used up.
    TtlExpired = 5, "ttl_expired";
    /// To an owned VIP, with a transport protocol nobody balances.
    Protocol = 6, "protocol";
    /// To an owned VIP, in a VLAN tag.
    VlanTagged = 7, "vlan_tagged";
    /// ICMP other than echo, to an owned VIP.
    Icmp = 8, "icmp";
    /// From a client outside the service's source ranges.
    SourceRange = 9, "source_range";
    /// New flow under full NAT or NAT64: every source port tried is taken, or the table of such flows is full.
    NatPorts = 10, "nat_ports";
    /// New flow under full NAT or NAT64 that the flow table did not take: without an entry its replies would be lost.
    NatFlow = 11, "nat_flow";
    /// Under NAT64 and not to be translated: a driver without room for the longer header, or a datagram without a sum
    /// (RFC 768's zero) that contradicts its packet.
    Untranslatable = 12, "untranslatable";
    /// A reply under NAT64 that its longer header makes too big for the link. Answered, when it forbids fragmentation.
    TooBig = 13, "too_big";
    /// A new connection whose client has, from the same port, a live one with the same backend through another VIP: the
    /// backend cannot tell them apart, and has gone on with the other one. Answered with RST.
    PortInUse = 14, "port_in_use";
    /// To an owned VIP, from an address that no client has: the VIP's or another VIP's own, loopback, multicast,
    /// broadcast, unspecified, or an IPv4 address mapped into IPv6.
    ImpossibleSource = 15, "impossible_source";
    /// A reply of a flow, on the link of the client, though no way to the backend leads over that link.
    WrongLink = 16, "wrong_link";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{}", reason.name());
        }
    }
}
