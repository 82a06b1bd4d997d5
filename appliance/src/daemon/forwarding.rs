//! Whether the kernel forwards: only then does it tell the data plane the way to a client.

use std::io::ErrorKind;

const SETTINGS: [&str; 2] =
    ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

/// In both families, of those that this host has.
pub(super) fn is_on() -> bool {
    SETTINGS.iter().all(|path| match std::fs::read_to_string(path) {
        Ok(value) => value.trim() != "0",
        Err(error) => error.kind() == ErrorKind::NotFound,
    })
}
