//! Who may say what should be, and how their wishes become one desired state.

mod bridge;
mod convert;
mod limits;
mod sctp;
mod texts;
mod wire;

pub(crate) use bridge::{Bridge, BridgeWish, Refusal};
pub(crate) use convert::unicast;
pub(crate) use limits::{Limit, Limits};
pub(crate) use texts::check_source;
pub(crate) use wire::{SaidChange, SaidState, Sent, peers};

use crate::ledger::Recovery;
use sluice_model::{Clash, Desired, Generation, Service, ServiceName, keep_unclaimed};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What each bridge wishes, by the name of its source.
pub(crate) type Bridges = BTreeMap<String, Arc<Bridge>>;

/// What the configuration file wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Grows with each change of the file.
    pub(crate) generation: Generation,
    /// Everything it wants.
    pub(crate) services: Vec<Arc<Service>>,
    /// What sources may ask for; not kept on disk, since the file is read at each start.
    pub(crate) limits: Limits,
}

/// The wishes of all sources as one state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// What should be.
    pub(crate) desired: Desired,
    /// The generation of the merged state that last changed each service.
    pub(crate) changed: BTreeMap<ServiceName, Generation>,
    /// Services that were left out.
    pub(crate) clashes: Vec<Clash>,
    /// What each bridge said.
    pub(crate) bridges: Bridges,
    /// The ledger was lost, and not everybody has said everything again.
    pub(crate) recovery: Option<Recovery>,
    /// What cannot be kept on the disk, and why.
    pub(crate) unkept: Option<String>,
}

/// Puts the wishes together: the file first, then the bridges' services, those that are seated before those that are
/// not, each by the name of its source. Of two that clash the first one stays, so what clients use is not taken over by
/// another cluster that asks for it. What is held comes last, and gives way to everybody without a word.
pub(crate) fn merge(
    revision: Generation,
    config: &Wish,
    bridges: &Bridges,
    held: &[Arc<Service>],
    is_seated: impl Fn(&Service) -> bool,
) -> (Desired, Vec<Clash>) {
    let mut desired = Desired::empty(revision);
    let mut clashes = Vec::new();
    for service in &config.services {
        clashes.extend(desired.insert(Arc::clone(service)).err());
    }
    let of_bridges = bridges
        .iter()
        .flat_map(|(source, bridge)| bridge.services().map(move |service| (source, service)));
    let (seated, others): (Vec<_>, Vec<_>) = of_bridges.partition(|(_, s)| is_seated(s));
    for (source, service) in seated.into_iter().chain(others) {
        let may_have = |vip| config.limits.permit(source, vip);
        clashes.extend(desired.insert_within(Arc::clone(service), may_have).err());
    }
    keep_unclaimed(&mut desired, held);
    (desired, clashes)
}

// === impl Merged ===

impl Merged {
    /// How many frontends are held: nobody has claimed them since the ledger was lost.
    pub(crate) fn held(&self) -> usize {
        if self.recovery.is_none() {
            return 0;
        }
        let held = self.desired.services().filter(|service| sluice_model::is_held(&service.name));
        held.map(|service| service.frontends().count()).sum()
    }
}
