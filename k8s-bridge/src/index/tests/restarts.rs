//! Whatever is edited and however often the bridge restarts: addresses stay, none is given twice, and what is decided
//! follows from the objects alone.

use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

#[derive(Clone, Copy, Debug)]
enum Act {
    /// Creates the Service or edits its port, families and label.
    Put(u8, Shape),
    /// Sets its deletion timestamp.
    Delete(u8),
    /// The deleted one is cleaned up, and its object goes.
    Finish(u8),
    /// A pool becomes another one; some overlap, some are wrong, some are for few.
    Pool(bool, u8),
    Sharing(bool),
    /// The namespace gets or loses the label that some pools want.
    Label(bool),
    /// The node comes with its own address, or with one of the pools'; or it goes.
    Node(u8, bool),
    Intruder(u8, bool),
    /// Another controller's Service has this address now, or none.
    Rival(Option<u8>),
    /// The endpoints of a Service become others.
    Slice(u8, u8),
    Restart,
}

#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    port: u16,
    dual: bool,
    labelled: bool,
    on_nodes: bool,
    /// Which secondary addresses it asks for.
    secondary: u8,
    /// What is written wrongly.
    mistake: u8,
}

fn act() -> impl Strategy<Value = Act> {
    let shape = (1u16..4, any::<bool>(), any::<bool>(), any::<bool>(), 0u8..6, 0u8..8);
    let shape = shape.prop_map(|(port, dual, labelled, on_nodes, secondary, mistake)| Shape {
        port,
        dual,
        labelled,
        on_nodes,
        secondary,
        mistake,
    });
    prop_oneof![
        6 => (0u8..6, shape).prop_map(|(who, shape)| Act::Put(who, shape)),
        2 => (0u8..6).prop_map(Act::Delete),
        2 => (0u8..6).prop_map(Act::Finish),
        2 => (any::<bool>(), 0u8..7).prop_map(|(which, kind)| Act::Pool(which, kind)),
        1 => any::<bool>().prop_map(Act::Sharing),
        1 => any::<bool>().prop_map(Act::Label),
        1 => (0u8..3, any::<bool>()).prop_map(|(node, there)| Act::Node(node, there)),
        1 => (0u8..5, any::<bool>()).prop_map(|(address, there)| Act::Intruder(address, there)),
        1 => prop::option::of(0u8..5).prop_map(Act::Rival),
        1 => (0u8..6, 0u8..4).prop_map(|(who, kind)| Act::Slice(who, kind)),
        1 => Just(Act::Restart),
    ]
}

