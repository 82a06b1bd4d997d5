//! The newest wish of each source: refuses older ones, survives restarts, publishes what follows from them.
//!
//! A source that disappears loses nothing: what it wished last stays until it wishes otherwise.

mod file;
mod writer;

pub(crate) use writer::SharedLedger;

use crate::sources::{Bridge, Bridges, Merged, Refusal, Wish, merge};
use sluice_api::{SourceChange, SourceState};
use sluice_model::{Desired, Generation, Service, ServiceName};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    /// Grows with each accepted wish of any source, by one for those that are written together: the generation of the
    /// merged state.
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

/// What a source says.
#[derive(Debug)]
pub(crate) enum Submission {
    /// Everything that the configuration file wishes: other content is its next generation.
    Config(Vec<Service>),
    /// Everything that a bridge wishes.
    Put {
        /// Its source.
        source: String,
        /// What it wishes.
        state: SourceState,
    },
    /// A change of what a bridge wishes.
    Patch {
        /// Its source.
        source: String,
        /// What changes.
        change: SourceChange,
    },
    /// A bridge is to be forgotten, with everything it wished.
    Forget {
        /// Its source.
        source: String,
    },
}

/// What is to be kept next.
struct Draft {
    config: Wish,
    bridges: Bridges,
    nat64_source: Option<Ipv4Addr>,
}

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
        /// The reason, the same for everybody who waited for this write.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// Nobody writes any longer.
    #[error("the ledger takes nothing any longer; the log says why")]
    Ended,
}

/// What became of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It is the newest now.
    New,
    /// It changes nothing: it was known already, or there is nothing to forget.
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

    /// Takes one submission, see [`Ledger::commit`].
    pub(crate) fn submit(&mut self, submission: Submission) -> Result<Accepted, SubmitError> {
        let only = self.commit(vec![submission]).pop();
        only.unwrap_or(Ok(Accepted::Known))
    }

    /// Takes what was submitted, one after the other, and writes once what comes of all of it; each gets its answer.
    /// What cannot be written is as if nobody had said anything: not even a refusal holds, since it may rest on what
    /// came before it in the group.
    pub(crate) fn commit(&mut self, group: Vec<Submission>) -> Vec<Result<Accepted, SubmitError>> {
        let (config, bridges) = (self.content.config.clone(), self.content.bridges.clone());
        let mut draft = Draft { config, bridges, nat64_source: self.nat64_source };
        let taken: Vec<_> = group.into_iter().map(|submission| draft.take(submission)).collect();
        if taken.contains(&Ok(Accepted::New))
            && let Err(source) = self.accept(draft)
        {
            let source = Arc::new(source);
            let refused = || {
                let (path, source) = (self.path.clone(), Arc::clone(&source));
                Err(SubmitError::Write { path, source })
            };
            return taken.iter().map(|_| refused()).collect();
        }
        taken.into_iter().map(|taken| taken.map_err(SubmitError::from)).collect()
    }

    /// Written first, published second: what is acted on survives.
    fn accept(&mut self, draft: Draft) -> std::io::Result<()> {
        let Draft { config, bridges, .. } = draft;
        let revision = self.content.revision.next();
        let before = Arc::clone(&self.merged.borrow());
        let has_its_frontends = |service: &Service| {
            service.frontends().all(|f| before.desired.owner(&f) == Some(&service.name))
        };
        let (desired, clashes) = merge(revision, &config, &bridges, has_its_frontends);
        let changed = changed(&self.content.changed, &before.desired, &desired);
        let next = Content { revision, config, bridges, changed };
        file::write(&self.path, &next)?;
        self.content = next;
        let (changed, bridges) = (self.content.changed.clone(), self.content.bridges.clone());
        self.merged.send_replace(Arc::new(Merged { desired, changed, clashes, bridges }));
        Ok(())
    }
}

// === impl Draft ===

impl Draft {
    fn take(&mut self, submission: Submission) -> Result<Accepted, Refusal> {
        match submission {
            Submission::Config(services) => {
                let known = &self.config;
                let wish = Wish::new(known.generation.next(), services);
                if known.services == wish.services && known.generation != Generation::default() {
                    return Ok(Accepted::Known);
                }
                self.config = wish;
                Ok(Accepted::New)
            }
            Submission::Put { source, state } => {
                let next = Bridge::put(self.bridge(&source), state, self.nat64_source)?;
                Ok(self.seat(source, next))
            }
            Submission::Patch { source, change } => {
                let next = Bridge::patch(self.bridge(&source), change, self.nat64_source)?;
                Ok(self.seat(source, next))
            }
            Submission::Forget { source } => match self.bridges.remove(&source) {
                Some(_) => Ok(Accepted::New),
                None => Ok(Accepted::Known),
            },
        }
    }

    fn bridge(&self, source: &str) -> Option<&Bridge> {
        self.bridges.get(source).map(Arc::as_ref)
    }

    fn seat(&mut self, source: String, next: Option<Bridge>) -> Accepted {
        let Some(next) = next else { return Accepted::Known };
        self.bridges.insert(source, Arc::new(next));
        Accepted::New
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
