//! The newest wish of each source: refuses older ones, survives restarts, publishes what follows from them.
//!
//! A source that disappears loses nothing: what it wished last stays until it wishes otherwise. A file that cannot be read
//! loses nothing either: what the kernel carries stays until everybody has spoken again, see `recovery`.

mod disk;
mod file;
mod recovery;
mod writer;

pub(crate) use recovery::{Expected, Recovery};
pub(crate) use writer::SharedLedger;

use crate::raw::Raw;
use crate::sources::{
    Bridge, Bridges, Limits, Merged, Refusal, SaidChange, SaidState, Wish, merge,
};
use disk::Found;
use sluice_model::{Desired, Generation, Observed, Service, ServiceName};
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
    /// While not everybody has said again what was lost.
    recovery: Option<Recovery>,
    /// What a newer version has written and this one does not know.
    beyond: BTreeMap<String, Raw>,
}

/// The ledger, backed by one file.
pub(crate) struct Ledger {
    path: PathBuf,
    /// For NAT64, if there is one; as long as the daemon runs.
    nat64_source: Option<Ipv4Addr>,
    content: Content,
    /// There was no file.
    is_new: bool,
    /// What the kernel carried at the start, while that matters.
    held: Vec<Arc<Service>>,
    merged: watch::Sender<Arc<Merged>>,
}

/// What a source says.
#[derive(Debug)]
pub(crate) enum Submission {
    /// Everything that the configuration file wishes, and what it lets sources ask for: other content is its next
    /// generation.
    Config(Vec<Service>, Limits),
    /// Everything that a bridge wishes.
    Put {
        /// Its source.
        source: String,
        /// What it wishes.
        state: SaidState,
    },
    /// A change of what a bridge wishes.
    Patch {
        /// Its source.
        source: String,
        /// What changes.
        change: SaidChange,
    },
    /// A bridge is to be forgotten, with everything it wished; it is not waited for either.
    Forget {
        /// Its source.
        source: String,
    },
    /// Whoever has not claimed by now what the kernel carries does not want it.
    Settle,
}

/// What is to be kept next.
struct Draft {
    config: Wish,
    bridges: Bridges,
    nat64_source: Option<Ipv4Addr>,
    recovery: Option<Recovery>,
    is_holding: bool,
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
    /// the one before it is taken. Wishes for NAT64 need an address.
    pub(crate) fn open(path: PathBuf, nat64_source: Option<Ipv4Addr>) -> Self {
        let lost = |content: Content, reason: String| {
            // Even a source that is in the state before may have wished something since.
            let awaited = content.bridges.keys().cloned().collect();
            let recovery = Some(Recovery { reason, awaited, ..Recovery::default() });
            Content { recovery, ..content }
        };
        let (content, is_new) = match disk::read(&path, nat64_source) {
            Found::Current(content) => (content, false),
            Found::Nothing => (Content::default(), true),
            Found::Previous(content, reason) => (lost(content, reason), false),
            Found::Lost(reason) => (lost(Content::default(), reason), false),
        };
        let merged = watch::Sender::new(Arc::new(content.merged()));
        Ledger { path, nat64_source, content, is_new, held: Vec::new(), merged }
    }

    /// The first submission: what the configuration wishes, over what was found in the kernel. It holds even when it cannot
    /// be kept, since the file that it comes from is the one that counts.
    pub(crate) fn begin(&mut self, services: Vec<Service>, found: &Observed, expected: Expected) {
        if self.is_new && !found.programs.is_empty() {
            let reason = "there is no ledger, although the data plane is at work".to_owned();
            self.content.recovery = Some(Recovery { reason, ..Recovery::default() });
        }
        if let Some(recovery) = &mut self.content.recovery {
            self.held = sluice_model::held(found).into_iter().map(Arc::new).collect();
            recovery.expect(expected);
        }
        let mut draft = self.draft();
        let limits = self.content.config.limits.clone();
        let config = draft.take(Submission::Config(services, limits));
        // What is held changes what should be without anybody's wish.
        if config == Ok(Accepted::Known) && draft.recovery.is_none() {
            return;
        }
        let (next, merged) = self.next(draft);
        let kept = disk::write(&self.path, &next);
        self.content = next;
        let unkept = kept.err().map(|error| self.unkept(&error));
        if let Some(unkept) = &unkept {
            tracing::error!("{unkept}");
        }
        self.merged.send_replace(Arc::new(Merged { unkept, ..merged }));
    }

    /// What sources may ask for: the configuration file's word, which is said at each start and not kept.
    pub(crate) fn limit(&mut self, limits: Limits) {
        if self.content.config.limits != limits {
            self.content.config.limits = limits;
            self.merged.send_replace(Arc::new(self.content.merged()));
        }
    }

