//! What a Service asks for beyond its spec: `sluice.dev/*`, and what kube-loxilb's users write.
//!
//! Nothing is ignored in silence: a key of either prefix that is not served, or a value that makes no sense, is a trouble.
//! It refuses a Service that is new; of one that is on the air the wish counts as not there. The table of both dialects is
//! in the bridge's README.

mod probe;
mod values;

pub(super) use probe::Probing;

use super::status::Had;
use super::{EndpointMode, NodeHealth, Trouble, trouble};
use k8s_openapi::api::core::v1::Service;
use probe::{Probe, kind};
use sluice_api::{MAX_SECONDARY_VIPS, OnDown};
use std::collections::BTreeSet;
use std::net::IpAddr;
use values::{invalid, once, seconds, truth, unsupported};

/// How long a flow may be silent: what appliances take, up to a week.
const IDLE: std::ops::RangeInclusive<u32> = 1..=604_800;

/// What a Service asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asks {
    /// These addresses, at most one of each family; empty leaves the choice to the pools.
    pub(super) addresses: Vec<IpAddr>,
    /// These secondary addresses.
    pub(super) secondary: Option<Vec<IpAddr>>,
    /// A secondary address of each of these pools.
    pub(super) secondary_pools: Option<Vec<String>>,
    /// Addresses of this pool.
    pub(super) pool: Option<String>,
    /// An address of this family only; true for IPv6.
    pub(super) v6: Option<bool>,
    /// Where its endpoints are.
    pub(super) endpoints: Option<EndpointMode>,
    /// Only nodes with this label.
    pub(super) node_label: Option<String>,
    /// The backends see the VIP in place of the client.
    pub(super) full_nat: Option<bool>,
    /// An IPv6 address for IPv4 endpoints.
    pub(super) nat64: Option<bool>,
    /// Whether backends are asked whether they live.
    pub(super) health: Probing,
    /// What becomes of the flows of endpoints that fail their probes, the kubelet's or the appliances'.
    pub(super) on_down: Option<OnDown>,
    /// How nodes are probed when nothing else is asked for.
    pub(super) node_health: Option<NodeHealth>,
    /// Seconds.
    pub(super) idle_timeout: Option<u32>,
    /// Clients keep their backend although the spec does not say so (`epselect: persist`).
    pub(super) affinity: bool,
    /// What it says about its addresses makes no sense.
    is_vague: bool,
    /// What it says about its secondary addresses makes no sense.
    is_vague_about_secondary: bool,
}

// === impl Asks ===

impl Asks {
    /// What the Service asks for, and what is wrong with that; what is wrong is not asked for.
    pub(super) fn of(service: &Service) -> (Self, Vec<Trouble>) {
        let mut asks = Asks::default();
        let mut probe = Probe::default();
        let mut troubles = Vec::new();
        for (key, value) in service.metadata.annotations.iter().flatten() {
            let value = value.trim();
            let taken = if let Some(ours) = key.strip_prefix("sluice.dev/") {
                asks.take_ours(&mut probe, ours, key, value)
            } else if let Some(theirs) = key.strip_prefix("loxilb.io/") {
                asks.take_theirs(&mut probe, theirs, key, value)
            } else {
                continue;
            };
            troubles.extend(taken.err());
        }
        let ip = service.spec.as_ref().and_then(|s| s.load_balancer_ip.as_deref());
        if let Some(ip) = ip.filter(|ip| !ip.is_empty()) {
            troubles.extend(asks.take_addresses("spec.loadBalancerIP", ip).err());
        }
        match probe.finish() {
            Ok(health) => asks.health = health,
            Err(why) => troubles.push(why),
        }
        if asks.secondary.is_some() && asks.secondary_pools.is_some() {
            let what = "secondary addresses are asked for one by one and by pools as well; take one of them off";
            troubles.push(trouble("AnnotationContradiction", what));
            asks.is_vague_about_secondary = true;
        }
        if asks.nat64 == Some(true) && asks.v6 == Some(false) {
            let what = "loxilb.io/ipam asks for IPv4, and NAT64 is for an IPv6 address; take one of them off";
            troubles.push(trouble("AnnotationContradiction", what));
        }
        (asks, troubles)
    }

