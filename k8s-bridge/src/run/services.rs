//! One Service of the loop: what is to be written, and what was.

use super::bridge::Bridge;
use super::release::Release;
use super::remind::BUDGET;
use crate::index::{Object, ObjectName, Outcome, Trouble};
use crate::status::machine::{self, Case, Next, Ready, SERVED, Write};
use crate::status::patch::{CONDITION, has_finalizer, ready};
use crate::status::reports::{FLAWS, Verdict, Why};
use crate::status::say;
use crate::status::writer::{WriteError, Wrote};
use crate::watch::From;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;
use std::time::Instant;

// === impl Bridge ===

impl Bridge {
    /// Decides what is to be done about the Service next, and begins it.
    pub(super) fn look_at(&mut self, name: &ObjectName) {
        let now = Instant::now();
        let Some(object) = self.index.service(name).cloned() else {
            self.forget(name);
            return;
        };
        let is_ours = self.index.is_to_be_served(&object);
        let is_status_ours = self.rival(name).is_none();
        let Some(record) = self.records.get_mut(name) else { return };
        if record.is_writing || record.retry_at.is_some_and(|at| now < at) {
            return;
        }
        if !is_ours {
            // Never had anything, or the index would say the same.
            record.outcome = Outcome::Release;
        }
        if matches!(record.outcome, Outcome::Serve(_))
            && has_finalizer(&object)
            && !record.held.is_empty()
        {
            let held = std::mem::take(&mut record.held);
            self.step.upsert.extend(held.into_values());
            self.carried.insert(name.clone());
            // Told with the next round of the flush.
            self.dirty.insert(name.clone());
            return;
        }
        let generation = record.generation;
        let outcome = record.outcome.clone();
        let verdict = match (&outcome, generation) {
            (Outcome::Serve(serve), Some(generation)) => {
                self.reports.judge(&serve.wanted, generation)
            }
            _ => Verdict::Pending(untold()),
        };
        let prefix = self.index.wanted_prefix(name);
        let hold = self.parts.settings.hold;
        let mut silent = Vec::new();
        let held = match (&outcome, generation) {
            (Outcome::Release, Some(generation)) => {
                let holders = self.reports.holders(&prefix, record.first(), generation);
                let new = || Release::new(hold, now, Timestamp::now());
                let held = record.release.get_or_insert_with(new).waits_for(&holders, now);
                silent = holders.silent;
                held
            }
            (Outcome::Release, None) => Some(untold()),
            (Outcome::Serve(_) | Outcome::Refuse(_), _) => None,
        };
        let waits = match (&outcome, &verdict) {
            (Outcome::Release, _) => held.as_ref(),
            (_, Verdict::Pending(why) | Verdict::Lost(why)) => Some(why),
            (_, Verdict::Served(flaw)) => flaw.as_ref(),
        };
        let is_overdue = record.is_overdue(waits.map(|why| why.reason), now);
        let case = Case {
            outcome: &outcome,
            object: &object,
            verdict: &verdict,
            held: held.as_ref(),
            is_status_ours,
            is_overdue,
        };
        match machine::next(case) {
            Next::Done => {
                record.retry_at = None;
                self.waiting.remove(name);
            }
            Next::Wait(why) => {
                self.waiting.insert(name.clone());
                // Of one that is to be served the condition says it, and the event of that write.
                let is_slow = is_overdue && outcome == Outcome::Release;
                if is_slow && record.said_slow.replace(why.reason) != Some(why.reason) {
                    record.reminder.said(now, fastrand::f64());
                    self.say_slow(name, &object, &why);
                }
            }
            Next::Write(write) => self.write(name, &object, write, now),
            Next::Released => {
                self.forget(name);
                self.index.released(name);
                let service = format!("{}/{}", name.namespace, name.name);
                let silent = silent.join("; ");
                if silent.is_empty() {
                    tracing::info!(service, generation, "released");
                } else {
                    tracing::warn!(service, generation, silent, "released, though not by all");
                }
                // The index may have more to say now that addresses are free.
                self.dirty.insert(name.clone());
            }
        }
    }

