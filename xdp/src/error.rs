//! One error type per operation. Causes are in `source()`, not in the text.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use sluice_xdp_abi::limits;

/// The kernel refused an access to a map.
#[derive(Debug, thiserror::Error)]
#[error("cannot access the map {map}")]
pub struct MapFailure {
    /// Its name.
    pub map: &'static str,
    /// Why.
    #[source]
    pub source: Box<aya::maps::MapError>,
}

/// Something about the pin directory.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// `pin_dir` has no parent to mount a bpffs at.
    #[error("the pin directory {0} must be an absolute path below a bpffs")]
    NoParent(PathBuf),
    /// Not root, or no such directory.
    #[error("cannot use {path}")]
    Io {
        /// Of the file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Not root, or a kernel without BPF.
    #[error("cannot mount a bpffs at {path}")]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// [`DataPlane::open`](crate::DataPlane::open) failed; nothing is attached that was not before.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The pin directory.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The object did not parse, or a map could not be made.
    #[error("cannot load the kernel program's object")]
    Object(#[source] Box<aya::EbpfError>),
    /// The verifier, or a missing privilege.
    #[error("the kernel does not take the program `{name}`")]
    Program {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The program could not be pinned.
    #[error("cannot pin the program at {path}")]
    PinProgram {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<aya::pin::PinError>,
    },
    /// The object built into this program lacks something; a mistake in the build.
    #[error("the kernel program's object has no {0}")]
    Incomplete(&'static str),
    /// The number of CPUs is unknown.
    #[error("cannot count CPUs")]
    Cpus(#[source] io::Error),
    /// A map of ours.
    #[error(transparent)]
    Map(#[from] MapFailure),
}

/// [`DataPlane::attach`](crate::DataPlane::attach) failed; the link is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no link with this index.
    #[error("there is no link with index {0}")]
    NoSuchLink(u32),
    /// Another program sits there.
    #[error("link {0} has another XDP program attached")]
    Busy(u32),
    /// [`limits::MAX_LINKS`] are attached.
    #[error("more than {} links", limits::MAX_LINKS)]
    TooManyLinks,
    /// The driver or the kernel says no.
    #[error("cannot attach to link {link_index}")]
    Kernel {
        /// The link.
        link_index: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The attachment could not be made to outlive the process.
    #[error("cannot pin the attachment of link {link_index}")]
    Pin {
        /// The link.
        link_index: u32,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map of ours.
    #[error(transparent)]
    Map(#[from] MapFailure),
}

/// [`DataPlane::detach`](crate::DataPlane::detach) failed.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// The pin stays, and with it the attachment.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map of ours.
    #[error(transparent)]
    Map(#[from] MapFailure),
}

/// Reading or changing the owned VIPs failed.
#[derive(Debug, thiserror::Error)]
pub enum VipError {
    /// [`limits::MAX_VIPS`] are owned.
    #[error("more than {} VIPs", limits::MAX_VIPS)]
    TooMany,
    /// A map of ours.
    #[error(transparent)]
    Map(#[from] MapFailure),
}

/// Reading or changing a frontend's program failed. A frontend whose change failed goes on with its old program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// [`limits::MAX_SERVICES`] are programmed.
    #[error("more than {} frontends (VIP, port, protocol)", limits::MAX_SERVICES)]
    TooManyFrontends,
    /// [`limits::MAX_BACKENDS`] are in use.
    #[error("more than {} backends over all frontends", limits::MAX_BACKENDS - 1)]
    TooManyBackends,
    /// [`limits::MAX_BACKENDS_PER_SERVICE`] have weight.
    #[error("more than {} backends with weight in one frontend", limits::MAX_BACKENDS_PER_SERVICE)]
    TooManyBackendsPerFrontend,
    /// [`limits::MAX_SERVICES_PER_ENDPOINT`] share this one.
    #[error("more than {limit} frontends share the backend {0}", limit = limits::MAX_SERVICES_PER_ENDPOINT)]
    EndpointShared(SocketAddr),
    /// [`limits::MAX_PREFIXES`] are in use.
    #[error(
        "more than {} prefixes in the source ranges and full NAT lists of all frontends, equal lists counted once",
        limits::MAX_PREFIXES
    )]
    TooManyPrefixes,
    /// An IPv4 VIP with an IPv6 backend.
    #[error("the backend {backend} is not of the family of the VIP {vip}")]
    FamilyMismatch {
        /// The VIP.
        vip: IpAddr,
        /// The backend.
        backend: SocketAddr,
    },
    /// An IPv6 VIP with an IPv4 backend, and no address to send from.
    #[error(
        "the VIP {vip} has the IPv4 backend {backend}, and there is no source address for NAT64"
    )]
    NoNat64Source {
        /// The VIP.
        vip: IpAddr,
        /// The backend.
        backend: SocketAddr,
    },
    /// A map of ours.
    #[error(transparent)]
    Map(#[from] MapFailure),
}

/// [`DataPlane::set_next_hops`](crate::DataPlane::set_next_hops) failed; some may be set.
#[derive(Debug, thiserror::Error)]
pub enum NextHopError {
    /// A map of ours.
    #[error(transparent)]
    Map(#[from] MapFailure),
}

/// [`DataPlane::snapshot`](crate::DataPlane::snapshot) failed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A map of ours.
    #[error(transparent)]
    Map(#[from] MapFailure),
}

/// [`DataPlane::sweep`](crate::DataPlane::sweep) failed; some flows may be expired.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The flow table could not be read, or what is over not be removed.
    #[error("cannot sweep the flow table")]
    Table(#[source] io::Error),
    /// The clock could not be read.
    #[error("cannot read the clock")]
    Clock(#[source] io::Error),
    /// A map of ours.
    #[error(transparent)]
    Map(#[from] MapFailure),
}

/// [`DataPlane::remove`](crate::DataPlane::remove) failed; what could not be removed is still there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// A pin.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It may pass by itself.
    Soon,
    /// Only when something else is freed first.
    WhenFreed,
    /// Only when something else is asked for.
    Never,
}

// === impl MapFailure ===

impl MapFailure {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self.source.as_ref());
        while let Some(error) = cause {
            let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            // A map that is full says E2BIG (hash) or ENOSPC (LPM trie).
            if matches!(code, Some(libc::E2BIG | libc::ENOSPC)) {
                return Retry::WhenFreed;
            }
            cause = error.source();
        }
        Retry::Soon
    }
}

// === impl VipError ===

impl VipError {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            VipError::TooMany => Retry::WhenFreed,
            VipError::Map(failure) => failure.retry(),
        }
    }
}

// === impl ProgramError ===

impl ProgramError {
    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        match self {
            ProgramError::TooManyFrontends
            | ProgramError::TooManyBackends
            | ProgramError::EndpointShared(_)
            | ProgramError::TooManyPrefixes => Retry::WhenFreed,
            ProgramError::TooManyBackendsPerFrontend
            | ProgramError::FamilyMismatch { .. }
            | ProgramError::NoNat64Source { .. } => Retry::Never,
            ProgramError::Map(failure) => failure.retry(),
        }
    }
}
