//! The wanted state with its generation, and what changed since an earlier one.

use sluice_api::{SourceChange, SourceState, WantedPeer, WantedService};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Changes that are remembered for appliances that lag behind. One that lags further is given everything, which by then
/// is no more to say than the changes.
const MAX_CHANGES: usize = 16_384;

/// Everything this cluster wants from every appliance.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    owner: String,
    /// None until the first complete state is known and this bridge leads: until then nothing is pushed.
    generation: Option<u64>,
    /// That nothing is wanted is no accident, see [`Wish::is_doubtful`].
    is_meant: bool,
    inside: Vec<String>,
    peers: Vec<WantedPeer>,
    services: BTreeMap<String, Arc<WantedService>>,
    /// What changed with each generation, oldest first.
    log: VecDeque<(u64, What)>,
    /// Changes up to this generation are no longer in the log.
    forgotten: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Service(String),
    Inside,
    Peers,
}

/// One step of the wanted state.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// New services and changed ones.
    pub upsert: Vec<WantedService>,
    /// Names of services that are no longer wanted.
    pub remove: Vec<String>,
    /// Prefixes inside the cluster, when they changed.
    pub inside: Option<Vec<String>>,
    /// All peers, when they changed.
    pub peers: Option<Vec<WantedPeer>>,
}

// === impl Step ===

impl Step {
    /// Nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upsert.is_empty()
            && self.remove.is_empty()
            && self.inside.is_none()
            && self.peers.is_none()
    }
}

// === impl Wish ===

impl Wish {
    /// Nothing is known yet, so nothing is pushed.
    #[must_use]
    pub fn unknown(owner: String) -> Self {
        Wish { owner, ..Wish::default() }
    }