    /// Who else wrote the addresses in the Service's status.
    fn rival(&self, name: &ObjectName) -> Option<&str> {
        self.index.origin(name)?.rival()
    }

    /// Begins a write, unless another controller undoes it again and again.
    fn write(&mut self, name: &ObjectName, object: &Service, write: Write, now: Instant) {
        let Some(record) = self.records.get_mut(name) else { return };
        let start = record.fight.not_before(&write, object.metadata.generation, now);
        let times = record.fight.due(now);
        if start > now {
            self.waiting.insert(name.clone());
        } else {
            record.is_writing = true;
            if write == Write::AddFinalizer {
                // Not when it is answered: by then the watch may have brought it, and appliances may have been told.
                record.finalize(!machine::has_addresses(object));
            }
            record.was_served = ready(object).is_some_and(|ready| ready.is_served);
            self.waiting.remove(name);
            self.parts.writer.start(name.clone(), object, write);
        }
        if let Some(times) = times {
            let who = self.rival(name).unwrap_or("another controller");
            let note = format!(
                "StatusConflict: {who} has overwritten {times} times what this bridge writes to the Service; only one \
                 controller can serve it: name its class in spec.loadBalancerClass, or switch the other one off for it"
            );
            tracing::warn!(service = format!("{}/{}", name.namespace, name.name), "{note}");
            self.say(name, object, "UpdateLoadBalancerFailed", "StatusConflict", note);
        }
    }

    fn say_slow(&self, name: &ObjectName, object: &Service, why: &Why) {
        let note = format!("waits: {}", why.message);
        tracing::info!(service = format!("{}/{}", name.namespace, name.name), "going {note}");
        self.say(name, object, "DeletingLoadBalancer", why.reason, note);
    }

    /// Says again what stays wrong.
    pub(super) fn remind(&mut self, now: Instant) {
        if !self.has_begun {
            return;
        }
        let (mut due, mut budget) = (Vec::new(), BUDGET);
        for (name, record) in &mut self.records {
            if budget == 0 {
                break;
            }
            let is_slow = record.said_slow.is_some();
            let is_wrong = is_slow || self.index.service(name).is_some_and(is_wrong);
            if record.reminder.is_due(is_wrong, now, fastrand::f64()) {
                budget -= 1;
                if is_slow {
                    // Said when it is looked at, with what is waited for by then.
                    record.said_slow = None;
                    self.dirty.insert(name.clone());
                } else {
                    due.push(name.clone());
                }
            }
        }
        for name in due {
            let Some(object) = self.index.service(&name) else { continue };
            let Some(Ready { is_served, reason, message }) = ready(object) else { continue };
            let event =
                if is_served { "UpdateLoadBalancerFailed" } else { "SyncLoadBalancerFailed" };
            self.say(&name, object, event, &reason, format!("{reason}: {message}"));
        }
    }

    /// A write was carried out, or not.
    pub(super) fn wrote(&mut self, wrote: Wrote) {
        let Wrote { name, uid, write, result } = wrote;
        let Some(before) = self.index.service(&name).cloned() else { return };
        if before.metadata.uid.as_deref().unwrap_or_default() != uid {
            return;
        }
        let Some(record) = self.records.get_mut(&name) else { return };
        self.dirty.insert(name.clone());
        match result {
            Ok(object) => {
                record.succeeded();
                record.fight.wrote(&write, before.metadata.generation);
                if matches!(write, Write::Status { .. }) {
                    record.reminder.said(Instant::now(), fastrand::f64());
                }
                let (generation, was_served) = (record.generation, record.was_served);
                self.say_written(&name, &before, &write, was_served, generation);
                self.answered(&name);
                self.apply(Object::Service(object), From::Answer);
            }
            // The watch will say so, or has.
            Err(WriteError::Gone | WriteError::Fenced) => record.failed(Instant::now()),
            Err(WriteError::Failed(why)) => {
                record.failed(Instant::now());
                let service = format!("{}/{}", name.namespace, name.name);
                tracing::warn!(service, ?write, "write: {why}");
            }
        }
    }

