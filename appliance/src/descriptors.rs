//! Descriptors: how many this process may have, and who may use how many of them.
//!
//! The API gets a share that leaves the greater part to probes, BGP, netlink and the data plane, however few there are.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What is assumed where the system does not say: the soft limit of every Linux.
const ASSUMED: u64 = 1024;
/// One part in so many is for connections to the API, over both listeners.
const API_SHARE: u64 = 4;
/// More connections are of no use to an API of bridges, monitors and browsers; each costs some 50 KiB under TLS.
const MOST_FOR_API: u64 = 2048;
/// One part in so many is for probes under way. The last quarter is for BGP, netlink, maps, links and files.
const PROBE_SHARE: u64 = 2;

/// Raises the soft limit to the hard one: the soft one of 1,024 is there for programs that use `select`.
pub(crate) fn raise() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of descriptors stays");
    }
}

/// Connections to the API.
pub(crate) fn api() -> usize {
    share((limit() / API_SHARE).min(MOST_FOR_API))
}

/// Probes under way.
pub(crate) fn probes() -> usize {
    // A semaphore takes fewer than `usize::MAX`; no machine has as many ports.
    share((limit() / PROBE_SHARE).min(u64::from(u16::MAX)))
}

fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(ASSUMED, |(soft, _)| soft)
}

fn share(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX).max(1)
}
