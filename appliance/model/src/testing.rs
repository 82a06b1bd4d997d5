//! Services as tests need them. What a test does not care about is spelled here alone, so that a new field is as well.

#![expect(clippy::unwrap_used, reason = "a panic in a test's helper is the report")]

use crate::observed::RouteAttributes;
use crate::service::{Backend, NoBackend, OnDown, Protocol, Service, ServiceName};
use std::sync::Arc;
use std::time::Duration;

/// A plain service: TCP port 80 on these VIPs over these backends, each with its weight; no health check, and nothing that
/// is not asked for. Other values by struct update: `Service { port: 81, ..service("web", &["203.0.113.1"], &[]) }`.
///
/// # Panics
/// When an address is none.
pub fn service(name: &str, vips: &[&str], backends: &[(&str, u16)]) -> Service {
    let backend = |&(address, weight): &(&str, u16)| Backend {
        address: str::parse(address).unwrap(),
        weight,
    };
    Service {
        name: ServiceName(name.to_owned()),
        vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
        secondary_vips: Vec::new(),
        port: 80,
        protocol: Protocol::Tcp,
        backends: backends.iter().map(backend).collect(),
        health: None,
        on_down: OnDown::Reset,
        no_backend: NoBackend::Reject,
        idle_timeout: Duration::from_secs(60),
        source_ranges: Arc::default(),
        affinity: None,
        full_nat: Arc::default(),
        nat64: false,
        route: RouteAttributes::default(),
        is_configured: false,
    }
}
