//! One Service of the loop: what is to be written, and what was.

use super::bridge::Bridge;
use crate::index::{Object, ObjectName, Outcome, Settings, Trouble};
use crate::status::machine::{self, Case, Next, Ready, Write};
use crate::status::patch::{has_finalizer, ready};
use crate::status::reports::{Verdict, Why};
use crate::status::say;
use crate::status::writer::{WriteError, Wrote};
use k8s_openapi::api::core::v1::Service;
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
        let is_ours = is_ours(&object, self.index.settings());
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
            _ => Verdict::Pending(Why {
                reason: "NotProgrammed",
                message: "no appliance was told yet".to_owned(),
                is_final: false,
            }),
        };
        let is_overdue = match &verdict {
            Verdict::Pending(why) | Verdict::Lost(why) => record.waits_for(why.reason, now),
            Verdict::Served => {
                record.waits_no_more();
                false
            }
        };
        let prefix = format!("{}/{}/{}/", self.index.settings().source, name.namespace, name.name);
        let is_gone =
            generation.is_some_and(|generation| self.reports.is_gone(&prefix, generation));
        let case =
            Case { outcome: &outcome, object: &object, verdict: &verdict, is_gone, is_overdue };
        let next = machine::next(case);
        let Some(record) = self.records.get_mut(name) else { return };
        match next {
            Next::Done => {
                record.retry_at = None;
                self.waiting.remove(name);
            }
            Next::Wait(why) => {
                self.waiting.insert(name.clone());
                // What was lost is said by the condition, and its event with it.
                let is_slow = is_overdue && !matches!(verdict, Verdict::Lost(_));
                if is_slow && !std::mem::replace(&mut record.is_said_slow, true) {
                    let (reason, what) = match outcome {
                        Outcome::Release => ("DeletingLoadBalancer", "waits"),
                        Outcome::Serve(_) | Outcome::Refuse(_) => ("EnsuringLoadBalancer", "waits"),
                    };
                    self.say(name, &object, reason, reason, format!("{what}: {}", why.message));
                }
            }
            Next::Write(write) => {
                record.is_writing = true;
                record.was_served = ready(&object).is_some_and(|ready| ready.is_served);
                self.waiting.remove(name);
                self.parts.writer.start(name.clone(), &object, write);
            }
            Next::Released => {
                self.forget(name);
                self.index.released(name);
                let service = format!("{}/{}", name.namespace, name.name);
                tracing::info!(service, generation, "released");
                // The index may have more to say now that addresses are free.
                self.dirty.insert(name.clone());
            }
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
                let (generation, was_served) = (record.generation, record.was_served);
                self.say_written(&name, &before, &write, was_served, generation);
                self.apply(Object::Service(object));
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
            Write::AddFinalizer | Write::ClearStatus => {}
            Write::RemoveFinalizer => {
                let note = "no appliance serves it any longer".to_owned();
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
            Write::Status { ingress, .. } => {
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

/// The index decides; this only tells a Service that turned away before it had anything.
fn is_ours(object: &Service, settings: &Settings) -> bool {
    let is_class = |class: &Option<String>| match class {
        Some(class) => *class == settings.class,
        None => settings.default_class,
    };
    object.metadata.deletion_timestamp.is_none()
        && object.spec.as_ref().is_some_and(|spec| {
            spec.type_.as_deref() == Some("LoadBalancer") && is_class(&spec.load_balancer_class)
        })
}