/// A Service as the API server has it.
#[derive(Clone, Default)]
struct Stored {
    shape: Shape,
    deleted: bool,
    /// Addresses of the status, and what is served there.
    status: Vec<(IpAddr, Vec<(u16, &'static str)>)>,
    /// Of those the secondary ones, and what they were asked for with.
    secondary: (u8, Vec<IpAddr>),
}

/// Port and protocol; SCTP only for those who ask for secondary addresses.
fn ports(shape: Shape) -> Vec<(u16, &'static str)> {
    let sctp = asks(shape.secondary).map(|_| (shape.port, "SCTP"));
    std::iter::once((shape.port, "TCP")).chain(sctp).collect()
}

fn spec_ports(shape: Shape) -> Vec<serde_json::Value> {
    let one = |(port, protocol)| json!({"port": port, "protocol": protocol, "nodePort": 30000});
    ports(shape).into_iter().map(one).collect()
}

/// The annotation that asks for secondary addresses.
fn asks(secondary: u8) -> Option<(&'static str, &'static str)> {
    match secondary {
        1 => Some(("sluice.dev/secondary-addresses", "192.0.2.3")),
        2 => Some(("sluice.dev/secondary-pools", "p")),
        3 => Some(("loxilb.io/poolSelectSecondary", "q,p,q")),
        _ => None,
    }
}

/// Annotations that are wrong, ask for what nobody can have, or do not go together with others.
fn mistake(mistake: u8) -> Option<(&'static str, &'static str)> {
    match mistake {
        1 => Some(("sluice.dev/idle-timeout", "soon")),
        2 => Some(("sluice.dev/addresses", "8.8.8.8")),
        3 => Some(("sluice.dev/addresses", "192.0.2.300")),
        4 => Some(("loxilb.io/num-secondary-networks", "2")),
        5 => Some(("loxilb.io/epselect", "persist")),
        _ => None,
    }
}

/// What the API server has.
#[derive(Default)]
struct Cluster {
    services: BTreeMap<u8, Stored>,
    pools: [u8; 2],
    shared: bool,
    labelled: bool,
    nodes: BTreeSet<u8>,
    /// Nodes with addresses of the pools.
    intruders: BTreeSet<u8>,
    rival: Option<u8>,
    slices: BTreeMap<u8, u8>,
}

impl Cluster {
    fn service(&self, who: u8) -> Object {
        let Stored { shape, deleted, status, .. } =
            self.services.get(&who).cloned().unwrap_or_default();
        let ingress: Vec<_> = status
            .iter()
            .map(|(ip, ports)| {
                let one =
                    |&(port, protocol): &(u16, &str)| json!({"port": port, "protocol": protocol});
                // What is not served stands there as well.
                let not = json!({"port": 9, "protocol": "TCP", "error": status::PORT_IN_USE});
                json!({"ip": ip, "ports": ports.iter().map(one).chain([not]).collect::<Vec<_>>()})
            })
            .collect();
        let families = if shape.dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) };
        let app = if shape.labelled { "web" } else { "other" };
        let mode = if shape.on_nodes { "nodes" } else { "pods" };
        let mut o = json!({"metadata": {"name": who.to_string(), "namespace": "d",
                "labels": {"app": app}, "annotations": {"sluice.dev/endpoints": mode},
                "managedFields": wrote(FIELD_MANAGER),
                "finalizers": ["service.kubernetes.io/load-balancer-cleanup"]},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "sluice.dev/edge",
                "ipFamilies": families, "ipFamilyPolicy": "PreferDualStack",
                "ports": spec_ports(shape)},
            "status": {"loadBalancer": {"ingress": ingress}}});
        for (key, value) in asks(shape.secondary).into_iter().chain(mistake(shape.mistake)) {
            o["metadata"]["annotations"][key] = json!(value);
        }
        if who.is_multiple_of(2) {
            o["spec"]["selector"] = json!({"app": app});
        }
        if deleted {
            o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Object::Service(Box::new(serde_json::from_value(o).unwrap()))
    }

    fn pool(&self, second: bool) -> Object {
        let kind = self.pools[usize::from(second)];
        let mut spec = match kind {
            0 => json!({"addresses": ["192.0.2.0/30", "2001:db8::/127"]}),
            1 => json!({"addresses": ["192.0.2.2-192.0.2.5"]}),
            2 => json!({"addresses": ["198.51.100.0/31", "2001:db8:1::1"]}),
            3 => json!({"addresses": ["192.0.2.0/33"]}),
            4 => json!({"addresses": ["192.0.2.0/30"],
                "namespaceSelector": {"matchLabels": {"team": "red"}}}),
            5 => json!({"addresses": ["198.51.100.0/31"],
                "serviceSelector": {"matchLabels": {"app": "web"}}}),
            _ => json!({"addresses": ["203.0.113.0/31"], "manual": true, "priority": 3}),
        };
        spec["sharing"] = json!(if self.shared { "Shared" } else { "Exclusive" });
        pool_of(if second { "q" } else { "p" }, &spec)
    }

    fn namespace(&self) -> Object {
        let labels = if self.labelled { json!({"team": "red"}) } else { json!({}) };
        let o = json!({"metadata": {"name": "d", "labels": labels}});
        Object::Namespace(Box::new(serde_json::from_value(o).unwrap()))
    }

