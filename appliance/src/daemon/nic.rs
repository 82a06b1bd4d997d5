//! Whether a NIC has enough queues for XDP.
//!
//! What XDP sends leaves by a queue of its own for each CPU. Where there are fewer queues, CPUs share them under a lock,
//! or the driver refuses to send at all.

use sluice_netlink::Link;

/// virtio_net gives XDP queues beyond those of the stack: all that it uses, and one for each CPU there may ever be, must
/// fit (`virtnet_xdp_set`). Other drivers lay them beside those that they have.
const VIRTIO: &str = "virtio_net";

/// The NIC behind a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nic {
    /// Name of the driver.
    pub(super) driver: String,
    /// Queues that there should be.
    pub(super) queues_wanted: u32,
}

/// Processors of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cpus {
    online: u32,
    /// Those that could be plugged in too.
    possible: u32,
}

// === impl Nic ===

impl Nic {
    /// Of this link; `None` for links that are no NIC's.
    pub(super) fn of(link: &Link) -> Option<Self> {
        let driver = link.device.as_ref()?.driver()?;
        let queues_wanted = wanted(&driver, Cpus::read()?);
        Some(Nic { driver, queues_wanted })
    }
}

fn wanted(driver: &str, cpus: Cpus) -> u32 {
    if driver == VIRTIO { cpus.online.saturating_add(cpus.possible) } else { cpus.online }
}

// === impl Cpus ===

impl Cpus {
    /// Not what this process may use: packets are handled by all of them.
    fn read() -> Option<Self> {
        let count = |name: &str| {
            let list = std::fs::read_to_string(format!("/sys/devices/system/cpu/{name}")).ok()?;
            count(&list)
        };
        Some(Cpus { online: count("online")?, possible: count("possible")? })
    }
}

/// How many are in a list like `0-3,6`.
fn count(list: &str) -> Option<u32> {
    list.trim().split(',').try_fold(0_u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        for (list, expected) in [
            ("0\n", Some(1)),
            ("0-3\n", Some(4)),
            ("0-1,4,6-7", Some(5)),
            ("\n", None),
            ("3-0", None),
            ("0-x", None),
        ] {
            assert_eq!(count(list), expected, "{list:?}");
        }
    }

    #[test]
    fn virtio_wants_queues_beside_those_of_the_stack() {
        let cpus = Cpus { online: 2, possible: 2 };
        assert_eq!(wanted("virtio_net", cpus), 4);
        assert_eq!(wanted("virtio_net", Cpus { possible: 8, ..cpus }), 10);
        assert_eq!(wanted("mlx5_core", cpus), 2);
    }
}
