//! One error per public operation.

use nix::errno::Errno;
use std::net::IpAddr;

/// Why one exchange with the kernel did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The kernel answered with an error.
    #[error("the kernel refused the request")]
    Refused(#[source] Errno),
    /// No answer; it was lost because the socket's buffer was full.
    #[error("the kernel did not answer within {timeout_ms} ms")]
    Timeout {
        /// How long it was waited for.
        timeout_ms: u64,
    },
    /// The socket, or the task that drives it, has ended.
    #[error("the netlink socket is closed")]
    Closed,
    /// A dump was interrupted by changes each time it was tried.
    #[error("the kernel's table changed during each of {tries} reads")]
    Interrupted {
        /// How often it was tried.
        tries: u32,
    },
}

/// Why [`crate::Netlink::start`] failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be opened or subscribed.
    #[error("cannot open a NETLINK_ROUTE socket")]
    Open(#[source] std::io::Error),
    /// The first full state could not be read.
    #[error("cannot read links, addresses and neighbours from the kernel")]
    Read(#[source] RequestError),
}

/// Why [`crate::Netlink::vips`] failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VipsError {
    /// The addresses could not be read.
    #[error("cannot read the addresses from the kernel")]
    Read(#[source] RequestError),
}

/// Why [`crate::Netlink::add_vip`] failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddVipError {
    /// The address exists and does not carry our mark.
    #[error("{vip} is already on {link} and is not ours; remove it or choose another VIP")]
    Foreign {
        /// The VIP that was wanted.
        vip: IpAddr,
        /// Name of the interface that has the address.
        link: String,
    },
    /// The kernel took the address and dropped the mark; the address was removed again.
    #[error(
        "this kernel does not keep the owner of an address (IFA_PROTO); Linux 5.18 or newer is needed for {vip}"
    )]
    NoMark {
        /// The VIP that was wanted.
        vip: IpAddr,
    },
    /// The kernel refused the address, or did not answer.
    #[error("cannot add {vip} to lo")]
    Request {
        /// The VIP that was wanted.
        vip: IpAddr,
        /// What the kernel said.
        #[source]
        source: RequestError,
    },
}

/// Why [`crate::Netlink::remove_vip`] failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoveVipError {
    /// The address on `lo` does not carry our mark, so it was left alone.
    #[error("{vip} on lo is not ours and was not removed")]
    Foreign {
        /// The VIP that was to be removed.
        vip: IpAddr,
    },
    /// The kernel refused the removal, or did not answer.
    #[error("cannot remove {vip} from lo")]
    Request {
        /// The VIP that was to be removed.
        vip: IpAddr,
        /// What the kernel said.
        #[source]
        source: RequestError,
    },
}

/// Why [`crate::Netlink::address_for`] failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressForError {
    /// The route could not be asked for.
    #[error("cannot ask the kernel for the route to {destination}")]
    Request {
        /// The destination asked for.
        destination: IpAddr,
        /// What the kernel said.
        #[source]
        source: RequestError,
    },
}