    fn node(node: u8) -> Object {
        let address = format!("10.0.0.{node}");
        let o = json!({"metadata": {"name": format!("n{node}")},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        Object::Node(Box::new(serde_json::from_value(o).unwrap()))
    }

    fn intruder(address: u8) -> Object {
        let o = json!({"metadata": {"name": format!("m{address}")},
            "status": {"addresses": [{"type": "ExternalIP", "address": format!("192.0.2.{address}")}]}});
        Object::Node(Box::new(serde_json::from_value(o).unwrap()))
    }

    fn rival(&self) -> Object {
        let ingress: Vec<_> =
            self.rival.iter().map(|last| json!({"ip": format!("192.0.2.{last}")})).collect();
        let o = json!({"metadata": {"name": "rival", "namespace": "e"},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/other"},
            "status": {"loadBalancer": {"ingress": ingress}}});
        Object::Service(Box::new(serde_json::from_value(o).unwrap()))
    }

    /// Pods, one that is not ready, one with the address of a node, or none.
    fn slice(&self, who: u8) -> Object {
        let endpoints = match self.slices.get(&who) {
            Some(1) => json!([{"addresses": ["10.9.0.1"]}, {"addresses": ["10.0.0.1"]}]),
            Some(2) => json!([{"addresses": ["10.9.0.2"], "conditions": {"ready": false}},
                {"addresses": ["127.0.0.1"]}]),
            Some(3) => json!([{"addresses": ["10.9.1.1"]}]),
            _ => json!([]),
        };
        let Object::EndpointSlice(mut slice) = slice_of(&who.to_string(), &endpoints) else {
            panic!("no slice")
        };
        let labels = slice.metadata.labels.as_mut().unwrap();
        labels.insert("kubernetes.io/service-name".into(), who.to_string());
        if who != 3 {
            let by = "endpointslice-controller.k8s.io";
            labels.insert("endpointslice.kubernetes.io/managed-by".into(), by.into());
        }
        Object::EndpointSlice(slice)
    }

    fn restart(&self) -> Index {
        let mut i = index();
        i.apply(self.rival());
        self.intruders.iter().for_each(|node| i.apply(Self::intruder(*node)));
        for second in [true, false] {
            i.apply(self.pool(second));
        }
        i.apply(self.namespace());
        self.nodes.iter().for_each(|node| i.apply(Self::node(*node)));
        self.services.keys().for_each(|who| i.apply(self.service(*who)));
        self.slices.keys().for_each(|who| i.apply(self.slice(*who)));
        i.synced();
        i
    }

    fn act(&mut self, i: &mut Index, act: Act) {
        match act {
            Act::Put(who, shape) => {
                let stored = self.services.entry(who).or_default();
                stored.shape = shape;
                i.apply(self.service(who));
            }
            Act::Delete(who) => {
                if let Some(stored) = self.services.get_mut(&who) {
                    stored.deleted = true;
                    i.apply(self.service(who));
                }
            }
            Act::Finish(who) => {
                if self.services.get(&who).is_some_and(|stored| stored.deleted) {
                    let object = self.service(who);
                    i.released(&ObjectName { namespace: "d".into(), name: who.to_string() });
                    i.delete(&object);
                    self.services.remove(&who);
                }
            }
            Act::Pool(second, kind) => {
                self.pools[usize::from(second)] = kind;
                i.apply(self.pool(second));
            }
            Act::Sharing(shared) => {
                self.shared = shared;
                i.apply(self.pool(false));
                i.apply(self.pool(true));
            }
            Act::Label(labelled) => {
                self.labelled = labelled;
                i.apply(self.namespace());
            }
            Act::Node(node, true) => {
                self.nodes.insert(node);
                i.apply(Self::node(node));
            }
            Act::Node(node, false) => {
                self.nodes.remove(&node);
                i.delete(&Self::node(node));
            }
            Act::Intruder(address, true) => {
                self.intruders.insert(address);
                i.apply(Self::intruder(address));
            }
            Act::Intruder(address, false) => {
                self.intruders.remove(&address);
                i.delete(&Self::intruder(address));
            }
            Act::Rival(address) => {
                self.rival = address;
                i.apply(self.rival());
            }
            Act::Slice(who, kind) => {
                self.slices.insert(who, kind);
                i.apply(self.slice(who));
            }
            Act::Restart => *i = self.restart(),
        }
    }

    /// Does what the bridge does with outcomes until there are none, and checks that no address in a status is replaced
    /// or taken while its family is wanted.
    fn settle(&mut self, i: &mut Index) -> Result<(), TestCaseError> {
        for round in 0.. {
            let outcomes = i.drain().outcomes;
            if outcomes.is_empty() {
                break;
            }
            prop_assert!(round < 10, "never at rest");
            for (name, outcome) in outcomes {
                let (Outcome::Serve(serve), Ok(who)) = (outcome, name.name.parse::<u8>()) else {
                    continue;
                };
                let Some(stored) = self.services.get_mut(&who) else { continue };
                let dual = stored.shape.dual;
                let (asked, secondary) = &stored.secondary;
                let first = stored.status.iter().filter(|(had, _)| !secondary.contains(had));
                for (had, _) in first.filter(|(had, _)| dual || had.is_ipv4()) {
                    let now = &serve.addresses;
                    prop_assert!(now.contains(had), "{who}: {had} is not in {now:?}");
                }
                if *asked == stored.shape.secondary {
                    prop_assert_eq!(secondary, &serve.secondary, "{}", who);
                }
                let mut ports = ports(stored.shape);
                let in_use = serve.unserved.iter().filter(|u| u.error == status::PORT_IN_USE);
                for not in in_use {
                    ports.retain(|had| *had != (u16::try_from(not.port).unwrap(), &*not.protocol));
                }
                let first = serve.addresses.iter().map(|address| (*address, ports.clone()));
                let sctp = ports.iter().copied().filter(|(_, protocol)| *protocol == "SCTP");
                let sctp: Vec<_> = sctp.collect();
                let others = serve.secondary.iter().map(|address| (*address, sctp.clone()));
                stored.status = first.chain(others).collect();
                // One that keeps what it had does not have what it asks for.
                let is_granted = !serve.troubles.iter().any(|t| t.message.contains("served on"));
                let asked = if is_granted { stored.shape.secondary } else { u8::MAX };
                stored.secondary = (asked, serve.secondary.clone());
                i.apply(self.service(who));
            }
        }
        Ok(())
    }
}

/// Every address, or every port of it where it is shared, has one Service; those being deleted still count.
fn none_twice(cluster: &Cluster) -> Result<(), TestCaseError> {
    let mut seen = BTreeSet::new();
    for stored in cluster.services.values() {
        for (address, ports) in &stored.status {
            for port in ports {
                prop_assert!(seen.insert((*address, *port)), "{address}:{port:?} twice");
            }
        }
    }
    Ok(())
}

/// What is said, without whom it names: of several in the way of a refused Service any one may be named. Who asks for
/// several addresses may lack more than one, and is told about the one that was missed first.
fn said(i: &Index) -> BTreeMap<ObjectName, Result<Outcome, &'static str>> {
    let short = |reason| match reason {
        "AddressInUse"
        | "PoolExhausted"
        | "NoPool"
        | "AddressNotInPool"
        | "AddressContradiction"
        | "AddressReserved"
        | "AddressFamilyMismatch" => "an address is missing",
        reason => reason,
    };
    let one = |outcome: &Outcome| match outcome {
        Outcome::Refuse(why) => Err(short(why.reason)),
        Outcome::Serve(serve) => {
            let mut serve = serve.clone();
            for trouble in &mut serve.troubles {
                *trouble = vocabulary::trouble(short(trouble.reason), "");
            }
            Ok(Outcome::Serve(serve))
        }
        Outcome::Release => Ok(Outcome::Release),
    };
    i.said.iter().map(|(name, outcome)| (name.clone(), one(outcome))).collect()
}

/// A fresh index says the same of the same objects.
fn follows_from_objects(i: &Index, cluster: &Cluster) -> Result<(), TestCaseError> {
    let mut fresh = cluster.restart();
    fresh.drain();
    prop_assert_eq!(said(i), said(&fresh));
    prop_assert_eq!(&i.wanted, &fresh.wanted);
    prop_assert_eq!(&i.pool_uses, &fresh.pool_uses);
    prop_assert_eq!(i.inside(), fresh.inside());
    let machines = cluster.intruders.iter().map(|last| IpAddr::from([192, 0, 2, *last]));
    for address in machines {
        prop_assert!(!i.wanted().any(|w| w.vips.contains(&address.to_string())), "{address}");
    }
    prop_assert_eq!(&i.waiting, &fresh.waiting);
    prop_assert_eq!(&i.on_nodes, &fresh.on_nodes);
    Ok(())
}

proptest! {
    #[test]
    fn addresses_stay_and_what_is_said_follows_from_the_objects(
        acts in prop::collection::vec(act(), 1..40),
        shared in any::<bool>(),
    ) {
        let mut cluster = Cluster { shared, pools: [0, 2], ..Cluster::default() };
        let mut i = cluster.restart();
        for act in acts {
            cluster.act(&mut i, act);
            cluster.settle(&mut i)?;
            none_twice(&cluster)?;
            follows_from_objects(&i, &cluster)?;
        }
    }
}