    /// For a Service that is on the air: where what it asks for makes no sense, what it has decides.
    pub(super) fn settle(&mut self, had: &Had) {
        if std::mem::take(&mut self.is_vague) {
            self.addresses.clear();
        }
        if std::mem::take(&mut self.is_vague_about_secondary) {
            self.keep_secondary(had);
        }
        if self.nat64 == Some(true) && self.v6 == Some(false) {
            if had.addresses.iter().any(IpAddr::is_ipv6) {
                self.v6 = None;
            } else {
                self.nat64 = None;
            }
        }
    }

    /// The secondary addresses that it has, and no others.
    fn keep_secondary(&mut self, had: &Had) {
        self.secondary = Some(had.secondary.clone()).filter(|secondary| !secondary.is_empty());
        self.secondary_pools = None;
    }

    /// For a Service that is on the air and cannot be served as it asks: ever milder wishes, the last of them to stay as
    /// it is.
    pub(super) fn milder(&self, had: &Had) -> [Asks; 3] {
        let mut stay = Asks { addresses: Vec::new(), pool: None, ..self.clone() };
        stay.keep_secondary(had);
        let any_family = Asks { v6: None, ..stay.clone() };
        // What it has of IPv6 for IPv4 endpoints it would lose with NAT64.
        let nat64 = self.nat64.filter(|_| had.addresses.iter().any(IpAddr::is_ipv6));
        let without_nat64 = Asks { nat64, ..any_family.clone() };
        [stay, any_family, without_nat64]
    }

    /// For a Service that is on the air, of SCTP or not, with wishes that do not go with that: those that it is not served
    /// by yet give way.
    pub(super) fn give_way(&mut self, has_sctp: bool, had: &Had) {
        match &self.health {
            Probing::By(health) if has_sctp && health.port.is_none() => {
                self.health = Probing::AsUsual;
            }
            _ if has_sctp && !had.secondary.is_empty() => {
                (self.full_nat, self.nat64, self.affinity) = (None, None, false);
            }
            _ => (self.secondary, self.secondary_pools) = (None, None),
        }
    }

    pub(super) fn has_secondary(&self) -> bool {
        self.secondary.is_some() || self.secondary_pools.is_some()
    }

    fn take_ours(
        &mut self,
        probe: &mut Probe,
        word: &str,
        key: &str,
        value: &str,
    ) -> Result<(), Trouble> {
        match word {
            "addresses" => self.take_addresses(key, value),
            "pool" => once(&mut self.pool, key, value.to_owned()),
            "idle-timeout" => once(&mut self.idle_timeout, key, seconds(key, value, IDLE)?),
            "health" => once(&mut probe.kind, key, kind(key, value)?),
            "full-nat" => once(&mut self.full_nat, key, truth(key, value)?),
            "nat64" => once(&mut self.nat64, key, truth(key, value)?),
            "endpoints" => match value.to_ascii_lowercase().as_str() {
                "pods" | "pod" => once(&mut self.endpoints, key, EndpointMode::Pods),
                "nodes" | "node" => once(&mut self.endpoints, key, EndpointMode::Nodes),
                _ => Err(invalid(key, value, "pods or nodes")),
            },
            "on-down" => match value.to_ascii_lowercase().as_str() {
                "drain" => once(&mut self.on_down, key, OnDown::Drain),
                "reset" => once(&mut self.on_down, key, OnDown::Reset),
                _ => Err(invalid(key, value, "drain or reset")),
            },
            "node-health" => match value.to_ascii_lowercase().as_str() {
                "node-port" => once(&mut self.node_health, key, NodeHealth::NodePort),
                "kube-proxy" => once(&mut self.node_health, key, NodeHealth::KubeProxy),
                _ => Err(invalid(key, value, "node-port or kube-proxy")),
            },
            "secondary-addresses" => self.take_secondary(key, value),
            "secondary-pools" => self.take_secondary_pools(key, value),
            _ => Err(unsupported(key, value)),
        }
    }

