//! The decision: desired × observed × health → ordered steps. Pure; nothing here waits, reads a clock or does IO.
//!
//! The rules of order live here and nowhere else:
//! - a VIP is announced only while the data plane is attached, some frontend of the VIP is programmed with a backend,
//!   the data plane guards it against the kernel's own stack, and the host has the address;
//! - a VIP is guarded before it becomes an address of the host, and until after it has ceased to be one; what the host
//!   has for itself is never guarded;
//! - a frontend is programmed once the host has its VIP, and no longer than that: packets for an address that could not be
//!   had are not ours;
//! - what is announced is withdrawn before anything it rests on is taken away.
//!
//! [`plan`] puts steps in an order that keeps the rules when every step succeeds; [`Step::allowed`] lets the
//! executor keep them when some fail.

mod excess;
mod refused;
mod step;
mod wanted;

pub use excess::Excess;
pub use refused::Refused;
pub use step::{Blocked, Step};
pub use wanted::{RouteDisagreement, Wanted};

use sluice_model::{Desired, Frontend, Health, Observed, Program, Reserved, host_prefix};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The steps from what is to what should be; empty when that is the same. What is reserved is judged by the host's
/// addresses as they were observed.
pub fn plan(
    desired: &Desired,
    observed: &Observed,
    health: &Health,
    reserved: &Reserved,
) -> Vec<Step> {
    let refused = Refused::new(desired, health, reserved, &observed.host);
    diff(&Wanted::new(desired, health, refused), observed)
}

/// The steps from `observed` to `wanted`, in the order of the rules above.
pub fn diff(wanted: &Wanted, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let kept = |vip| wanted.announces(vip) && stays_safe(wanted, observed, vip);
    let withdrawn: BTreeSet<_> =
        observed.announced.keys().copied().filter(|prefix| !kept(prefix.addr())).collect();
    steps.extend(withdrawn.iter().map(|prefix| Step::Withdraw(*prefix)));

    steps.extend(wanted.vips.difference(&observed.guarded).map(|vip| Step::GuardVip(*vip)));
    steps.extend(wanted.vips.difference(&observed.addresses).map(|vip| Step::AddVip(*vip)));
    for (frontend, program) in &wanted.programs {
        if observed.programs.get(frontend) != Some(program) {
            steps.push(Step::PutProgram(*frontend, program.clone()));
        }
    }
    // Nothing here can attach the data plane; until somebody has, announcing is no step that could succeed.
    let announceable = wanted.announced.iter().filter(|_| observed.attached);
    for (prefix, attributes) in announceable {
        if withdrawn.contains(prefix) || observed.announced.get(prefix) != Some(attributes) {
            steps.push(Step::Announce(*prefix, attributes.clone()));
        }
    }

    for frontend in observed.programs.keys() {
        if !wanted.programs.contains_key(frontend) {
            steps.push(Step::RemoveProgram(*frontend));
        }
    }
    steps.extend(observed.addresses.difference(&wanted.vips).map(|vip| Step::RemoveVip(*vip)));
    steps.extend(observed.guarded.difference(&wanted.vips).map(|vip| Step::UnguardVip(*vip)));
    steps
}

/// True when an announcement may stay while the steps are executed: everything it rests on is there, and some frontend
/// finds backends both before and after, so that no order and no failure of the other steps leaves the VIP empty.
fn stays_safe(wanted: &Wanted, observed: &Observed, vip: IpAddr) -> bool {
    let bridge = wanted.programs.range(Frontend::all_of(vip)).any(|(frontend, program)| {
        program.serves() && observed.programs.get(frontend).is_some_and(Program::serves)
    });
    bridge && observed.can_announce(vip) && observed.announced.contains_key(&host_prefix(vip))
}
