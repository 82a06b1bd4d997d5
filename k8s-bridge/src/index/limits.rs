//! What an appliance holds of one Service, and what is left out of a larger one. Told as a whole, an appliance would refuse
//! the change and go on with endpoints that are long gone.
//!
//! Only the Service itself is looked at: frontends of two Services that share endpoints are counted by the appliance, which
//! reports what it leaves out.

use super::vocabulary::{LeftOut, Unserved};
use super::{Trouble, trouble};
use sluice_api::{WantedBackend, WantedService};
use sluice_model::{MAX_BACKENDS_PER_FRONTEND, MAX_FRONTENDS_PER_BACKEND, Surplus};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Ports that a message names.
const MAX_NAMED: usize = 5;

/// What is left out.
#[derive(Default)]
pub(super) struct Cut {
    pub(super) troubles: Vec<Trouble>,
    pub(super) unserved: Vec<Unserved>,
    pub(super) left_out: LeftOut,
}

/// Frontends by endpoint, its port included.
type Crowd = BTreeMap<(String, u16, &'static str), usize>;

/// Leaves of a Service's ports, in the order of its spec, what there is a place for.
pub(super) fn cut(wanted: &mut Vec<WantedService>) -> Cut {
    let mut cut = Cut::default();
    let (mut long, mut crowded) = (Vec::new(), Vec::new());
    let mut crowd = Crowd::new();
    wanted.retain_mut(|one| {
        let name = format!("{}/{}", one.port, one.protocol.as_str().to_ascii_uppercase());
        let surplus = surplus(&mut one.backends);
        if surplus > 0 {
            cut.left_out.endpoints += surplus;
            long.push(name.clone());
        }
        let there = one.backends.len();
        admit(one, &mut crowd);
        if one.backends.len() == there {
            return true;
        }
        crowded.push(name);
        if !one.backends.is_empty() {
            cut.left_out.endpoints += there - one.backends.len();
            return true;
        }
        cut.left_out.ports += 1;
        cut.unserved.push(Unserved {
            port: one.port.into(),
            protocol: one.protocol.as_str().to_ascii_uppercase(),
            error: "sluice.dev/TooManyPorts",
        });
        false
    });
    if !long.is_empty() {
        let what = format!(
            "new connections to {} go to {MAX_BACKENDS_PER_FRONTEND} of the endpoints, which is as many as an appliance \
             holds for one port; use fewer or larger ones, or nodes as endpoints",
            listed(&long)
        );
        cut.troubles.push(trouble("TooManyEndpoints", what));
    }
    if !crowded.is_empty() {
        let what = format!(
            "{} lead to endpoints which {MAX_FRONTENDS_PER_BACKEND} other ports and addresses lead to, as many as an \
             appliance can tell apart, and are served without those; give them target ports of their own",
            listed(&crowded)
        );
        cut.troubles.push(trouble("TooManyPorts", what));
    }
    cut
}

/// Leaves those for which there is a place; each family has its own. Returns how many get no new flows.
fn surplus(backends: &mut Vec<WantedBackend>) -> usize {
    let mut sum = 0;
    for v6 in [false, true] {
        let of = |b: &WantedBackend| socket(b).filter(|address| address.is_ipv6() == v6);
        let surplus = Surplus::of(backends.iter().filter_map(|b| Some((of(b)?, b.weight))));
        sum += surplus.len();
        backends.retain_mut(|backend| {
            let Some(address) = of(backend) else { return true };
            let left = surplus.weight(address, backend.weight);
            backend.weight = left.unwrap_or_default();
            left.is_some()
        });
    }
    sum
}

/// Takes the endpoints away to which too many frontends lead already.
fn admit(one: &mut WantedService, crowd: &mut Crowd) {
    let vips: Vec<bool> =
        one.vips.iter().chain(&one.secondary_vips).map(|vip| vip.contains(':')).collect();
    let (nat64, protocol) = (one.nat64, one.protocol.as_str());
    one.backends.retain(|backend| {
        let v6 = backend.address.contains(':');
        // Under NAT64 IPv4 endpoints answer for both families.
        let frontends = vips.iter().filter(|vip| **vip == v6 || nat64 && !v6).count();
        let key = (backend.address.clone(), backend.port, protocol);
        let count = crowd.entry(key).or_default();
        let has_place = *count + frontends <= MAX_FRONTENDS_PER_BACKEND;
        if has_place {
            *count += frontends;
        }
        has_place
    });
}

fn socket(backend: &WantedBackend) -> Option<SocketAddr> {
    let ip: IpAddr = backend.address.parse().ok()?;
    Some(SocketAddr::new(ip, backend.port))
}

/// The first of them.
fn listed(ports: &[String]) -> String {
    let some = ports.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match ports.len().saturating_sub(MAX_NAMED) {
        0 => some,
        more => format!("{some} and {more} others"),
    }
}
