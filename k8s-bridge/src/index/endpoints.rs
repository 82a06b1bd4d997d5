//! Endpoints of one Service port from its EndpointSlices (KEP-1669, KEP-1672).

use k8s_openapi::api::discovery::v1::EndpointSlice;
use sluice_api::WantedBackend;
use std::collections::BTreeMap;

/// Pods that answer on the port of this name and protocol (`TCP`, `UDP`), over all slices and both families, sorted.
///
/// New flows go to ready ones; when there are none, to those that terminate and still serve. While ready ones exist,
/// the terminating ones are kept with weight 0, so that their flows stay.
pub(super) fn pods<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port_name: &str,
    protocol: &str,
) -> Vec<WantedBackend> {
    let mut ready_of = BTreeMap::<(String, u16), bool>::new();
    for slice in slices.filter(|s| s.address_type != "FQDN") {
        let ports: Vec<u16> = slice
            .ports
            .iter()
            .flatten()
            .filter(|p| p.name.as_deref().unwrap_or_default() == port_name)
            .filter(|p| p.protocol.as_deref().unwrap_or("TCP") == protocol)
            .filter_map(|p| u16::try_from(p.port?).ok())
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let of = endpoint.conditions.as_ref();
            let ready = of.and_then(|c| c.ready).unwrap_or(true);
            let serving = of.and_then(|c| c.serving).unwrap_or(true);
            let terminating = of.and_then(|c| c.terminating).unwrap_or(false);
            if !(ready || serving && terminating) {
                continue;
            }
            for address in &endpoint.addresses {
                for port in &ports {
                    *ready_of.entry((address.clone(), *port)).or_default() |= ready;
                }
            }
        }
    }
    // Each family counts for itself: a VIP only reaches backends of its own.
    let any_ready = |v6: bool| ready_of.iter().any(|((a, _), r)| *r && a.contains(':') == v6);
    let (any4, any6) = (any_ready(false), any_ready(true));
    ready_of
        .into_iter()
        .map(|((address, port), ready)| {
            let others = if address.contains(':') { any6 } else { any4 };
            WantedBackend { address, port, weight: u16::from(ready || !others) }
        })
        .collect()
}
