//! `sluice-bridge uninstall`: takes from the appliances and from Services what bridges of this cluster have put there.
//!
//! It holds the Lease meanwhile, so no bridge is at work, and none begins. Appliances come first: an address is free in the
//! cluster's eyes only when it is announced no longer.

use crate::http::Health;
use crate::index::{Origin, field_manager};
use crate::lease::{Fence, Keeper, machine::Standing};
use crate::metrics::Metrics;
use crate::push::client::{Appliance, chain};
use crate::run::{Settings, identity};
use crate::status::machine::Write;
use crate::status::patch::{has_finalizer, ready};
use crate::status::writer::{is_gone, send};
use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a bridge that runs may take to end: pods have ten seconds, and a Lease that is not given away runs out in
/// fifteen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Services read at a time.
const PAGE: u32 = 500;

/// Undoes what the bridge has done.
///
/// # Errors
/// A bridge runs, the API server refuses, or an appliance cannot be told; everything else was done then.
pub async fn uninstall(mut settings: Settings, client: Client) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let owner = identity(&client, &Health::default(), &metrics).await?;
    settings.name_source(&owner);
    let fence = Fence::default();
    let keeper = Keeper::start(
        client.clone(),
        &settings.namespace,
        settings.lease.clone(),
        fence.clone(),
        Arc::clone(&metrics),
    );
    lead(keeper.standing.clone(), &settings.namespace).await?;
    let failed = forget(&settings, &owner, &fence).await;
    let manager = field_manager(&settings.index.class);
    let count = release(&client, &manager, &fence).await?;
    tracing::info!(count, "Services released");
    keeper.give_away().await;
    let source = &settings.index.source;
    ensure!(
        failed.is_empty(),
        "Services are released, but these appliances may still serve them; run `sluice sources forget {source}` there: {}",
        failed.join("; ")
    );
    Ok(())
}

/// Waits until this process holds the Lease.
async fn lead(mut standing: watch::Receiver<Standing>, namespace: &str) -> anyhow::Result<()> {
    let mut other = String::new();
    let wait = async {
        loop {
            let now = standing.borrow_and_update().clone();
            match now {
                Standing::Leader { .. } => return Ok(()),
                Standing::Follower { leader } => {
                    tracing::info!(leader, "waits until this bridge has ended");
                    other = leader;
                }
                Standing::Unknown => {}
            }
            standing.changed().await.context("the task that keeps the Lease has ended")?;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await;
    in_time.unwrap_or_else(|_| {
        anyhow::bail!(
            "bridge {other:?} still runs; end it with `kubectl -n {namespace} scale deployment sluice-bridge --replicas=0`"
        )
    })
}

/// Takes the source from every appliance; returns which could not be told, and why.
async fn forget(settings: &Settings, owner: &str, fence: &Fence) -> Vec<String> {
    let mut failed = Vec::new();
    for url in &settings.appliances {
        let source = &settings.index.source;
        let appliance = Appliance::new(url, source, settings.files.clone(), fence.clone());
        match appliance.forget(owner).await {
            Ok(()) => tracing::info!(appliance = url, source, "serves nothing of it any longer"),
            Err(failure) => {
                tracing::warn!(appliance = url, source, "appliance {failure}");
                failed.push(format!("{url} {failure}"));
            }
        }
    }
    failed
}

/// Takes status and finalizer from every Service that has them from the bridge for this class; returns how many.
async fn release(client: &Client, manager: &str, fence: &Fence) -> anyhow::Result<usize> {
    let all: Api<Service> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut count = 0;
    loop {
        let page = all.list(&params).await.context("cannot list Services")?;
        for service in &page.items {
            count += usize::from(release_one(client, service, manager, fence).await?);
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(count);
        }
    }
}

async fn release_one(
    client: &Client,
    service: &Service,
    manager: &str,
    fence: &Fence,
) -> anyhow::Result<bool> {
    let origin = Origin::of(service, manager);
    let with_addresses = origin.is_ingress_ours;
    let mut writes = Vec::new();
    if with_addresses || ready(service).is_some() {
        writes.push(Write::ClearStatus { with_addresses });
    }
    if origin.is_finalizer_ours && has_finalizer(service) {
        writes.push(Write::RemoveFinalizer);
    }
    let name = service.name_any();
    let namespace = service.namespace().unwrap_or_default();
    let api: Api<Service> = Api::namespaced(client.clone(), &namespace);
    for write in &writes {
        ensure!(fence.may_act(), "another bridge has begun; end it and try again");
        let body = write.body(service, Timestamp::now());
        match send(&api, manager, &name, write, body).await {
            Ok(_) => {}
            Err(error) if is_gone(&error) => break,
            Err(error) => {
                anyhow::bail!("Service {name} of namespace {namespace}: {}", chain(&error))
            }
        }
    }
    Ok(!writes.is_empty())
}
