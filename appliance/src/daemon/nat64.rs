//! What NAT64 needs of the host: nobody else can be asked, and without it some flows fail for no visible reason.

use sluice_xdp::MAX_NAT64_PORT;
use std::net::{Ipv4Addr, UdpSocket};

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Says in the log what is in the way.
pub(super) fn warn(source: Ipv4Addr) {
    let range = std::fs::read_to_string(PORT_RANGE).unwrap_or_default();
    for trouble in [foreign(source), overlap(&range)].into_iter().flatten() {
        tracing::warn!("NAT64 from {source}: {trouble}");
    }
}

/// Only an address of this host can be bound to.
fn foreign(source: Ipv4Addr) -> Option<String> {
    let bound = UdpSocket::bind((source, 0));
    bound.err().map(|error| {
        format!("not an address of this host ({error}); backends may not find the way back")
    })
}

/// Replies to the host's own connections and to clients' ones are told apart by their ports.
fn overlap(range: &str) -> Option<String> {
    let lowest: u16 = range.split_whitespace().next()?.parse().ok()?;
    (lowest <= MAX_NAT64_PORT).then(|| {
        format!(
            "net.ipv4.ip_local_port_range begins at {lowest}, and ports up to {MAX_NAT64_PORT} are the clients'; health \
             checks may fail now and then"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_overlaps_is_a_trouble() {
        assert_eq!(overlap("32768\t60999\n"), None);
        assert_eq!(overlap(""), None, "nothing is known");
        assert!(overlap("1024\t65535\n").is_some_and(|why| why.contains("1024")));
        assert!(overlap("32767 60999").is_some());
    }

    #[test]
    fn an_address_of_others_is_a_trouble() {
        assert_eq!(foreign(Ipv4Addr::LOCALHOST), None);
        assert!(foreign(Ipv4Addr::new(192, 0, 2, 1)).is_some());
    }
}