    fn take_theirs(
        &mut self,
        probe: &mut Probe,
        word: &str,
        key: &str,
        value: &str,
    ) -> Result<(), Trouble> {
        match (word, value) {
            ("staticIP", _) => self.take_addresses(key, value),
            ("poolSelect", _) => once(&mut self.pool, key, value.to_owned()),
            ("timeout", _) => once(&mut self.idle_timeout, key, seconds(key, value, IDLE)?),
            ("ipam", "ipv4" | "ip" | "ip4") => once(&mut self.v6, key, false),
            ("ipam", "ipv6" | "ip6" | "nat66") => once(&mut self.v6, key, true),
            ("ipam", "ipv6to4" | "nat64") => once(&mut self.nat64, key, true),
            ("lbmode", "default") => once(&mut self.full_nat, key, false),
            ("lbmode", "fullnat" | "onearm" | "hostonearm") => once(&mut self.full_nat, key, true),
            ("usepodnetwork", _) => {
                let pods = truth(key, value)?;
                let mode = if pods { EndpointMode::Pods } else { EndpointMode::Nodes };
                once(&mut self.endpoints, key, mode)
            }
            ("nodelabel", label) if !label.is_empty() => {
                once(&mut self.node_label, key, label.to_owned())
            }
            ("epselect", "rr" | "roundrobin" | "hash" | "lc") => Ok(()),
            ("epselect", "persist") => {
                self.affinity = true;
                Ok(())
            }
            (
                "liveness" | "probetype" | "probeport" | "probereq" | "probetimeout"
                | "proberetries",
                _,
            ) => probe.take(word, key, value),
            ("secondaryIPs", _) => self.take_secondary(key, value),
            ("poolSelectSecondary", _) => self.take_secondary_pools(key, value),
            // Endpoints of Services without a selector are taken from their slices in any case.
            ("useExternalEndpoint", _) => truth(key, value).map(|_| ()),
            ("prefLocalPod" | "useproxyprotov2" | "egress", _) if !truth(key, value)? => Ok(()),
            ("mtls-frontend-mode", "disabled") => Ok(()),
            _ => Err(unsupported(key, value)),
        }
    }

    /// Several places may name addresses as long as they name the same ones.
    fn take_addresses(&mut self, key: &str, text: &str) -> Result<(), Trouble> {
        let taken = self.named_addresses(key, text);
        match taken {
            Ok(addresses) => self.addresses = addresses,
            Err(why) => {
                self.is_vague = true;
                return Err(why);
            }
        }
        Ok(())
    }

    fn named_addresses(&self, key: &str, text: &str) -> Result<Vec<IpAddr>, Trouble> {
        let read = |one: &str| {
            one.trim().parse().map_err(|_| invalid(key, text, "one IP address of each family"))
        };
        let mut addresses: Vec<IpAddr> = text.split(',').map(read).collect::<Result<_, _>>()?;
        addresses.sort_unstable();
        addresses.dedup();
        let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
        if v4 > 1 || addresses.len() - v4 > 1 {
            return Err(invalid(key, text, "one IP address of each family"));
        }
        if !self.addresses.is_empty() && self.addresses != addresses {
            let what = format!("{key} asks for {text}, and another place for other addresses");
            return Err(trouble("AddressContradiction", what));
        }
        Ok(addresses)
    }
}

// === impl Asks, secondary addresses ===

impl Asks {
    fn take_secondary(&mut self, key: &str, text: &str) -> Result<(), Trouble> {
        let taken = secondary(key, text).and_then(|all| once(&mut self.secondary, key, all));
        self.is_vague_about_secondary |= taken.is_err();
        taken
    }

    /// A pool that is named twice gives two.
    fn take_secondary_pools(&mut self, key: &str, text: &str) -> Result<(), Trouble> {
        let taken = secondary_pools(key, text);
        let taken = taken.and_then(|pools| once(&mut self.secondary_pools, key, pools));
        self.is_vague_about_secondary |= taken.is_err();
        taken
    }
}

fn secondary(key: &str, text: &str) -> Result<Vec<IpAddr>, Trouble> {
    let invalid = || invalid(key, text, "1 to 3 IP addresses, each once");
    let read = |one: &str| one.trim().parse().map_err(|_| invalid());
    let addresses: Vec<IpAddr> = text.split(',').map(read).collect::<Result<_, _>>()?;
    let distinct: BTreeSet<_> = addresses.iter().collect();
    if distinct.len() < addresses.len() || addresses.len() > MAX_SECONDARY_VIPS {
        return Err(invalid());
    }
    Ok(addresses)
}

