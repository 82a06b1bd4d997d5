//! Who may say what should be, and how their wishes become one desired state.

use sluice_model::{Clash, Desired, Generation, Service, ServiceName};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A source of services. Of two sources that clash, the one that is listed first here is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    /// The configuration file of this appliance.
    ConfigFile,
    /// A bridge that pushes what a cluster wants, by its name.
    Bridge(String),
}

/// What one source wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The source's own count; grows with each change it makes.
    pub(crate) generation: Generation,
    /// Everything it wants.
    pub(crate) services: Vec<Service>,
}

/// The wishes of all sources as one state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// What should be.
    pub(crate) desired: Desired,
    /// The generation, in its source's count, that last changed each service.
    pub(crate) changed: BTreeMap<ServiceName, Generation>,
    /// Services that were left out.
    pub(crate) clashes: Vec<Clash>,
}

// === impl Source ===

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::ConfigFile => f.write_str("config"),
            Source::Bridge(name) => write!(f, "bridge/{name}"),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            None if text == "config" => Ok(Source::ConfigFile),
            Some(("bridge", name)) => Ok(Source::Bridge(name.to_owned())),
            _ => Err(format!("{text} is not a source")),
        }
    }
}

/// Puts the wishes together in the order of their sources; of two that clash, the first one stays.
pub(crate) fn merge(
    revision: Generation,
    wishes: &BTreeMap<Source, Wish>,
) -> (Desired, Vec<Clash>) {
    Desired::new(revision, wishes.values().flat_map(|wish| wish.services.iter().cloned()))
}
