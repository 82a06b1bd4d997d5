//! What tests do with Services: make them, wait for what becomes of them, ask them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::Cluster;
use super::api::Patch;
use crate::lab::client::{Attempt, Outcome, Transport, request};
use crate::lab::until;

/// How long anything that is done at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);
/// How long a client waits for an answer.
pub const PATIENCE: Duration = Duration::from_millis(900);
/// Services of the namespace that tests use.
pub const SERVICES: &str = "/api/v1/namespaces/default/services";

/// Path of a Service in the namespace `default`.
pub fn path(name: &str) -> String {
    format!("{SERVICES}/{name}")
}

/// Addresses in the status of a Service.
pub fn ingress(service: &Value) -> Vec<IpAddr> {
    let all = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|one| one.get("ip")?.as_str()?.parse().ok()).collect()
}

/// An event about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `Normal` or `Warning`.
    pub kind: String,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

impl Cluster {
    /// Makes a Service in the namespace `default`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn create_service(&self, service: &Value) -> Result<Value> {
        self.api().create(SERVICES, service)
    }

    /// Changes a Service by a merge patch.
    ///
    /// # Errors
    /// When it is refused.
    pub fn change_service(&self, name: &str, change: &Value) -> Result<Value> {
        self.api().patch(&path(name), Patch::Merge, change)
    }

    /// Waits until a Service has so many addresses; returns them.
    ///
    /// # Errors
    /// When it has not in time: its status and what was said about it.
    pub fn wait_addresses(&self, name: &str, count: usize) -> Result<Vec<IpAddr>> {
        until(&format!("{name} to have {count} addresses"), SOON, || {
            let service = self.api().object(&path(name))?;
            let found = ingress(&service);
            ensure!(
                found.len() == count,
                "{:?}; events: {:?}",
                service.get("status"),
                self.events(name)?
            );
            Ok(found)
        })
        .map(|(found, _)| found)
    }

    /// Waits until a Service has one address; returns it.
    ///
    /// # Errors
    /// As [`Cluster::wait_addresses`].
    pub fn wait_address(&self, name: &str) -> Result<IpAddr> {
        self.wait_addresses(name, 1)?.first().copied().context("no address")
    }

    /// One request of the client.
    ///
    /// # Errors
    /// When the client's namespace is gone.
    pub fn ask(&self, transport: Transport, ip: IpAddr, port: u16) -> Result<Attempt> {
        self.client.run(|| request(transport, SocketAddr::new(ip, port), PATIENCE))
    }

    /// Asks until the outcome is as wanted; returns how long that took.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_outcome(
        &self,
        (transport, ip, port): (Transport, IpAddr, u16),
        what: &str,
        wanted: impl Fn(&Outcome) -> bool,
    ) -> Result<Duration> {
        until(&format!("{transport:?} to {ip} port {port} to be {what}"), SOON, || {
            let attempt = self.ask(transport, ip, port)?;
            ensure!(wanted(&attempt.outcome), "{}", attempt.outcome);
            Ok(())
        })
        .map(|((), took)| took)
    }

    /// Asks until a pod answers that sees the client's own address and port.
    ///
    /// # Errors
    /// When none does in time.
    pub fn wait_answer(&self, transport: Transport, ip: IpAddr, port: u16) -> Result<Duration> {
        self.wait_outcome(
            (transport, ip, port),
            "answered by a pod that sees the client",
            |outcome| matches!(outcome, Outcome::Answered { seen, local } if seen.client == *local),
        )
    }

    /// Asks until the client is actively refused.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_refused(&self, transport: Transport, ip: IpAddr, port: u16) -> Result<Duration> {
        self.wait_outcome((transport, ip, port), "refused", |outcome| *outcome == Outcome::Refused)
    }

    /// Waits until the router has routes to these addresses.
    ///
    /// # Errors
    /// When it has not in time.
    pub fn wait_routed(&self, addresses: &[IpAddr]) -> Result<Duration> {
        let nets: Vec<IpNet> = addresses.iter().map(|ip| (*ip).into()).collect();
        self.wait_routes(&nets, SOON)
    }

    /// Waits until the router has no route to these addresses.
    ///
    /// # Errors
    /// When it still has one at the deadline.
    pub fn wait_unrouted(&self, addresses: &[IpAddr]) -> Result<Duration> {
        let nets: Vec<IpNet> = addresses.iter().map(|ip| (*ip).into()).collect();
        self.router.wait_no_routes(&nets, SOON)
    }

    /// What was said about an object of this name in the namespace `default`.
    ///
    /// # Errors
    /// When the API does not answer.
    pub fn events(&self, name: &str) -> Result<Vec<Said>> {
        let selector = format!("fieldSelector=involvedObject.name%3D{name}");
        let all = self.api().list(&format!("/api/v1/namespaces/default/events?{selector}"))?;
        let text = |event: &Value, key: &str| {
            event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Ok(all
            .iter()
            .map(|event| Said {
                kind: text(event, "type"),
                reason: text(event, "reason"),
                message: text(event, "message"),
            })
            .collect())
    }

    /// Waits until an event with this reason, and this word in its message, is there.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn wait_event(&self, name: &str, reason: &str, word: &str) -> Result<Said> {
        until(&format!("an event {reason} about {name} with {word:?}"), SOON, || {
            let all = self.events(name)?;
            let found =
                all.iter().find(|said| said.reason == reason && said.message.contains(word));
            found.cloned().with_context(|| format!("{all:?}"))
        })
        .map(|(said, _)| said)
    }

    /// Deletes a Service and waits until it is gone; returns how long that took.
    ///
    /// # Errors
    /// When it is still there at the deadline.
    pub fn delete_service(&self, name: &str) -> Result<Duration> {
        self.api().delete(&path(name))?;
        self.api().wait_gone(&path(name), SOON)
    }

    /// Deletes an object of ours that is cluster-wide.
    ///
    /// # Errors
    /// When it is refused.
    pub fn delete_pool(&self, name: &str) -> Result<()> {
        self.api().delete(&format!("/apis/sluice.dev/v1alpha1/addresspools/{name}"))
    }
}

/// A Service of one HTTP port over the backends of `app`.
pub fn plain(name: &str, app: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": super::bridge::CLASS,
            "selector": { "app": app },
            "ports": [{ "name": "http", "port": port, "targetPort": crate::lab::backend::HTTP_PORT }],
        },
    })
}
