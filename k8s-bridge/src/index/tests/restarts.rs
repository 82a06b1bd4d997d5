//! Whatever is edited and however often the bridge restarts: addresses stay, and none is given twice.

use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

#[derive(Clone, Copy, Debug)]
enum Act {
    /// Creates the Service or edits its port.
    Put(u8, u16),
    Delete(u8),
    /// The pool becomes another one, up to half of it overlapping with the other.
    Pool(u8),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0u8..6, 1u16..4).prop_map(|(who, port)| Act::Put(who, port)),
        2 => (0u8..6).prop_map(Act::Delete),
        1 => (0u8..3).prop_map(Act::Pool),
        1 => Just(Act::Restart),
    ]
}

/// What the API server has.
#[derive(Default)]
struct Cluster {
    /// The port of the spec, and what the status says: an address and the port served there.
    services: BTreeMap<u8, (u16, Option<(IpAddr, u16)>)>,
    pool: u8,
    sharing: &'static str,
}

impl Cluster {
    fn service(&self, who: u8) -> Object {
        let (port, address) = self.services.get(&who).copied().unwrap_or((80, None));
        let ingress: Vec<_> = address
            .iter()
            .map(|(ip, port)| json!({"ip": ip, "ports": [{"port": port, "protocol": "TCP"}]}))
            .collect();
        let o = json!({"metadata": {"name": who.to_string(), "namespace": "d"},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "sluice.dev/edge",
                "ports": [{"port": port}]},
            "status": {"loadBalancer": {"ingress": ingress}}});
        Object::Service(Box::new(serde_json::from_value(o).unwrap()))
    }

    fn pool(&self) -> Object {
        let addresses = ["192.0.2.0/30", "192.0.2.2-192.0.2.5", "198.51.100.0/31"];
        let o = json!({"metadata": {"name": "p"},
            "spec": {"addresses": [addresses[usize::from(self.pool)]], "sharing": self.sharing}});
        Object::AddressPool(Box::new(serde_json::from_value(o).unwrap()))
    }

    fn restart(&self) -> Index {
        let mut i = index();
        i.apply(self.pool());
        for who in self.services.keys() {
            i.apply(self.service(*who));
        }
        i.synced();
        i
    }

    /// Does what the bridge does with outcomes, and checks that no address in a status is replaced.
    fn settle(&mut self, i: &mut Index) -> Result<(), TestCaseError> {
        for (name, outcome) in i.drain().outcomes {
            let (Outcome::Serve(serve), Ok(who)) = (outcome, name.name.parse::<u8>()) else {
                continue;
            };
            let Some((port, status)) = self.services.get_mut(&who) else { continue };
            let given = serve.addresses.first().copied();
            let had = status.map(|(address, _)| address);
            prop_assert!(had.is_none() || had == given, "{who}: {had:?} became {given:?}");
            *status = given.map(|address| (address, *port));
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn addresses_stay_and_none_is_given_twice(
        acts in prop::collection::vec(act(), 1..60),
        shared in any::<bool>(),
    ) {
        let sharing = if shared { "Shared" } else { "Exclusive" };
        let mut cluster = Cluster { sharing, ..Cluster::default() };
        let mut i = cluster.restart();
        for act in acts {
            match act {
                Act::Put(who, port) => {
                    cluster.services.entry(who).or_default().0 = port;
                    i.apply(cluster.service(who));
                }
                Act::Delete(who) => {
                    i.delete(&cluster.service(who));
                    cluster.services.remove(&who);
                }
                Act::Pool(which) => {
                    cluster.pool = which;
                    i.apply(cluster.pool());
                }
                Act::Restart => i = cluster.restart(),
            }
            cluster.settle(&mut i)?;
            let mut seen = BTreeSet::new();
            for wanted in i.wanted() {
                for vip in &wanted.vips {
                    let port = if shared { wanted.port } else { 0 };
                    prop_assert!(seen.insert((vip.clone(), port)), "{vip} twice");
                }
            }
        }
    }
}
