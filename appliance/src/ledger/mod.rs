//! The newest wish of each source: refuses older ones, survives restarts, publishes what follows from them.
//!
//! A source that disappears loses nothing: what it wished last stays until it wishes otherwise.

mod file;

use crate::sources::{Bridge, Bridges, Merged, Refusal, Wish, merge};
use sluice_api::{SourceChange, SourceState};
use sluice_model::{Desired, Generation, Service, ServiceName};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    /// Grows with each accepted wish of any source: the generation of the merged state.
    revision: Generation,
    config: Wish,
    bridges: Bridges,
    /// The revision that last changed each service.
    changed: BTreeMap<ServiceName, Generation>,
}

/// The ledger, backed by one file.
pub(crate) struct Ledger {
    path: PathBuf,
    /// For NAT64, if there is one; as long as the daemon runs.
    nat64_source: Option<Ipv4Addr>,
    content: Content,
    merged: watch::Sender<Arc<Merged>>,
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the ledger {}", path.display())]
pub(crate) struct OpenError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// The ledger, for the daemon's loop and for everybody who may submit.
#[derive(Clone)]
pub(crate) struct SharedLedger(Arc<Mutex<Ledger>>);

/// Why a wish is refused; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    /// What is said does not fit to what was said before.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What cannot be kept is not promised.
    #[error("cannot write the ledger {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It is the newest now.
    New,
    /// It was already known.
    Known,
}

// === impl Ledger ===

impl Ledger {
    /// Reads the file; an absent one is an empty ledger. One that cannot be understood is moved aside, not deleted, and
    /// the second value says so. Wishes for NAT64 need an address.
    pub(crate) fn open(
        path: PathBuf,
        nat64_source: Option<Ipv4Addr>,
    ) -> Result<(Self, Option<String>), OpenError> {
        let opened = file::read(&path, nat64_source);
        let (content, trouble) = match opened {
            Ok(content) => (content, None),
            Err(file::ReadError::Io(source)) => return Err(OpenError { path, source }),
            Err(file::ReadError::Garbled(reason)) => {
                let aside = path.with_extension("json.unreadable");
                std::fs::rename(&path, &aside)
                    .map_err(|source| OpenError { path: path.clone(), source })?;
                let moved = format!(
                    "the ledger could not be read ({reason}); it is kept as {}",
                    aside.display()
                );
                (Content::default(), Some(moved))
            }
        };
        let merged = watch::Sender::new(Arc::new(content.merged()));
        Ok((Ledger { path, nat64_source, content, merged }, trouble))
    }

    /// What should be, now and at each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Merged>> {
        self.merged.subscribe()
    }

    /// Takes what the configuration file wishes: other content is its next generation.
    pub(crate) fn configure(&mut self, services: Vec<Service>) -> Result<Accepted, SubmitError> {
        let known = &self.content.config;
        let wish = Wish::new(known.generation.next(), services);
        if known.services == wish.services && known.generation != Generation::default() {
            return Ok(Accepted::Known);
        }
        self.accept(wish, self.content.bridges.clone())
    }

    /// Takes everything that a bridge wishes.
    pub(crate) fn put(
        &mut self,
        source: &str,
        state: SourceState,
    ) -> Result<Accepted, SubmitError> {
        let next = Bridge::put(self.bridge(source), state, self.nat64_source)?;
        self.accept_bridge(source, next)
    }

    /// Takes a change of what a bridge wishes.
    pub(crate) fn patch(
        &mut self,
        source: &str,
        change: SourceChange,
    ) -> Result<Accepted, SubmitError> {
        let next = Bridge::patch(self.bridge(source), change, self.nat64_source)?;
        self.accept_bridge(source, next)
    }

    /// Forgets a bridge and everything it wished; false when there is none of this name.
    pub(crate) fn forget(&mut self, source: &str) -> Result<bool, SubmitError> {
        let mut bridges = self.content.bridges.clone();
        if bridges.remove(source).is_none() {
            return Ok(false);
        }
        self.accept(self.content.config.clone(), bridges).map(|_| true)
    }

    /// The newest generation of a bridge.
    pub(crate) fn generation(&self, source: &str) -> Option<u64> {
        self.bridge(source).map(|bridge| bridge.generation)
    }

    fn bridge(&self, source: &str) -> Option<&Bridge> {
        self.content.bridges.get(source).map(Arc::as_ref)
    }

    fn accept_bridge(
        &mut self,
        source: &str,
        next: Option<Bridge>,
    ) -> Result<Accepted, SubmitError> {
        let Some(next) = next else { return Ok(Accepted::Known) };
        let mut bridges = self.content.bridges.clone();
        bridges.insert(source.to_owned(), Arc::new(next));
        self.accept(self.content.config.clone(), bridges)
    }

    /// Written first, published second: what is acted on survives.
    fn accept(&mut self, config: Wish, bridges: Bridges) -> Result<Accepted, SubmitError> {
        let revision = self.content.revision.next();
        let before = Arc::clone(&self.merged.borrow());
        let has_its_frontends = |service: &Service| {
            service.frontends().all(|f| before.desired.owner(&f) == Some(&service.name))
        };
        let (desired, clashes) = merge(revision, &config, &bridges, has_its_frontends);
        let changed = changed(&self.content.changed, &before.desired, &desired);
        let next = Content { revision, config, bridges, changed };
        file::write(&self.path, &next)
            .map_err(|source| SubmitError::Write { path: self.path.clone(), source })?;
        self.content = next;
        let (changed, bridges) = (self.content.changed.clone(), self.content.bridges.clone());
        self.merged.send_replace(Arc::new(Merged { desired, changed, clashes, bridges }));
        Ok(Accepted::New)
    }
}

// === impl SharedLedger ===

impl SharedLedger {
    pub(crate) fn new(ledger: Ledger) -> Self {
        SharedLedger(Arc::new(Mutex::new(ledger)))
    }

    /// For one submission; a disk may keep the caller waiting.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        // A panic leaves the ledger as it was: what is accepted is replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Wish ===

impl Wish {
    /// Equal wishes are equal values: by name, each service in its canonical form.
    fn new(generation: Generation, services: Vec<Service>) -> Self {
        let services = services.into_iter().map(|service| Arc::new(service.canonical()));
        let mut services: Vec<Arc<Service>> = services.collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Wish { generation, services }
    }
}

// === impl Content ===

impl Content {
    fn merged(&self) -> Merged {
        // Services that were left out never changed what should be.
        let was_there = |service: &Service| self.changed.contains_key(&service.name);
        let (desired, clashes) = merge(self.revision, &self.config, &self.bridges, was_there);
        let (changed, bridges) = (self.changed.clone(), self.bridges.clone());
        Merged { desired, changed, clashes, bridges }
    }
}

/// The revision that last changed each service, when `after` takes the place of `before`.
fn changed(
    known: &BTreeMap<ServiceName, Generation>,
    before: &Desired,
    after: &Desired,
) -> BTreeMap<ServiceName, Generation> {
    let when = |service: &Service| {
        let is_same = |old: &Service| std::ptr::eq(old, service) || old == service;
        let is_known = before.service(&service.name).is_some_and(is_same);
        known.get(&service.name).filter(|_| is_known).copied().unwrap_or(after.generation())
    };
    after.services().map(|service| (service.name.clone(), when(service))).collect()
}

#[cfg(test)]
mod tests;