    fn say_written(
        &self,
        name: &ObjectName,
        before: &Service,
        write: &Write,
        was_served: bool,
        generation: Option<u64>,
    ) {
        let service = format!("{}/{}", name.namespace, name.name);
        match write {
            Write::AddFinalizer | Write::ClearStatus { .. } => {}
            Write::RemoveFinalizer => {
                let note = self.farewell(name);
                self.say(name, before, "DeletedLoadBalancer", "DeletedLoadBalancer", note);
            }
            Write::Status { ready: Ready { is_served: false, reason, message }, .. } => {
                tracing::info!(service, generation, reason, "not served: {message}");
                self.say(
                    name,
                    before,
                    "SyncLoadBalancerFailed",
                    reason,
                    format!("{reason}: {message}"),
                );
            }
            Write::Status { ingress, ready: Ready { reason, message, .. } } => {
                let is_new = ready(before).is_none_or(|said| said.reason != *reason);
                if FLAWS.contains(&reason.as_str()) && is_new {
                    tracing::warn!(service, generation, reason, "served, but: {message}");
                    let note = format!("{reason}: {message}");
                    self.say(name, before, "UpdateLoadBalancerFailed", reason, note);
                }
                let reason = match (ingress, was_served) {
                    (None, true) => return,
                    (_, false) => "EnsuredLoadBalancer",
                    (Some(_), true) => "UpdatedLoadBalancer",
                };
                let there = before.status.as_ref().and_then(|s| s.load_balancer.as_ref());
                let there = there.and_then(|l| l.ingress.as_ref());
                let all = ingress.as_ref().or(there);
                let addresses: Vec<&str> =
                    all.into_iter().flatten().filter_map(|i| i.ip.as_deref()).collect();
                let addresses = addresses.join(", ");
                tracing::info!(service, generation, addresses, "served");
                self.say(name, before, reason, reason, format!("served on {addresses}"));
            }
        }
    }

    /// What is said of a Service that goes: who may still serve it.
    fn farewell(&self, name: &ObjectName) -> String {
        let prefix = self.index.wanted_prefix(name);
        let record = self.records.get(name);
        let told = record.and_then(|record| Some((record.first(), record.generation?)));
        let silent = told.map(|(first, at)| self.reports.holders(&prefix, first, at).silent);
        let silent = silent.unwrap_or_default();
        if silent.is_empty() {
            return "no appliance serves it any longer".to_owned();
        }
        format!(
            "its addresses are free, though {}; if it runs, it serves them until it can be reached",
            silent.join("; ")
        )
    }

    pub(super) fn say_troubles(&self, name: &ObjectName, troubles: Vec<Trouble>) {
        let Some(object) = self.index.service(name) else { return };
        for Trouble { reason, message } in troubles {
            self.say(
                name,
                object,
                "UpdateLoadBalancerFailed",
                reason,
                format!("{reason}: {message}"),
            );
        }
    }

    fn say(
        &self,
        name: &ObjectName,
        object: &Service,
        reason: &'static str,
        action: &str,
        note: String,
    ) {
        let about = say::service(name, object.metadata.uid.as_deref().unwrap_or_default());
        self.parts.sayer.say(about, reason, action, note);
    }
}

fn untold() -> Why {
    let message = "no appliance was told yet".to_owned();
    Why { reason: "NotProgrammed", message, is_final: false }
}

/// Its condition says something that an operator should know.
fn is_wrong(object: &Service) -> bool {
    let conditions = object.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.filter(|c| c.type_ == CONDITION).any(|c| c.status != "True" || c.reason != SERVED)
}