    /// Who owns the source.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The generation; none while there is nothing to push.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// No service is wanted, and none has been since this bridge leads: perhaps it reads the wrong cluster, or one that
    /// was restored empty. An appliance that has services of the source is not to lose them for that.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        !self.is_meant
    }

    /// A Service of ours is being removed by its owner, so the cluster is the right one.
    pub fn confirm(&mut self) {
        self.is_meant = true;
    }

    /// How many services are wanted.
    #[must_use]
    pub fn services(&self) -> usize {
        self.services.len()
    }

    /// The first complete state of a term of leadership. `term` is the number of the Lease's transitions, so that this
    /// outranks whatever an earlier leader said.
    pub fn begin(&mut self, term: u32, step: Step) {
        let generation = (u64::from(term) << 32) | 1;
        self.services.clear();
        self.is_meant = false;
        self.generation = Some(generation);
        self.write(generation, step);
        self.log.clear();
        self.forgotten = generation;
    }

    /// This bridge no longer leads.
    pub fn end(&mut self) {
        *self = Wish::unknown(std::mem::take(&mut self.owner));
    }

    /// Takes a step; the generation grows unless it is empty or there is none yet.
    pub fn take(&mut self, step: Step) {
        let Some(generation) = self.generation else { return };
        if step.is_empty() {
            return;
        }
        self.generation = Some(generation.saturating_add(1));
        self.write(generation.saturating_add(1), step);
    }

    /// An appliance has `generation` already, from a lease that was lost or another life: go above it. True when that
    /// was needed.
    pub fn outrank(&mut self, generation: u64) -> bool {
        let needed = self.generation.is_some_and(|own| own <= generation);
        if needed {
            self.generation = Some(generation.saturating_add(1));
        }
        needed
    }

    fn write(&mut self, generation: u64, step: Step) {
        self.is_meant |= !step.upsert.is_empty();
        for service in step.upsert {
            self.log.push_back((generation, What::Service(service.name.clone())));
            self.services.insert(service.name.clone(), Arc::new(service));
        }
        for name in step.remove {
            self.services.remove(&name);
            self.log.push_back((generation, What::Service(name)));
        }
        if let Some(inside) = step.inside {
            self.inside = inside;
            self.log.push_back((generation, What::Inside));
        }
        if let Some(peers) = step.peers {
            self.peers = peers;
            self.log.push_back((generation, What::Peers));
        }
        while self.log.len() > MAX_CHANGES {
            if let Some((oldest, _)) = self.log.pop_front() {
                self.forgotten = oldest;
            }
        }
    }

    /// Everything, for `PUT`.
    #[must_use]
    pub fn state(&self) -> Option<SourceState> {
        Some(SourceState {
            owner: self.owner.clone(),
            generation: self.generation?,
            inside: self.inside.clone(),
            peers: self.peers.clone(),
            services: self.services.values().map(|s| (**s).clone()).collect(),
        })
    }

    /// What changed since `base`, for `PATCH`; none when that is no longer known, or nothing did.
    #[must_use]
    pub fn change(&self, base: u64) -> Option<SourceChange> {
        let generation = self.generation?;
        if base < self.forgotten || base >= generation {
            return None;
        }
        let mut change =
            SourceChange { owner: self.owner.clone(), base, generation, ..SourceChange::default() };
        let mut names = BTreeSet::new();
        for (_, what) in self.log.iter().rev().take_while(|(at, _)| *at > base) {
            match what {
                What::Service(name) => {
                    names.insert(name);
                }
                What::Inside => change.inside = Some(self.inside.clone()),
                What::Peers => change.peers = Some(self.peers.clone()),
            }
        }
        for name in names {
            match self.services.get(name) {
                Some(service) => change.upsert.push((**service).clone()),
                None => change.remove.push(name.clone()),
            }
        }
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, port: u16) -> WantedService {
        WantedService { name: name.into(), port, ..WantedService::default() }
    }

    fn upsert(names: &[(&str, u16)]) -> Step {
        Step { upsert: names.iter().map(|(n, p)| service(n, *p)).collect(), ..Step::default() }
    }

    fn remove(name: &str) -> Step {
        Step { remove: vec![name.into()], ..Step::default() }
    }

    #[test]
    fn nothing_is_pushed_before_the_first_state() {
        let mut wish = Wish::unknown("uid".into());
        wish.take(upsert(&[("a", 1)]));
        assert_eq!((wish.state(), wish.change(0)), (None, None));
    }

    #[test]
    fn a_later_leader_outranks_an_earlier_one() {
        let mut old = Wish::unknown("uid".into());
        old.begin(3, Step::default());
        for port in 1..1000 {
            old.take(upsert(&[("a", port)]));
        }
        let mut new = Wish::unknown("uid".into());
        new.begin(4, Step::default());
        assert!(new.generation() > old.generation());
    }

    #[test]
    fn a_change_tells_the_newest_of_each_service_once() {
        let mut wish = Wish::unknown("uid".into());
        wish.begin(0, upsert(&[("a", 1), ("b", 1), ("c", 1)]));
        let base = wish.generation().unwrap();
        wish.take(upsert(&[("a", 2)]));
        let between = wish.generation().unwrap();
        wish.take(upsert(&[("a", 3), ("d", 1)]));
        wish.take(remove("b"));
        let all = wish.change(base).unwrap();
        assert_eq!((all.base, all.generation), (base, base + 3));
        assert_eq!(all.upsert, [service("a", 3), service("d", 1)]);
        assert_eq!(all.remove, ["b"]);
        assert_eq!(all.inside, None);
        assert_eq!(wish.change(between).unwrap().upsert.len(), 2);
        assert_eq!(wish.change(base + 3), None, "nothing is new");
        assert_eq!(wish.change(base - 1), None, "before the first state only everything helps");
    }

    #[test]
    fn whoever_lags_too_far_gets_everything() {
        let mut wish = Wish::unknown("uid".into());
        wish.begin(0, upsert(&[("a", 1)]));
        let base = wish.generation().unwrap();
        for _ in 0..=MAX_CHANGES {
            wish.take(upsert(&[("a", 2)]));
        }
        assert_eq!(wish.change(base), None);
        assert!(wish.change(base + 1).is_some());
        assert_eq!(wish.state().unwrap().services, [service("a", 2)]);
    }

    #[test]
    fn an_appliance_that_is_ahead_is_outranked() {
        let mut wish = Wish::unknown("uid".into());
        wish.begin(0, Step::default());
        assert!(!wish.outrank(0));
        assert!(wish.outrank(7 << 32));
        assert_eq!(wish.generation(), Some((7 << 32) + 1));
        assert!(!wish.outrank(7 << 32));
    }
}
