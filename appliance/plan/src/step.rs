//! One change to the world: what it does, and when it may be done.

use ipnet::IpNet;
use sluice_model::{Frontend, Observed, Program, RouteAttributes};
use std::fmt;
use std::net::IpAddr;

/// One change to the kernel or to what the routers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Tell the routers that a prefix is gone.
    Withdraw(IpNet),
    /// Make the data plane balance a frontend in this way.
    PutProgram(Frontend, Program),
    /// Keep the kernel's own stack silent for a VIP.
    GuardVip(IpAddr),
    /// Make a VIP an address of this host.
    AddVip(IpAddr),
    /// Tell the routers of a prefix.
    Announce(IpNet, RouteAttributes),
    /// Stop balancing a frontend.
    RemoveProgram(Frontend),
    /// Take a VIP off this host.
    RemoveVip(IpAddr),
    /// Let the kernel's stack have the address again.
    UnguardVip(IpAddr),
}

/// Why a step must wait: an earlier one has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The data plane sees no packets.
    NotAttached,
    /// No frontend of the VIP has a usable backend in the data plane.
    NotProgrammed(IpAddr),
    /// The kernel's stack would answer for the VIP.
    NotGuarded(IpAddr),
    /// The VIP is not an address of this host.
    NotOnHost(IpAddr),
    /// The VIP is still announced.
    StillAnnounced(IpAddr),
    /// The VIP is still an address of this host.
    StillOnHost(IpAddr),
    /// The host has the address for itself: what is sent to it is not ours.
    IsHosts(IpAddr),
}

// === impl Step ===

impl Step {
    /// The VIP the step is about.
    pub fn vip(&self) -> IpAddr {
        match self {
            Step::Withdraw(prefix) | Step::Announce(prefix, _) => prefix.addr(),
            Step::PutProgram(frontend, _) | Step::RemoveProgram(frontend) => frontend.vip,
            Step::GuardVip(vip)
            | Step::AddVip(vip)
            | Step::RemoveVip(vip)
            | Step::UnguardVip(vip) => *vip,
        }
    }

    /// The frontend the step is about, when it is about one.
    pub fn frontend(&self) -> Option<&Frontend> {
        match self {
            Step::PutProgram(frontend, _) | Step::RemoveProgram(frontend) => Some(frontend),
            Step::Withdraw(_)
            | Step::Announce(..)
            | Step::GuardVip(_)
            | Step::AddVip(_)
            | Step::RemoveVip(_)
            | Step::UnguardVip(_) => None,
        }
    }

    /// True when the step changes what the routers are told.
    pub fn is_route(&self) -> bool {
        matches!(self, Step::Withdraw(_) | Step::Announce(..))
    }

    /// Whether the rules of order permit the step in this state of the world.
    ///
    /// # Errors
    /// With what is missing; the step's turn comes when that has succeeded.
    pub fn allowed(&self, now: &Observed) -> Result<(), Blocked> {
        let vip = self.vip();
        let announced = now.announces(vip);
        match self {
            Step::GuardVip(_) | Step::AddVip(_) | Step::PutProgram(..) if now.is_host(vip) => {
                Err(Blocked::IsHosts(vip))
            }
            Step::Withdraw(_) | Step::GuardVip(_) => Ok(()),
            Step::AddVip(_) if !now.guarded.contains(&vip) => Err(Blocked::NotGuarded(vip)),
            Step::AddVip(_) => Ok(()),
            Step::PutProgram(..) if !now.addresses.contains(&vip) => Err(Blocked::NotOnHost(vip)),
            Step::PutProgram(frontend, program) => {
                let empties = !program.serves() && !serves_elsewhere(now, frontend);
                if announced && empties { Err(Blocked::StillAnnounced(vip)) } else { Ok(()) }
            }
            Step::RemoveProgram(frontend) => {
                let empties = !serves_elsewhere(now, frontend);
                if announced && empties { Err(Blocked::StillAnnounced(vip)) } else { Ok(()) }
            }
            Step::Announce(..) if !now.attached => Err(Blocked::NotAttached),
            Step::Announce(..) if !now.serves(vip) => Err(Blocked::NotProgrammed(vip)),
            Step::Announce(..) if !now.guarded.contains(&vip) => Err(Blocked::NotGuarded(vip)),
            Step::Announce(..) if !now.addresses.contains(&vip) => Err(Blocked::NotOnHost(vip)),
            Step::Announce(..) => Ok(()),
            Step::RemoveVip(_) | Step::UnguardVip(_) if announced => {
                Err(Blocked::StillAnnounced(vip))
            }
            // What the host has for itself is not to wait: nobody reaches the host there while it is guarded.
            Step::UnguardVip(_) if now.addresses.contains(&vip) && !now.is_host(vip) => {
                Err(Blocked::StillOnHost(vip))
            }
            Step::RemoveVip(_) | Step::UnguardVip(_) => Ok(()),
        }
    }

    /// The step's effect on the world, once it has succeeded.
    pub fn apply(&self, world: &mut Observed) {
        match self {
            Step::Withdraw(prefix) => {
                world.announced.remove(prefix);
            }
            Step::PutProgram(frontend, program) => {
                world.programs.insert(*frontend, program.clone());
            }
            Step::GuardVip(vip) => {
                world.guarded.insert(*vip);
            }
            Step::AddVip(vip) => {
                world.addresses.insert(*vip);
            }
            Step::Announce(prefix, attributes) => {
                world.announced.insert(*prefix, attributes.clone());
            }
            Step::RemoveProgram(frontend) => {
                world.programs.remove(frontend);
            }
            Step::RemoveVip(vip) => {
                world.addresses.remove(vip);
            }
            Step::UnguardVip(vip) => {
                world.guarded.remove(vip);
            }
        }
    }
}

/// True when the VIP finds backends through another frontend than this one.
fn serves_elsewhere(now: &Observed, frontend: &Frontend) -> bool {
    now.programs
        .range(Frontend::all_of(frontend.vip))
        .any(|(other, program)| other != frontend && program.serves())
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Withdraw(prefix) => write!(f, "withdraw {prefix}"),
            Step::PutProgram(frontend, program) => {
                write!(f, "program {frontend} with {} backends", program.backends.len())
            }
            Step::GuardVip(vip) => write!(f, "guard {vip}"),
            Step::AddVip(vip) => write!(f, "add address {vip}"),
            Step::Announce(prefix, _) => write!(f, "announce {prefix}"),
            Step::RemoveProgram(frontend) => write!(f, "remove the program of {frontend}"),
            Step::RemoveVip(vip) => write!(f, "remove address {vip}"),
            Step::UnguardVip(vip) => write!(f, "stop guarding {vip}"),
        }
    }
}

// === impl Blocked ===

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocked::NotAttached => f.write_str("the data plane is attached to no link"),
            Blocked::NotProgrammed(vip) => write!(f, "no frontend of {vip} is programmed"),
            Blocked::NotGuarded(vip) => write!(f, "{vip} is not guarded in the data plane"),
            Blocked::NotOnHost(vip) => write!(f, "{vip} is not an address of this host"),
            Blocked::StillAnnounced(vip) => write!(f, "{vip} is still announced"),
            Blocked::StillOnHost(vip) => write!(f, "{vip} is still an address of this host"),
            Blocked::IsHosts(vip) => write!(f, "this host has {vip} for itself"),
        }
    }
}
