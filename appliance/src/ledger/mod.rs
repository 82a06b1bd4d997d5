//! The newest wish of each source: refuses older ones, survives restarts, publishes what follows from them.
//!
//! A source that disappears loses nothing: what it wished last stays until it wishes otherwise.

mod file;

use crate::sources::{Merged, Source, Wish, merge};
use sluice_model::{Generation, Service, ServiceName};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    /// Grows with each accepted wish of any source: the generation of the merged state.
    revision: Generation,
    wishes: BTreeMap<Source, Wish>,
    /// The revision that last changed each service.
    changed: BTreeMap<ServiceName, Generation>,
}

/// The ledger, backed by one file.
pub(crate) struct Ledger {
    path: PathBuf,
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

/// Why a wish is refused; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    /// The source has wished something newer.
    #[error("generation {submitted} of source {from} is older than {newest}")]
    Older {
        /// The source.
        from: Source,
        /// What it submitted.
        submitted: Generation,
        /// What is kept.
        newest: Generation,
    },
    /// A generation has one content for ever.
    #[error("generation {generation} of source {from} has other content than before")]
    Altered {
        /// The source.
        from: Source,
        /// What it submitted.
        generation: Generation,
    },
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
    New(Generation),
    /// It was already known.
    Known(Generation),
}

// === impl Ledger ===

impl Ledger {
    /// Reads the file; an absent one is an empty ledger. One that cannot be understood is moved aside, not deleted, and
    /// the second value says so.
    pub(crate) fn open(path: PathBuf) -> Result<(Self, Option<String>), OpenError> {
        let opened = file::read(&path);
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
        Ok((Ledger { path, content, merged }, trouble))
    }

    /// What should be, now and at each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Merged>> {
        self.merged.subscribe()
    }

    /// Takes a wish whose source counts its generations itself.
    pub(crate) fn submit(&mut self, from: Source, wish: Wish) -> Result<Accepted, SubmitError> {
        let wish = wish.canonical();
        if let Some(known) = self.content.wishes.get(&from) {
            let (submitted, newest) = (wish.generation, known.generation);
            if submitted < newest {
                return Err(SubmitError::Older { from, submitted, newest });
            }
            if submitted == newest && wish.services == known.services {
                return Ok(Accepted::Known(newest));
            }
            if submitted == newest {
                return Err(SubmitError::Altered { from, generation: newest });
            }
        }
        self.accept(from, wish)
    }

    /// Takes a wish whose source does not count, like a file: other content is the next generation.
    pub(crate) fn submit_next(
        &mut self,
        from: Source,
        services: Vec<Service>,
    ) -> Result<Accepted, SubmitError> {
        let wish = Wish { generation: Generation::default(), services }.canonical();
        let known = self.content.wishes.get(&from);
        let generation = match known {
            Some(known) if known.services == wish.services => known.generation,
            Some(known) => known.generation.next(),
            None => Generation::default().next(),
        };
        self.submit(from, Wish { generation, ..wish })
    }

    /// Written first, published second: what is acted on survives.
    fn accept(&mut self, from: Source, wish: Wish) -> Result<Accepted, SubmitError> {
        let generation = wish.generation;
        let next = self.content.with(from, wish);
        file::write(&self.path, &next)
            .map_err(|source| SubmitError::Write { path: self.path.clone(), source })?;
        self.content = next;
        self.merged.send_replace(Arc::new(self.content.merged()));
        Ok(Accepted::New(generation))
    }
}

// === impl Wish ===

impl Wish {
    /// Equal wishes are equal values: by name, each service in its canonical form.
    fn canonical(mut self) -> Self {
        self.services = self.services.into_iter().map(Service::canonical).collect();
        self.services.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }
}

// === impl Content ===

impl Content {
    fn with(&self, from: Source, wish: Wish) -> Self {
        let revision = self.revision.next();
        let mut next = Content { revision, ..self.clone() };
        next.wishes.insert(from, wish);
        let services = |content: &Content| -> BTreeMap<ServiceName, Service> {
            let desired = merge(revision, &content.wishes).0;
            desired.services().map(|service| (service.name.clone(), service.clone())).collect()
        };
        let before = services(self);
        let after = services(&next);
        next.changed.retain(|name, _| after.contains_key(name));
        for (name, service) in after {
            if before.get(&name) != Some(&service) {
                next.changed.insert(name, revision);
            }
        }
        next
    }

    fn merged(&self) -> Merged {
        let (desired, clashes) = merge(self.revision, &self.wishes);
        Merged { desired, changed: self.changed.clone(), clashes }
    }
}

#[cfg(test)]
mod tests;
