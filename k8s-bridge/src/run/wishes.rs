//! From what the index says to the wanted state of the appliances.

use super::bridge::Bridge;
use super::record::Record;
use crate::index::{Changes, Outcome};
use crate::push::wish::Wish;

// === impl Bridge ===

impl Bridge {
    pub(super) fn absorb(&mut self, changes: Changes) {
        for (name, outcome) in changes.outcomes {
            self.dirty.insert(name.clone());
            self.carried.insert(name.clone());
            if let Outcome::Serve(serve) = &outcome {
                let wanted = serve.wanted.iter().map(|wanted| (wanted.clone(), name.clone()));
                self.owners.extend(wanted);
            }
            let new = || Record::new(Outcome::Release);
            let troubles = self.records.entry(name.clone()).or_insert_with(new).turn(outcome);
            self.say_troubles(&name, troubles);
        }
        for wanted in changes.upsert {
            let owner = self.owners.get(&wanted.name).cloned().unwrap_or_default();
            let is_held =
                self.index.service(&owner).is_some_and(|s| !crate::status::patch::has_finalizer(s));
            match self.records.get_mut(&owner) {
                Some(record) if is_held => {
                    record.held.insert(wanted.name.clone(), wanted);
                    continue;
                }
                // The finalizer came in between: what was held is older than this.
                Some(record) => drop(record.held.remove(&wanted.name)),
                None => {}
            }
            self.carried.insert(owner);
            self.step.upsert.push(wanted);
        }
        for name in changes.remove {
            if let Some(owner) = self.owners.remove(&name) {
                if let Some(record) = self.records.get_mut(&owner) {
                    record.held.remove(&name);
                }
                self.carried.insert(owner);
            }
            self.step.upsert.retain(|wanted| wanted.name != name);
            self.step.remove.push(name);
        }
        if changes.inside.is_some() {
            self.step.inside = changes.inside;
        }
        for (name, trouble) in changes.peer_troubles {
            self.objects.set_trouble(name, trouble);
        }
        if changes.peers.is_some() {
            self.step.peers = changes.peers;
        }
        for (name, uses) in changes.pools {
            self.objects.set_use(name, uses);
        }
    }

    /// Publishes what changed, with a generation.
    pub(super) fn tell(&mut self, term: u32) {
        let mut step = std::mem::take(&mut self.step);
        if !self.has_begun {
            self.has_begun = true;
            step.inside = Some(self.index.inside());
            step.peers = Some(self.index.peers());
            self.parts.wish.send_modify(|wish| wish.begin(term, step));
        } else if !step.is_empty() {
            self.parts.wish.send_modify(|wish| wish.take(step));
        }
        let generation = self.parts.wish.borrow().generation();
        let mut is_releasing = false;
        for name in std::mem::take(&mut self.carried) {
            let Some(record) = self.records.get_mut(&name) else { continue };
            is_releasing |= record.outcome == Outcome::Release;
            if record.held.is_empty() {
                record.told(generation);
                self.dirty.insert(name.clone());
                let service = format!("{}/{}", name.namespace, name.name);
                tracing::debug!(service, generation, "wanted");
            }
        }
        if is_releasing && self.parts.wish.borrow().is_doubtful() {
            // Its owner removes it, so this is the cluster it came from.
            self.parts.wish.send_modify(Wish::confirm);
        }
    }
}
