//! Makes what is equal to what should be: the only code that executes steps.
//!
//! A pass is observe, difference, apply. First start, periodic resync and a single change are the same code. A step
//! that fails is kept, shown, and tried again later; the steps of other services do not wait for it. An address that cannot
//! be had is not left half done: see [`Reconciler::give_back`].

mod backoff;
mod port;
#[cfg(test)]
mod tests;

pub(crate) use backoff::pause;
pub(crate) use port::{
    AddressPort, AddressState, DataPlanePort, DataPlaneState, Prospect, RoutePort,
};

use backoff::{Failure, Failures};
use sluice_model::{Desired, Generation, Health, Observed, Reserved, ServiceName};
use sluice_plan::{Step, plan};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// What a pass starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// The world as the last pass left it: for a verdict that must take effect in a millisecond.
    Memory,
    /// The world, read back: tens of milliseconds for full maps.
    World,
}

/// Executes plans through three ports.
pub(crate) struct Reconciler<D, A, R> {
    pub(crate) data_plane: D,
    pub(crate) addresses: A,
    pub(crate) routes: R,
    failures: Failures,
    observed: Observed,
    programmed: Generation,
    /// The last pass left nothing undone.
    complete: bool,
    /// The desired state of the last pass: it names the services of what is being removed.
    previous: Desired,
    /// Why the last pass could not see the world.
    blind: Option<String>,
    /// The memory may be wrong: nothing was read yet, or a step that failed may have had some effect.
    doubtful: bool,
}

// === impl Reconciler ===

impl<D: DataPlanePort, A: AddressPort, R: RoutePort> Reconciler<D, A, R> {
    pub(crate) fn new(data_plane: D, addresses: A, routes: R) -> Self {
        Reconciler {
            data_plane,
            addresses,
            routes,
            failures: Failures::default(),
            observed: Observed::default(),
            programmed: Generation::default(),
            complete: false,
            previous: Desired::default(),
            blind: None,
            doubtful: true,
        }
    }

    /// The world as the last pass left it.
    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// The newest generation that was completely in place.
    pub(crate) fn programmed(&self) -> Generation {
        self.programmed
    }

