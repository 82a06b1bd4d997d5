//! Who may say what should be, and how their wishes become one desired state.

mod bridge;
mod convert;
mod sctp;

pub(crate) use bridge::{Bridge, BridgeWish, Refusal};
pub(crate) use convert::unicast;

use sluice_model::{Clash, Desired, Generation, Service, ServiceName};
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
}

/// Puts the wishes together: the file first, then the bridges' services, those that are seated before those that are
/// not, each by the name of its source. Of two that clash the first one stays, so what clients use is not taken over by
/// another cluster that asks for it.
pub(crate) fn merge(
    revision: Generation,
    config: &Wish,
    bridges: &Bridges,
    is_seated: impl Fn(&Service) -> bool,
) -> (Desired, Vec<Clash>) {
    let of_bridges = bridges.values().flat_map(|bridge| bridge.services());
    let (seated, others): (Vec<_>, Vec<_>) = of_bridges.partition(|service| is_seated(service));
    let all = config.services.iter().chain(seated).chain(others);
    Desired::new(revision, all.cloned())
}
