//! The loop's state: events are fed into it, and [`Bridge::flush`] does what follows from them.

use super::record::Record;
use super::{Event, Settings};
use crate::http::Health;
use crate::index::{Index, Object, ObjectName};
use crate::lease::machine::Standing;
use crate::metrics::{Metrics, State};
use crate::push::machine::Link;
use crate::push::task::News;
use crate::push::wish::{Step, Wish};
use crate::status::objects::{self, Objects};
use crate::status::reports::{IGNORED, Reports};
use crate::status::say::{self, Sayer};
use crate::status::writer::Writer;
use crate::watch::{From, Item, Kind, Seen, Watched, Watcher, metadata};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Between two rounds of writing statuses of pools and peers.
const OBJECTS_INTERVAL: Duration = Duration::from_secs(1);

/// What the loop is made of.
pub(super) struct Parts {
    pub(super) settings: Settings,
    pub(super) client: Client,
    pub(super) watcher: Watcher,
    pub(super) writer: Writer,
    pub(super) sayer: Sayer,
    pub(super) wish: watch::Sender<Wish>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
}

/// A watch and what it has shown.
struct Watching {
    seen: Seen,
    task: AbortHandle,
}

/// The loop's state.
pub(super) struct Bridge {
    pub(super) parts: Parts,
    pub(super) index: Index,
    watching: BTreeMap<Kind, Watching>,
    /// Number of the newest watches; items of older ones are ignored.
    epochs: BTreeMap<Kind, u64>,
    /// The term while this replica leads.
    term: Option<u32>,
    is_standing_known: bool,
    /// The first complete state of the term was taken.
    pub(super) has_begun: bool,
    pub(super) reports: Reports,
    pub(super) records: BTreeMap<ObjectName, Record>,
    /// By wanted service.
    pub(super) owners: BTreeMap<String, ObjectName>,
    /// To be looked at.
    pub(super) dirty: BTreeSet<ObjectName>,
    /// Not settled: to be looked at when an appliance reports, or time passes.
    pub(super) waiting: BTreeSet<ObjectName>,
    /// What goes out with the next flush, and whose it is.
    pub(super) step: Step,
    pub(super) carried: BTreeSet<ObjectName>,
    pub(super) objects: Objects,
    objects_written: Instant,
}

// === impl Bridge ===

impl Bridge {
    pub(super) fn new(parts: Parts) -> Self {
        let mut bridge = Bridge {
            index: Index::new(parts.settings.index.clone()),
            watching: BTreeMap::new(),
            epochs: BTreeMap::new(),
            term: None,
            is_standing_known: false,
            has_begun: false,
            reports: Reports::of(&parts.settings.appliances),
            records: BTreeMap::new(),
            owners: BTreeMap::new(),
            dirty: BTreeSet::new(),
            waiting: BTreeSet::new(),
            step: Step::default(),
            carried: BTreeSet::new(),
            objects: Objects::default(),
            objects_written: Instant::now(),
            parts,
        };
        for kind in Kind::ALL {
            bridge.list(kind);
        }
        bridge
    }

    /// Lists the kind anew. What is known of it holds until the list is complete.
    fn list(&mut self, kind: Kind) {
        let epoch = self.epochs.entry(kind).or_default();
        *epoch += 1;
        let task = self.parts.watcher.start(kind, *epoch);
        match self.watching.get_mut(&kind) {
            Some(watching) => {
                watching.task.abort();
                watching.seen.expect_list();
                watching.task = task;
            }
            None => {
                self.watching.insert(kind, Watching { seen: Seen::default(), task });
            }
        }
    }

    /// The cluster's history is another one than was read (etcd was restored): what watches say of it fits nothing.
    fn list_all(&mut self) {
        tracing::warn!(
            "resource versions went back, as after a restore of etcd: everything is listed anew"
        );
        for kind in Kind::ALL {
            self.list(kind);
        }
    }

    fn is_listed(&self) -> bool {
        self.watching.values().all(|w| w.seen.is_listed())
    }

