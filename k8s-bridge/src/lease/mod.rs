//! Who of the replicas acts: a Lease, and the task that keeps it.
//!
//! A crate for this was looked at: `kube-lease-manager` compares the holder's wall clock with its own, and the number of
//! transitions, which our generations are made of, is not its caller's to see.

pub mod machine;

use crate::metrics::Metrics;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use machine::{Claim, Input, Machine, Output, Seen, Standing, Timing};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// How long the API server is waited for when the Lease is given away.
const GIVE_AWAY: Duration = Duration::from_secs(3);

/// Says at any moment whether this replica may act. A process that was stopped for a while learns it here before its
/// tasks have noticed.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<Mutex<Option<Instant>>>);

// === impl Fence ===

impl Fence {
    /// This replica may act now.
    #[must_use]
    pub fn may_act(&self) -> bool {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// One that is open for ever, where there is no Lease.
    #[must_use]
    pub fn open() -> Self {
        let year = Duration::from_secs(365 * 86_400);
        Fence(Arc::new(Mutex::new(Some(Instant::now() + year))))
    }
}

/// The Lease to keep.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Who we are, `POD_RANDOM`.
    pub identity: String,
    /// How patient we are.
    pub timing: Timing,
}

/// The task that keeps the Lease, and what it says.
pub struct Keeper {
    /// Whether this replica leads.
    pub standing: watch::Receiver<Standing>,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

// === impl Keeper ===

impl Keeper {
    /// Begins to compete for the Lease of this namespace; the fence is open while it is ours.
    #[must_use]
    pub fn start(
        client: Client,
        namespace: &str,
        settings: Settings,
        fence: Fence,
        metrics: Arc<Metrics>,
    ) -> Self {
        let leases = Api::namespaced(client, namespace);
        let (standing_in, standing) = watch::channel(Standing::Unknown);
        let (end, lease_end) = oneshot::channel();
        let keep = keep(leases, settings, standing_in, fence, metrics, lease_end);
        Keeper { standing, end, task: tokio::spawn(keep) }
    }

    /// Gives the Lease away, so that another replica need not wait until it runs out.
    pub async fn give_away(self) {
        // The task may have ended already.
        let _ended = self.end.send(());
        tokio::time::timeout(GIVE_AWAY, self.task).await.ok();
    }
}

/// Competes for the Lease until `end` fires or its sender is gone, then gives it away.
async fn keep(
    api: Api<Lease>,
    settings: Settings,
    standing: watch::Sender<Standing>,
    fence: Fence,
    metrics: Arc<Metrics>,
    mut end: oneshot::Receiver<()>,
) {
    let mut machine = Machine::new(settings.identity.clone(), settings.timing, Instant::now());
    let mut acquired = None;
    let mut is_ending = false;
    loop {
        let mut request = None;
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Standing(now) => {
                    if !matches!(now, Standing::Leader { .. }) {
                        acquired = None;
                    }
                    fence.set(machine.may_act_until());
                    standing.send_replace(now);
                }
                other => request = Some(other),
            }
        }
        fence.set(machine.may_act_until());
        if is_ending && request.is_none() {
            return;
        }
        let is_asking = request.is_some();
        let answer = async {
            match request {
                Some(output) => carry(&api, &settings, output, &mut acquired, &metrics).await,
                None => std::future::pending().await,
            }
        };
        // An answer that comes after the term's end must not be waited for, so the deadline counts beside it.
        let deadline = machine.next_deadline();
        let input = tokio::select! {
            biased;
            input = answer => input,
            _ = &mut end, if !is_ending => {
                is_ending = true;
                Input::Release
            }
            () = tokio::time::sleep_until(deadline.into()) => Input::Time,
        };
        if is_asking && matches!(input, Input::Time) {
            // The request was given up; whether it was carried out is not known.
            machine.handle(Input::Failed, Instant::now());
        }
        if is_ending && !matches!(input, Input::Release) {
            return;
        }
        machine.handle(input, Instant::now());
    }
}

async fn carry(
    api: &Api<Lease>,
    settings: &Settings,
    output: Output,
    acquired: &mut Option<Timestamp>,
    metrics: &Metrics,
) -> Input {
    let (verb, result) = match output {
        Output::Write(claim) => {
            let verb = if claim.version.is_some() { "update" } else { "create" };
            let lease = lease_of(settings, &claim, acquired);
            let params = PostParams::default();
            let result = match claim.version {
                Some(_) => api.replace(&settings.name, &params, &lease).await,
                None => api.create(&params, &lease).await,
            };
            (verb, result.map(|lease| Input::Written(seen(&lease))))
        }
        Output::Read | Output::Standing(_) => {
            let result = api.get_opt(&settings.name).await;
            ("get", result.map(|lease| Input::Read(lease.as_ref().map(seen))))
        }
    };
    metrics.api(verb, "Lease", result.as_ref().err());
    result.unwrap_or_else(|error| {
        tracing::warn!(
            lease = settings.name,
            verb,
            "lease: {}",
            crate::push::client::chain(&error)
        );
        Input::Failed
    })
}

fn lease_of(settings: &Settings, claim: &Claim, acquired: &mut Option<Timestamp>) -> Lease {
    let now = Timestamp::now();
    let begun = *acquired.get_or_insert(now);
    // A Lease that is given away is free at once, whoever reads its duration.
    let seconds = if claim.holder.is_empty() { 1 } else { settings.timing.duration.as_secs() };
    Lease {
        metadata: ObjectMeta {
            name: Some(settings.name.clone()),
            resource_version: claim.version.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(claim.holder.clone()),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            lease_transitions: i32::try_from(claim.transitions).ok(),
            acquire_time: Some(MicroTime(begun)),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    Seen {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        transitions: spec.lease_transitions.and_then(|t| u32::try_from(t).ok()).unwrap_or_default(),
    }
}
