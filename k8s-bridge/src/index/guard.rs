//! Which addresses are no endpoints. Who may write an EndpointSlice could reach through a VIP, and ask with its health
//! check, what only appliances and nodes reach: the metadata service of a cloud, a kubelet, the API server.

use super::slices::Slice;
use super::{Index, ObjectName, Trouble, trouble};
use k8s_openapi::api::core::v1::ServiceSpec;
use sluice_model::Class;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services of clouds that are not link-local: EC2's over IPv6, Azure's, Alibaba's.
const METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// An event has room for 1024 characters; these leave some for what is to be done.
const MAX_NAMED: usize = 5;

/// Endpoints of one Service that are refused, each with the reason.
#[derive(Default)]
pub(super) struct Refused {
    /// What nobody may have.
    always: BTreeMap<IpAddr, String>,
    /// What those have whom the controller of EndpointSlices vouches for: pods in the network of their node.
    unless_vouched: BTreeMap<IpAddr, String>,
}

// === impl Refused ===

impl Refused {
    /// True when packets may be sent to this endpoint of the slice.
    pub(super) fn permits(&self, slice: &Slice, has_selector: bool, address: IpAddr) -> bool {
        !self.always.contains_key(&address)
            && (slice.is_vouched(has_selector) || !self.unless_vouched.contains_key(&address))
    }

    /// What is said about it.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let all: BTreeMap<_, _> = self.always.iter().chain(&self.unless_vouched).collect();
        if all.is_empty() {
            return None;
        }
        let named = all.iter().take(MAX_NAMED).map(|(address, why)| format!("{address} {why}"));
        let mut named = named.collect::<Vec<_>>().join(", ");
        if let Some(more) = all.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            named = format!("{named}, and {more} more");
        }
        let what = format!(
            "endpoints are left out: {named}; take them out of the EndpointSlices, or see --allow-endpoints of the bridge"
        );
        Some(trouble("EndpointsRefused", what))
    }
}

// === impl Index ===

impl Index {
    /// Endpoints of a Service that are refused, and whether that depends on nodes or the API server.
    pub(super) fn refused_endpoints(
        &self,
        name: &ObjectName,
        spec: &ServiceSpec,
    ) -> (Refused, bool) {
        let mut refused = Refused::default();
        let mut depends = false;
        for slice in self.slices.of(name) {
            let is_vouched = slice.is_vouched(has_selector(spec));
            depends |= !is_vouched && !slice.endpoints.is_empty();
            for address in slice.endpoints.iter().map(|endpoint| endpoint.address) {
                if let Some(why) = self.never(address) {
                    refused.always.insert(address, why);
                } else if !is_vouched
                    && !self.is_allowed(address)
                    && let Some(machine) = self.machine(address)
                {
                    refused.unless_vouched.insert(address, machine);
                }
            }
        }
        (refused, depends)
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        self.settings.allowed_endpoints.iter().any(|net| net.contains(&address))
    }

    /// Why an address is no endpoint, whoever says so.
    fn never(&self, address: IpAddr) -> Option<String> {
        match Class::of(address) {
            // A link of their own between appliance and server is an operator's decision.
            Some(Class::LinkLocal) if self.is_allowed(address) => {}
            Some(class) => return Some(class.to_string()),
            None => {}
        }
        if let Some(net) = self.settings.denied_endpoints.iter().find(|net| net.contains(&address))
        {
            return Some(format!("is in {net} of --deny-endpoints"));
        }
        if self.is_allowed(address) {
            return None;
        }
        if METADATA.contains(&address) {
            return Some("is a metadata service's".to_owned());
        }
        let is_appliance = self.settings.appliances.contains(&address);
        is_appliance.then(|| "is an appliance's".to_owned())
    }

    /// The node that has the address, or the API server, which is reached so from outside or from inside the cluster.
    fn machine(&self, address: IpAddr) -> Option<String> {
        let machine = self.pools.other(address).filter(|other| other.is_machine())?;
        Some(format!("is {machine}'s"))
    }
}

pub(super) fn has_selector(spec: &ServiceSpec) -> bool {
    spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
}