fn secondary_pools(key: &str, text: &str) -> Result<Vec<String>, Trouble> {
    let pools: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if pools.iter().any(String::is_empty) || pools.len() > MAX_SECONDARY_VIPS {
        return Err(invalid(key, text, "1 to 3 names of AddressPools"));
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sluice_api::WantedHealth;

    fn asks(annotations: &serde_json::Value) -> Result<Asks, &'static str> {
        let o = json!({"metadata": {"annotations": annotations}});
        let (asks, troubles) = Asks::of(&serde_json::from_value(o).unwrap());
        troubles.first().map_or(Ok(asks), |trouble| Err(trouble.reason))
    }

    #[test]
    fn both_dialects_ask_for_the_same() {
        let ours = json!({"sluice.dev/addresses": "192.0.2.7", "sluice.dev/pool": "p",
            "sluice.dev/health": "tcp", "sluice.dev/idle-timeout": "90", "sluice.dev/full-nat": "no",
            "example.com/x": "y"});
        let theirs = json!({"loxilb.io/staticIP": "192.0.2.7", "loxilb.io/poolSelect": "p",
            "loxilb.io/liveness": "yes", "loxilb.io/timeout": "90", "loxilb.io/lbmode": "default"});
        assert_eq!(asks(&ours), asks(&theirs));
        assert_eq!(asks(&ours).unwrap().idle_timeout, Some(90));
        assert_eq!(asks(&ours).unwrap().health, Probing::By(WantedHealth::default()));
        for (ours, theirs) in [
            (json!({"sluice.dev/endpoints": "nodes"}), json!({"loxilb.io/usepodnetwork": "no"})),
            (json!({"sluice.dev/full-nat": "true"}), json!({"loxilb.io/lbmode": "onearm"})),
            (json!({"sluice.dev/nat64": "true"}), json!({"loxilb.io/ipam": "nat64"})),
            (
                json!({"sluice.dev/secondary-addresses": "192.0.2.9, 192.0.2.8"}),
                json!({"loxilb.io/secondaryIPs": "192.0.2.9,192.0.2.8"}),
            ),
            (
                json!({"sluice.dev/secondary-pools": "a,a,b"}),
                json!({"loxilb.io/poolSelectSecondary": "a,a,b"}),
            ),
            (json!({"sluice.dev/nat64": "true"}), json!({"loxilb.io/ipam": "ipv6to4"})),
            (
                json!({"sluice.dev/health": "http:/up"}),
                json!({"loxilb.io/probetype": "http", "loxilb.io/probereq": "up"}),
            ),
            (json!({}), json!({"loxilb.io/egress": "no", "loxilb.io/useExternalEndpoint": "yes"})),
        ] {
            assert!(asks(&ours).is_ok());
            assert_eq!(asks(&ours), asks(&theirs));
        }
    }

    #[test]
    fn what_is_meant_is_taken() {
        for (one, other) in [
            (json!({"sluice.dev/full-nat": "TRUE"}), json!({"sluice.dev/full-nat": "true"})),
            (json!({"sluice.dev/nat64": "1"}), json!({"sluice.dev/nat64": "true"})),
            (json!({"sluice.dev/idle-timeout": "1h"}), json!({"sluice.dev/idle-timeout": "3600"})),
            (json!({"loxilb.io/timeout": " 90s "}), json!({"loxilb.io/timeout": "90"})),
            (json!({"loxilb.io/liveness": "true"}), json!({"loxilb.io/liveness": "yes"})),
            (json!({"sluice.dev/endpoints": "Node"}), json!({"sluice.dev/endpoints": "nodes"})),
            (json!({"sluice.dev/on-down": "Reset"}), json!({"sluice.dev/on-down": "reset"})),
        ] {
            assert!(asks(&one).is_ok(), "{one}");
            assert_eq!(asks(&one), asks(&other));
        }
    }

    #[test]
    fn one_mistake_leaves_the_rest() {
        let annotations = json!({"sluice.dev/full-nat": "perhaps", "sluice.dev/idle-timeout": "90",
            "sluice.dev/addresses": "192.0.2.1", "loxilb.io/staticIP": "192.0.2.2", "sluice.dev/colour": "blue"});
        let o = json!({"metadata": {"annotations": annotations}});
        let (mut asks, troubles) = Asks::of(&serde_json::from_value(o).unwrap());
        let mut reasons: Vec<_> = troubles.iter().map(|trouble| trouble.reason).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, ["AddressContradiction", "InvalidAnnotation", "UnsupportedAnnotation"]);
        asks.settle(&Had::default());
        assert_eq!(asks, Asks { idle_timeout: Some(90), ..Asks::default() });
    }

    #[test]
    fn probes_are_put_together() {
        let health = |annotations| asks(&annotations).unwrap().health;
        let by = |annotations| match health(annotations) {
            Probing::By(health) => health,
            other => panic!("{other:?}"),
        };
        assert_eq!(health(json!({"loxilb.io/probeport": "81"})), Probing::AsUsual);
        let all = by(json!({"loxilb.io/probetype": "tcp", "loxilb.io/probeport": "81",
            "loxilb.io/probetimeout": "3", "loxilb.io/proberetries": "2"}));
        assert_eq!((all.port, all.interval_ms, all.fall), (Some(81), Some(3000), Some(2)));
        let http = by(json!({"sluice.dev/health": "http:/ready"}));
        assert_eq!(http.http_path.as_deref(), Some("/ready"));
        let off = json!({"loxilb.io/liveness": "yes", "loxilb.io/probetype": "none"});
        assert_eq!(health(off), Probing::Off);
    }

    #[test]
    fn nothing_is_ignored() {
        for (annotations, reason) in [
            (json!({"sluice.dev/adresses": "192.0.2.7"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/lbmode": "dsr"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/lbmode": "fullproxy"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/ipam": "nat46"}), "UnsupportedAnnotation"),
            (json!({"sluice.dev/nat64": "perhaps"}), "InvalidAnnotation"),
            (
                json!({"sluice.dev/nat64": "false", "loxilb.io/ipam": "nat64"}),
                "AnnotationContradiction",
            ),
            (
                json!({"sluice.dev/nat64": "true", "loxilb.io/ipam": "ipv4"}),
                "AnnotationContradiction",
            ),
            (json!({"loxilb.io/secondaryIPs": "192.0.2.300"}), "InvalidAnnotation"),
            (json!({"loxilb.io/secondaryIPs": "192.0.2.9,192.0.2.9"}), "InvalidAnnotation"),
            (json!({"sluice.dev/secondary-addresses": "::1,::2,::3,::4"}), "InvalidAnnotation"),
            (json!({"sluice.dev/secondary-pools": "a,,b"}), "InvalidAnnotation"),
            (json!({"loxilb.io/poolSelectSecondary": "a,b,c,d"}), "InvalidAnnotation"),
            (
                json!({"loxilb.io/secondaryIPs": "192.0.2.9", "loxilb.io/poolSelectSecondary": "a"}),
                "AnnotationContradiction",
            ),
            (json!({"loxilb.io/useproxyprotov2": "yes"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/multus-nets": "a/b"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/zoneselect": "a"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/mtls-frontend-mode": "required"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/proberesp": "OK"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/probereq": "health"}), "UnsupportedAnnotation"),
            (json!({"sluice.dev/endpoints": "hosts"}), "InvalidAnnotation"),
            (json!({"sluice.dev/full-nat": "perhaps"}), "InvalidAnnotation"),
            (
                json!({"sluice.dev/endpoints": "pods", "loxilb.io/usepodnetwork": "no"}),
                "AnnotationContradiction",
            ),
            (json!({"loxilb.io/epselect": "n2"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/probetype": "ping"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/liveness": "perhaps"}), "InvalidAnnotation"),
            (json!({"loxilb.io/num-secondary-networks": "2"}), "UnsupportedAnnotation"),
            (json!({"sluice.dev/on-down": "keep"}), "InvalidAnnotation"),
            (json!({"sluice.dev/node-health": "http"}), "InvalidAnnotation"),
            (json!({"sluice.dev/idle-timeout": "0"}), "InvalidAnnotation"),
            (json!({"sluice.dev/health": "http:ready"}), "InvalidAnnotation"),
            (json!({"sluice.dev/addresses": "192.0.2.1,192.0.2.2"}), "InvalidAnnotation"),
            (
                json!({"sluice.dev/addresses": "192.0.2.1", "loxilb.io/staticIP": "192.0.2.2"}),
                "AddressContradiction",
            ),
        ] {
            assert_eq!(asks(&annotations), Err(reason), "{annotations}");
        }
    }
}