    pub(super) fn feed(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Watched(watched) => self.watched(watched),
            Event::WentBack => self.list_all(),
            Event::Standing(standing) => self.stand(standing),
            Event::News(number, news) => self.news(number, news),
            Event::Wrote(wrote) => self.wrote(*wrote),
            Event::Tick => self.tick(),
            Event::Stop => {
                tracing::info!("ending");
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn watched(&mut self, watched: Watched) {
        let kind = watched.kind;
        if self.epochs.get(&kind) != Some(&watched.epoch) {
            return;
        }
        let Some(watching) = self.watching.get_mut(&kind) else { return };
        match watched.item {
            Item::Begin => watching.seen.begin(),
            Item::Apply(object) => {
                watching.seen.apply(&ObjectName::of(metadata(&object)));
                let from = watching.seen.from();
                self.apply(object, from);
            }
            Item::Unreadable(name, why) => {
                watching.seen.apply(&name);
                tracing::warn!(kind = kind.as_str(), name = name.name, "unreadable: {why}");
            }
            Item::Delete(object) => {
                watching.seen.delete(&ObjectName::of(metadata(&object)));
                self.delete(&object);
            }
            Item::Done => {
                for name in watching.seen.done() {
                    self.delete(&kind.named(name));
                }
            }
        }
    }

    /// Takes in an object from a list or a watch, or from the answer to a write.
    pub(super) fn apply(&mut self, object: Object, from: From) {
        match &object {
            Object::Service(service) => {
                let name = ObjectName::of(&service.metadata);
                if let Some(known) = self.index.service(&name) {
                    let same = known.metadata.uid == service.metadata.uid;
                    let seen = self.watching.get(&Kind::Service).map(|w| &w.seen);
                    let is_news = seen.is_none_or(|seen| {
                        seen.is_news(
                            &name,
                            from,
                            version(&known.metadata),
                            version(&service.metadata),
                        )
                    });
                    if same && !is_news {
                        return;
                    }
                    if !same {
                        // Deleted and made anew; the old one's addresses and state are not the new one's.
                        self.delete(&Kind::Service.named(name.clone()));
                    }
                }
                if self.records.contains_key(&name) {
                    self.dirty.insert(name);
                }
            }
            Object::AddressPool(pool) => self.objects.see_pool(pool),
            Object::Peer(peer) => self.objects.see_peer(peer),
            Object::EndpointSlice(_) | Object::Node(_) | Object::Namespace(_) => {}
        }
        self.index.apply(object);
    }

    /// A write to a Service was answered: a list that is being read may be older.
    pub(super) fn answered(&mut self, name: &ObjectName) {
        if let Some(watching) = self.watching.get_mut(&Kind::Service) {
            watching.seen.answered(name);
        }
    }

    fn delete(&mut self, object: &Object) {
        let name = ObjectName::of(metadata(object));
        match object {
            Object::Service(_) => {
                self.forget(&name);
            }
            Object::AddressPool(_) => self.objects.forget_pool(&name.name),
            Object::Peer(_) => self.objects.forget_peer(&name.name),
            Object::EndpointSlice(_) | Object::Node(_) | Object::Namespace(_) => {}
        }
        self.index.delete(object);
    }

    /// Nothing is remembered of the Service any longer.
    pub(super) fn forget(&mut self, name: &ObjectName) -> Option<Record> {
        self.waiting.remove(name);
        self.dirty.remove(name);
        self.records.remove(name)
    }

    fn stand(&mut self, standing: Standing) {
        self.is_standing_known = standing != Standing::Unknown;
        match standing {
            Standing::Leader { term } => {
                tracing::info!(term, "this replica leads");
                if self.term.is_some() {
                    self.resign();
                }
                self.term = Some(term);
                // What an earlier leader wrote last is not yet known for certain; a new list is.
                self.list(Kind::Service);
            }
            Standing::Follower { leader } => {
                tracing::info!(leader, "this replica follows");
                if self.term.is_some() {
                    self.resign();
                }
            }
            Standing::Unknown => {}
        }
    }

    /// Whoever led may have given addresses that nobody else knows of: all that was decided is forgotten and read anew.
    fn resign(&mut self) {
        self.term = None;
        self.has_begun = false;
        self.parts.wish.send_modify(Wish::end);
        self.index = Index::new(self.parts.settings.index.clone());
        (self.records, self.owners) = (BTreeMap::new(), BTreeMap::new());
        (self.dirty, self.waiting) = (BTreeSet::new(), BTreeSet::new());
        (self.step, self.carried) = (Step::default(), BTreeSet::new());
        self.objects = Objects::default();
        for watching in self.watching.values() {
            watching.task.abort();
        }
        self.watching.clear();
        for kind in Kind::ALL {
            self.list(kind);
        }
    }

    fn news(&mut self, number: usize, news: News) {
        match news {
            News::Report(report) => {
                self.say_ignored(number, &report.ignored);
                for name in self.reports.take(number, report) {
                    self.dirty.extend(self.owners.get(&name).cloned());
                }
            }
            News::Outrank(generation) => {
                let appliance = self.reports.url(number);
                tracing::info!(appliance, generation, "it has this generation already");
                self.parts.wish.send_if_modified(|wish| wish.outrank(generation));
            }
            News::Link(link) => {
                let newest = self.parts.wish.borrow().generation().unwrap_or_default();
                let before = self.reports.set_link(number, link.clone(), newest);
                let Some(before) = before else { return };
                if refuses(&link) || refuses(&before) {
                    // Some may be served by another appliance in a newer state than by this one.
                    self.dirty.extend(self.records.keys().cloned());
                }
                let appliance = self.reports.url(number);
                match (&link, before) {
                    (Link::Down(new), Link::Down(old)) if new.reason() == old.reason() => {}
                    (Link::Down(failure), _) => tracing::warn!(appliance, "appliance {failure}"),
                    (Link::Up, _) => tracing::info!(appliance, "appliance takes changes"),
                    (Link::Withheld, _) => self.say_withheld(number),
                    (Link::Unknown, _) => {}
                }
            }
        }
        self.dirty.extend(self.waiting.iter().cloned());
    }

    /// What an older appliance ignores of peers and the source; of Services it is said with each.
    fn say_ignored(&self, number: usize, ignored: &[String]) {
        if ignored.is_empty() || self.reports.ignored(number) == ignored {
            return;
        }
        let appliance = self.reports.url(number);
        let what = ignored.join(", ");
        let note = format!(
            "appliance {appliance} is older than this bridge and ignores {what}; update it"
        );
        tracing::warn!(appliance, "{note}");
        let settings = &self.parts.settings;
        let lease = say::lease(&settings.namespace, &settings.lease.name);
        self.parts.sayer.say(lease, IGNORED, appliance, note);
    }

    fn say_withheld(&self, number: usize) {
        let appliance = self.reports.url(number);
        let note = format!(
            "appliance {appliance} serves this source, but no Service is wanted since this bridge leads: nothing is \
             taken away until one is. To remove everything, delete the source on the appliance."
        );
        tracing::warn!(appliance, "{note}");
        let settings = &self.parts.settings;
        let lease = say::lease(&settings.namespace, &settings.lease.name);
        self.parts.sayer.say(lease, "EmptySetWithheld", appliance, note);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.parts.health.beat();
        self.dirty.extend(self.waiting.iter().cloned());
        self.remind(now);
        let is_due = |record: &Record| record.retry_at.is_some_and(|at| now >= at);
        let due = self.records.iter().filter(|(_, record)| is_due(record));
        self.dirty.extend(due.map(|(name, _)| name.clone()));
        let mut services = BTreeMap::<&'static str, usize>::new();
        for (name, record) in &self.records {
            *services.entry(record.word(self.waiting.contains(name))).or_default() += 1;
        }
        let (generation, wanted) = {
            let wish = self.parts.wish.borrow();
            (wish.generation().unwrap_or_default(), wish.services())
        };
        self.parts.health.set_ready(self.is_listed() && self.is_standing_known);
        self.parts.metrics.set_state(State {
            is_leader: self.term.is_some(),
            is_synced: self.is_listed(),
            generation,
            services,
            wanted,
            left_out: self.index.left_out(),
            appliances: self.reports.words(),
            pools: self.objects.uses(),
        });
    }

    /// Does what follows from everything that was fed.
    pub(super) fn flush(&mut self) {
        let Some(term) = self.term else { return };
        if !self.has_begun {
            if !self.is_listed() {
                return;
            }
            self.index.synced();
        }
        // Cleaned-up Services free addresses for others, so it may take more than one round; each one releases less.
        loop {
            let changes = self.index.drain();
            self.absorb(changes);
            self.tell(term);
            let dirty = std::mem::take(&mut self.dirty);
            if dirty.is_empty() {
                break;
            }
            for name in dirty {
                self.look_at(&name);
            }
        }
        self.write_objects();
    }

    fn write_objects(&mut self) {
        if self.objects_written.elapsed() < OBJECTS_INTERVAL {
            return;
        }
        let due = self.objects.due(&self.reports, Timestamp::now());
        if due == objects::Due::default() {
            return;
        }
        self.objects_written = Instant::now();
        let metrics = Arc::clone(&self.parts.metrics);
        tokio::spawn(objects::write(self.parts.client.clone(), due, metrics));
    }
}

fn refuses(link: &Link) -> bool {
    matches!(link, Link::Down(failure) if failure.is_refusal())
}

/// Versions grow (KEP-5504); one that cannot be read is taken for the newest.
fn version(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}