    /// True when the last pass left nothing undone.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// What does not work, one sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.blind.iter().cloned().chain(self.failures.sentences()).collect()
    }

    /// What does not work, by service.
    pub(crate) fn failures(&self) -> BTreeMap<String, String> {
        let of = |failure: &Failure| {
            let services: Vec<String> = failure.services().map(str::to_owned).collect();
            services.into_iter().map(|service| (service, failure.words())).collect::<Vec<_>>()
        };
        self.failures.iter().flat_map(of).collect()
    }

    /// When something that failed should be tried again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.failures.next_attempt()
    }

    /// Reads the world back.
    ///
    /// # Errors
    /// When a part of it cannot be read: nothing may be decided then.
    pub(crate) async fn observe(&mut self) -> anyhow::Result<&Observed> {
        let (programs, guarded, attached) = self.data_plane.read().await?;
        let (addresses, host) = self.addresses.addresses().await?;
        let announced = self.routes.announced();
        self.observed = Observed { programs, guarded, addresses, host, attached, announced };
        self.doubtful = false;
        Ok(&self.observed)
    }

    /// One pass. Not cancel-safe: a step may be half done.
    pub(crate) async fn pass(
        &mut self,
        desired: &Desired,
        health: &Health,
        reserved: &Reserved,
        look: Look,
        now: Instant,
    ) {
        if (look == Look::World || self.doubtful) && !self.sees().await {
            self.complete = false;
            return;
        }
        let steps = plan(desired, &self.observed, health, reserved);
        self.complete = self.execute(&steps, desired, now).await;
        self.failures.retain(&steps);
        if self.complete {
            self.programmed = desired.generation();
        }
        if self.previous != *desired {
            self.previous = desired.clone();
        }
    }

    /// Reads the world back; says so once when that is not possible.
    async fn sees(&mut self) -> bool {
        let problem = match self.observe().await {
            Ok(_) => None,
            Err(error) => Some(format!("cannot read back what is in place: {error:#}")),
        };
        if let Some(problem) = problem.as_ref().filter(|_| self.blind != problem) {
            tracing::error!("{problem}");
        }
        self.blind = problem;
        self.blind.is_none()
    }

    /// Executes what the rules of order allow; true when nothing is left.
    async fn execute(&mut self, steps: &[Step], desired: &Desired, now: Instant) -> bool {
        let mut complete = true;
        let mut routes_changed = false;
        let mut tries = self.failures.pass();
        for step in steps {
            // Routes are handed over as a whole: once after a run of steps that change them.
            if routes_changed && !step.is_route() {
                self.routes.announce(&self.observed.announced);
                routes_changed = false;
            }
            let service = self.label(step, desired);
            if let Err(blocked) = step.allowed(&self.observed) {
                tracing::debug!(service, generation = desired.generation().0, %step, %blocked, "waits");
                complete = false;
                continue;
            }
            if !self.failures.may_try(step, &tries, now) || self.waits_for_address(step, now) {
                complete = false;
                continue;
            }
            match self.apply(step).await {
                Ok(()) => {
                    tracing::info!(service, generation = desired.generation().0, %step, "done");
                    self.failures.succeeded(step);
                    if frees(step, &self.observed) {
                        self.failures.freed(now);
                    }
                    step.apply(&mut self.observed);
                    routes_changed |= step.is_route();
                }
                Err(error) => {
                    let prospect = self.data_plane.prospect(&error);
                    let error = format!("{error:#}");
                    if tries.failed(&error) {
                        tracing::warn!(service, generation = desired.generation().0, %step, error, ?prospect, "failed");
                    }
                    self.failures.failed(step, error, prospect, &service, now);
                    self.doubtful = true;
                    complete = false;
                    self.give_back(step).await;
                }
            }
        }
        if routes_changed {
            self.routes.announce(&self.observed.announced);
        }
        for (error, others) in tries.others() {
            tracing::warn!(others, error, "others failed likewise");
        }
        complete
    }

    /// A guard is of no use before its address can be had, and harms whoever has the address.
    fn waits_for_address(&self, step: &Step, now: Instant) -> bool {
        let is_refused = |vip: &IpAddr| {
            !self.observed.addresses.contains(vip)
                && !self.failures.is_due(&Step::AddVip(*vip), now)
        };
        matches!(step, Step::GuardVip(vip) if is_refused(vip))
    }

    /// An address that could not be had may be somebody else's, so its guard goes at once: the guard of an address that is
    /// the host's own would lock everybody out of the host.
    async fn give_back(&mut self, failed: &Step) {
        let Step::AddVip(vip) = failed else { return };
        let unguard = Step::UnguardVip(*vip);
        if !self.observed.guarded.contains(vip) || unguard.allowed(&self.observed).is_err() {
            return;
        }
        match self.apply(&unguard).await {
            Ok(()) => unguard.apply(&mut self.observed),
            // The next look finds the guard, and the plan for it.
            Err(error) => tracing::error!(%vip, "cannot stop guarding it: {error:#}"),
        }
    }

    async fn apply(&self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::PutProgram(frontend, program) => {
                self.data_plane.put_program(*frontend, program).await
            }
            Step::RemoveProgram(frontend) => self.data_plane.remove_program(*frontend).await,
            Step::GuardVip(vip) => self.data_plane.guard(*vip).await,
            Step::UnguardVip(vip) => self.data_plane.unguard(*vip).await,
            Step::AddVip(vip) => self.addresses.add(*vip).await,
            Step::RemoveVip(vip) => self.addresses.remove(*vip).await,
            // Handed over as a whole, after the run.
            Step::Announce(..) | Step::Withdraw(_) => Ok(()),
        }
    }

    /// The services a step is about; those of the state before when it removes something.
    fn label(&self, step: &Step, desired: &Desired) -> String {
        let named = |desired: &Desired| -> BTreeSet<ServiceName> {
            match step.frontend() {
                Some(frontend) => desired.owner(frontend).cloned().into_iter().collect(),
                None => desired.services_on(step.vip()).cloned().collect(),
            }
        };
        let mut names = named(desired);
        if names.is_empty() {
            names = named(&self.previous);
        }
        let names: Vec<&str> = names.iter().map(|name| name.0.as_str()).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(",") }
    }
}

/// True when the step, once done, leaves more room than before. A program that replaces another one may have fewer backends.
fn frees(step: &Step, before: &Observed) -> bool {
    match step {
        Step::RemoveProgram(_) | Step::UnguardVip(_) => true,
        Step::PutProgram(frontend, _) => before.programs.contains_key(frontend),
        Step::Withdraw(_)
        | Step::GuardVip(_)
        | Step::AddVip(_)
        | Step::Announce(..)
        | Step::RemoveVip(_) => false,
    }
}