    /// What should be, now and at each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Merged>> {
        self.merged.subscribe()
    }

    /// Takes one submission, see [`Ledger::commit`].
    #[cfg(test)]
    pub(crate) fn submit(&mut self, submission: Submission) -> Result<Accepted, SubmitError> {
        let only = self.commit(vec![submission]).pop();
        only.unwrap_or(Ok(Accepted::Known))
    }

    /// Takes what was submitted, one after the other, and writes once what comes of all of it; each gets its answer.
    /// What cannot be written is as if nobody had said anything: not even a refusal holds, since it may rest on what
    /// came before it in the group.
    pub(crate) fn commit(&mut self, group: Vec<Submission>) -> Vec<Result<Accepted, SubmitError>> {
        let mut draft = self.draft();
        let taken: Vec<_> = group.into_iter().map(|submission| draft.take(submission)).collect();
        if taken.contains(&Ok(Accepted::New))
            && let Err(source) = self.accept(draft)
        {
            let unkept = Some(self.unkept(&source));
            self.merged.send_if_modified(|merged| {
                let is_news = merged.unkept != unkept;
                if is_news {
                    tracing::error!("{}", unkept.as_deref().unwrap_or_default());
                    *merged = Arc::new(Merged { unkept, ..merged.as_ref().clone() });
                }
                is_news
            });
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
        let (next, merged) = self.next(draft);
        disk::write(&self.path, &next)?;
        self.content = next;
        if self.content.recovery.is_none() {
            self.held = Vec::new();
        }
        self.merged.send_replace(Arc::new(merged));
        Ok(())
    }

    fn draft(&self) -> Draft {
        Draft {
            config: self.content.config.clone(),
            bridges: self.content.bridges.clone(),
            nat64_source: self.nat64_source,
            recovery: self.content.recovery.clone(),
            is_holding: self.merged.borrow().held() > 0,
        }
    }

    /// What would be in force, and what follows from it.
    fn next(&self, draft: Draft) -> (Content, Merged) {
        let Draft { config, bridges, recovery, .. } = draft;
        let revision = self.content.revision.next();
        let before = Arc::clone(&self.merged.borrow());
        let has_its_frontends = |service: &Service| {
            service.frontends().all(|f| before.desired.owner(&f) == Some(&service.name))
        };
        let held = if recovery.is_some() { &self.held[..] } else { &[] };
        let (desired, clashes) = merge(revision, &config, &bridges, held, has_its_frontends);
        let changed = changed(&self.content.changed, &before.desired, &desired);
        let merged = Merged {
            desired,
            changed: changed.clone(),
            clashes,
            bridges: bridges.clone(),
            recovery: recovery.clone(),
            unkept: None,
        };
        let beyond = self.content.beyond.clone();
        (Content { revision, config, bridges, changed, recovery, beyond }, merged)
    }

    fn unkept(&self, error: &std::io::Error) -> String {
        format!("nothing new can be kept in {}: {error}", self.path.display())
    }
}

// === impl Draft ===

impl Draft {
    fn take(&mut self, submission: Submission) -> Result<Accepted, Refusal> {
        match submission {
            Submission::Config(services, limits) => {
                let known = &self.config;
                let wish = Wish::new(known.generation.next(), services, limits);
                let is_same = known.services == wish.services && known.limits == wish.limits;
                if is_same && known.generation != Generation::default() {
                    return Ok(Accepted::Known);
                }
                self.config = wish;
                Ok(Accepted::New)
            }
            Submission::Put { source, state } => {
                let is_empty = state.services.is_empty();
                let next = Bridge::put(self.bridge(&source), state, self.nat64_source)?;
                Ok(self.seat(source, next, is_empty))
            }
            Submission::Patch { source, change } => {
                let next = Bridge::patch(self.bridge(&source), change, self.nat64_source)?;
                Ok(self.seat(source, next, false))
            }
            Submission::Forget { source } => {
                let was_awaited = self.recovery.as_mut().is_some_and(|r| r.awaited.remove(&source));
                match self.bridges.remove(&source) {
                    Some(_) => Ok(Accepted::New),
                    None if was_awaited => Ok(Accepted::New),
                    None => Ok(Accepted::Known),
                }
            }
            Submission::Settle => match self.recovery.take() {
                Some(_) => Ok(Accepted::New),
                None => Ok(Accepted::Known),
            },
        }
    }

    fn bridge(&self, source: &str) -> Option<&Bridge> {
        self.bridges.get(source).map(Arc::as_ref)
    }

    /// A source has spoken. One that wants nothing at first may not know yet what it wants: as long as something is held
    /// that could be its own, that is no answer.
    fn seat(&mut self, source: String, next: Option<Bridge>, is_empty: bool) -> Accepted {
        let counts = !(is_empty && self.is_holding);
        let is_heard = self.recovery.as_mut().is_some_and(|r| counts && r.hear(&source));
        match next {
            Some(next) => {
                self.bridges.insert(source, Arc::new(next));
                Accepted::New
            }
            None if is_heard => Accepted::New,
            None => Accepted::Known,
        }
    }
}

// === impl Wish ===

impl Wish {
    /// Equal wishes are equal values: by name, each service in its canonical form.
    fn new(generation: Generation, services: Vec<Service>, limits: Limits) -> Self {
        let services = services.into_iter().map(|service| Arc::new(service.canonical()));
        let mut services: Vec<Arc<Service>> = services.collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Wish { generation, services, limits }
    }
}

// === impl Content ===

impl Content {
    fn merged(&self) -> Merged {
        // Services that were left out never changed what should be.
        let was_there = |service: &Service| self.changed.contains_key(&service.name);
        let (desired, clashes) = merge(self.revision, &self.config, &self.bridges, &[], was_there);
        let (changed, bridges) = (self.changed.clone(), self.bridges.clone());
        Merged { desired, changed, clashes, bridges, recovery: self.recovery.clone(), unkept: None }
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
mod kills;
#[cfg(test)]
mod tests;
