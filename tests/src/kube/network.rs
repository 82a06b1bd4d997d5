//! The namespaces of a cluster, their links and their routes.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::lab::topology::{lay_back, lay_front, lay_member};
use crate::lab::{Lab, Netns};

/// The control plane's address.
pub(super) const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// Pods of all nodes.
pub(super) const PODS: (&str, &str) = ("10.244.0.0/16", "fd00:10:244::/48");
/// Cluster IPs.
pub(super) const SERVICES: (&str, &str) = ("10.96.0.0/16", "fd00:10:96::/112");

/// Where a node is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) ns: Netns,
    pub(super) name: String,
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
    /// Its share of the pods' addresses.
    pub(super) pods: (String, String),
}

/// All namespaces.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) client: Netns,
    pub(super) router: Netns,
    pub(super) edge: Netns,
    pub(super) switch: Netns,
    pub(super) control: Netns,
    pub(super) nodes: Vec<Place>,
}

impl Network {
    /// Makes them, with a route to every pod from everywhere: the Node objects are made with these shares beforehand.
    pub(super) fn lay(lab: &Lab, nodes: u8) -> Result<Self> {
        let client = lab.namespace("client")?;
        let router = lab.namespace("router")?;
        let edge = lab.namespace("edge")?;
        let switch = lab.namespace("switch")?;
        lay_front(lab, &client, &router, &edge)?;
        lay_back(lab, &edge, &switch)?;
        let (control, _) = lay_member(lab, &switch, "cp", 2)?;
        let mut places = Vec::new();
        for index in 1..=nodes {
            let name = format!("n{index}");
            let (ns, (v4, v6)) = lay_member(lab, &switch, &name, 10 + index)?;
            ns.forward()?;
            let pods = (format!("10.244.{index}.0/24"), format!("fd00:10:244:{index}::/64"));
            places.push(Place { ns, name, v4, v6, pods });
        }
        let network = Self { client, router, edge, switch, control, nodes: places };
        network.route_pods()?;
        Ok(network)
    }

    fn route_pods(&self) -> Result<()> {
        let others = [&self.edge, &self.control];
        for place in &self.nodes {
            let siblings = self.nodes.iter().filter(|other| other.name != place.name);
            for ns in others.into_iter().chain(siblings.map(|other| &other.ns)) {
                ns.ip(&["route", "add", &place.pods.0, "via", &place.v4.to_string()])?;
                ns.ip(&["route", "add", &place.pods.1, "via", &place.v6.to_string()])?;
            }
        }
        // The suite runs at the client and asks nodes for their health, and the API server for everything.
        for (net, hop) in [
            ("10.1.0.0/24", "10.0.0.2"),
            (PODS.0, "10.0.0.2"),
            ("2001:db8:1::/64", "2001:db8::2"),
            (PODS.1, "2001:db8::2"),
        ] {
            self.router.ip(&["route", "add", net, "via", hop])?;
        }
        Ok(())
    }
}
