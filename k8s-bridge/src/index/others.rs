//! Addresses that somebody else has: nodes, the API server, Services that other controllers serve. They are never given,
//! and what belongs to a machine is no VIP at all: the appliances would take its packets.

use super::ObjectName;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Somebody who has addresses that are not ours to give.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Other {
    /// A node, by name.
    Node(String),
    /// The API server, as its Service or its slice of this name says.
    ApiServer(String),
    /// A Service of type LoadBalancer that is not ours.
    Service(ObjectName),
}

/// Who has what.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    by_address: BTreeMap<IpAddr, BTreeSet<Other>>,
    by_owner: BTreeMap<Other, BTreeSet<IpAddr>>,
}

// === impl Other ===

impl Other {
    /// It is a machine: what it has can be no VIP.
    pub(super) fn is_machine(&self) -> bool {
        matches!(self, Other::Node(_) | Other::ApiServer(_))
    }
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Other::Node(name) => write!(f, "node {name}"),
            Other::ApiServer(_) => f.write_str("the API server"),
            Other::Service(ObjectName { namespace, name }) => {
                write!(
                    f,
                    "Service {name} of namespace {namespace}, which another controller serves,"
                )
            }
        }
    }
}

// === impl Others ===

impl Others {
    /// Somebody has these now, and no others. Returns those that came and those that went.
    pub(super) fn set(
        &mut self,
        owner: &Other,
        now: BTreeSet<IpAddr>,
    ) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let before = self.by_owner.remove(owner).unwrap_or_default();
        let came: Vec<IpAddr> = now.difference(&before).copied().collect();
        let went: Vec<IpAddr> = before.difference(&now).copied().collect();
        for address in &came {
            self.by_address.entry(*address).or_default().insert(owner.clone());
        }
        for address in &went {
            if let Some(owners) = self.by_address.get_mut(address) {
                owners.remove(owner);
                if owners.is_empty() {
                    self.by_address.remove(address);
                }
            }
        }
        if !now.is_empty() {
            self.by_owner.insert(owner.clone(), now);
        }
        (came, went)
    }

    /// Somebody who has the address; of several a machine.
    pub(super) fn of(&self, address: IpAddr) -> Option<&Other> {
        self.by_address.get(&address)?.first()
    }

    /// Addresses from the first to the last that somebody has.
    pub(super) fn between(&self, first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
        self.by_address.range(first..=last).map(|(address, _)| *address)
    }
}

/// Every address of a node, whatever kind it is said to be.
pub(super) fn of_node(node: &Node) -> BTreeSet<IpAddr> {
    let addresses = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
    addresses.filter_map(|a| a.address.parse().ok()).collect()
}

/// True for what stands for the API server in every cluster.
fn is_api_server(namespace: Option<&str>, name: Option<&str>) -> bool {
    namespace == Some("default") && name == Some("kubernetes")
}

/// The ClusterIPs of the API server, if this is its Service.
pub(super) fn of_api_server(service: &Service) -> BTreeSet<IpAddr> {
    let meta = &service.metadata;
    if !is_api_server(meta.namespace.as_deref(), meta.name.as_deref()) {
        return BTreeSet::new();
    }
    let spec = service.spec.iter();
    let texts = spec.flat_map(|s| s.cluster_ips.iter().flatten().chain(&s.cluster_ip));
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The addresses of the API server's processes, if this is their slice: it has this name, and they put right what others
/// write there. Another one of the same Service is anybody's who may write in that namespace.
pub(super) fn of_api_servers(slice: &EndpointSlice) -> BTreeSet<IpAddr> {
    let meta = &slice.metadata;
    let labels = meta.labels.as_ref();
    let owner = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
    let is_theirs = is_api_server(meta.namespace.as_deref(), meta.name.as_deref());
    if !is_theirs || owner.is_none_or(|owner| owner != "kubernetes") {
        return BTreeSet::new();
    }
    let endpoints = slice.endpoints.iter().flatten();
    endpoints.flat_map(|e| &e.addresses).filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_free_when_all_have_let_go() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let node = Other::Node("n1".into());
        let service = Other::Service(ObjectName { namespace: "d".into(), name: "a".into() });
        let mut others = Others::default();
        let one = BTreeSet::from([ip("192.0.2.1")]);
        assert_eq!(others.set(&service, one.clone()), (vec![ip("192.0.2.1")], vec![]));
        assert_eq!(others.set(&node, one.clone()), (vec![ip("192.0.2.1")], vec![]));
        assert_eq!(others.set(&node, one), (vec![], vec![]));
        assert_eq!(others.of(ip("192.0.2.1")), Some(&node), "the machine counts most");
        assert_eq!(others.set(&node, BTreeSet::new()), (vec![], vec![ip("192.0.2.1")]));
        assert_eq!(others.of(ip("192.0.2.1")), Some(&service));
        others.set(&service, BTreeSet::from([ip("192.0.2.3"), ip("2001:db8::1")]));
        assert_eq!(others.of(ip("192.0.2.1")), None);
        assert_eq!(others.between(ip("192.0.2.2"), ip("192.0.2.9")).count(), 1);
    }
}
