//! What a Service asks for beyond its spec: `sluice.dev/*`, and what kube-loxilb's users write.
//!
//! Nothing is ignored: a key of either prefix that is not served, or a value that makes no sense, is a trouble that
//! refuses the Service. The table of both dialects is in the bridge's README.

use super::{EndpointMode, Trouble, trouble};
use k8s_openapi::api::core::v1::Service;
use sluice_api::{MAX_SECONDARY_VIPS, WantedHealth};
use std::collections::BTreeSet;
use std::net::IpAddr;

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
    /// Seconds.
    pub(super) idle_timeout: Option<u32>,
    /// Clients keep their backend although the spec does not say so (`epselect: persist`).
    pub(super) affinity: bool,
}

/// How backends are probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Probing {
    /// As is usual for where they are.
    #[default]
    AsUsual,
    /// Not at all.
    Off,
    /// So.
    By(WantedHealth),
}

// === impl Asks ===

impl Asks {
    pub(super) fn of(service: &Service) -> Result<Self, Trouble> {
        let mut asks = Asks::default();
        let mut probe = Probe::default();
        for (key, value) in service.metadata.annotations.iter().flatten() {
            let value = value.trim();
            if let Some(ours) = key.strip_prefix("sluice.dev/") {
                asks.take_ours(&mut probe, ours, key, value)?;
            } else if let Some(theirs) = key.strip_prefix("loxilb.io/") {
                asks.take_theirs(&mut probe, theirs, key, value)?;
            }
        }
        let ip = service.spec.as_ref().and_then(|s| s.load_balancer_ip.as_deref());
        if let Some(ip) = ip.filter(|ip| !ip.is_empty()) {
            asks.take_addresses("spec.loadBalancerIP", ip)?;
        }
        asks.health = probe.finish()?;
        if asks.secondary.is_some() && asks.secondary_pools.is_some() {
            let what = "secondary addresses are asked for one by one and by pools as well; take one of them off";
            return Err(trouble("AnnotationContradiction", what));
        }
        if asks.nat64 == Some(true) && asks.v6 == Some(false) {
            let what = "loxilb.io/ipam asks for IPv4, and NAT64 is for an IPv6 address; take one of them off";
            return Err(trouble("AnnotationContradiction", what));
        }
        Ok(asks)
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
            "idle-timeout" => once(&mut self.idle_timeout, key, number(key, value, 1..=604_800)?),
            "health" => once(&mut probe.kind, key, kind(key, value)?),
            "full-nat" => once(&mut self.full_nat, key, truth(key, value)?),
            "nat64" => once(&mut self.nat64, key, truth(key, value)?),
            "endpoints" => match value {
                "pods" => once(&mut self.endpoints, key, EndpointMode::Pods),
                "nodes" => once(&mut self.endpoints, key, EndpointMode::Nodes),
                _ => Err(invalid(key, value, "pods or nodes")),
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
            ("timeout", _) => once(&mut self.idle_timeout, key, number(key, value, 1..=604_800)?),
            ("ipam", "ipv4" | "ip" | "ip4") => once(&mut self.v6, key, false),
            ("ipam", "ipv6" | "ip6" | "nat66") => once(&mut self.v6, key, true),
            ("ipam", "ipv6to4" | "nat64") => once(&mut self.nat64, key, true),
            ("lbmode", "default") => once(&mut self.full_nat, key, false),
            ("lbmode", "fullnat" | "onearm" | "hostonearm") => once(&mut self.full_nat, key, true),
            ("usepodnetwork", _) => {
                let pods = yes(key, value)?;
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
            ("useExternalEndpoint", _) => yes(key, value).map(|_| ()),
            ("prefLocalPod" | "useproxyprotov2" | "egress", _) if !yes(key, value)? => Ok(()),
            ("mtls-frontend-mode", "disabled") => Ok(()),
            _ => Err(unsupported(key, value)),
        }
    }

    /// Several places may name addresses as long as they name the same ones.
    fn take_addresses(&mut self, key: &str, text: &str) -> Result<(), Trouble> {
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
        self.addresses = addresses;
        Ok(())
    }
}

// === impl Asks, secondary addresses ===

impl Asks {
    fn take_secondary(&mut self, key: &str, text: &str) -> Result<(), Trouble> {
        let invalid = || invalid(key, text, "1 to 3 IP addresses, each once");
        let read = |one: &str| one.trim().parse().map_err(|_| invalid());
        let addresses: Vec<IpAddr> = text.split(',').map(read).collect::<Result<_, _>>()?;
        let distinct: BTreeSet<_> = addresses.iter().collect();
        if distinct.len() < addresses.len() || addresses.len() > MAX_SECONDARY_VIPS {
            return Err(invalid());
        }
        once(&mut self.secondary, key, addresses)
    }

    /// A pool that is named twice gives two.
    fn take_secondary_pools(&mut self, key: &str, text: &str) -> Result<(), Trouble> {
        let pools: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        if pools.iter().any(String::is_empty) || pools.len() > MAX_SECONDARY_VIPS {
            return Err(invalid(key, text, "1 to 3 names of AddressPools"));
        }
        once(&mut self.secondary_pools, key, pools)
    }
}

/// The parts of a health check, as they are found.
#[derive(Default)]
struct Probe {
    alive: bool,
    kind: Option<Kind>,
    request: Option<String>,
    port: Option<u16>,
    every_s: Option<u32>,
    fall: Option<u8>,
}

#[derive(PartialEq)]
enum Kind {
    None,
    Tcp,
    Http(String),
}

// === impl Probe ===

impl Probe {
    /// One of kube-loxilb's annotations; 0 stands for the default there.
    fn take(&mut self, word: &str, key: &str, value: &str) -> Result<(), Trouble> {
        let read = |high| number(key, value, 0..=high).map(|n| (n > 0).then_some(n));
        match (word, value) {
            ("liveness", _) => self.alive = yes(key, value)?,
            ("probetype", "none" | "tcp") => once(&mut self.kind, key, kind(key, value)?)?,
            ("probetype", "http") => once(&mut self.kind, key, Kind::Http("/".to_owned()))?,
            ("probereq", path) => self.request = Some(format!("/{}", path.trim_start_matches('/'))),
            ("probeport", _) => self.port = read(65_535)?.and_then(|n| u16::try_from(n).ok()),
            ("probetimeout", _) => self.every_s = read(3600)?,
            ("proberetries", _) => self.fall = read(255)?.and_then(|n| u8::try_from(n).ok()),
            _ => return Err(unsupported(key, value)),
        }
        Ok(())
    }

    fn finish(self) -> Result<Probing, Trouble> {
        let http_path = match (self.kind, self.request) {
            (Some(Kind::Http(path)), request) => Some(request.unwrap_or(path)),
            (_, Some(request)) => return Err(unsupported("loxilb.io/probereq", &request)),
            (Some(Kind::None), None) => return Ok(Probing::Off),
            (None, None) if !self.alive => return Ok(Probing::AsUsual),
            (None | Some(Kind::Tcp), None) => None,
        };
        Ok(Probing::By(WantedHealth {
            http_path,
            port: self.port,
            interval_ms: self.every_s.map(|s| s.saturating_mul(1000)),
            timeout_ms: None,
            fall: self.fall,
        }))
    }
}

/// Takes a value; two places that differ contradict each other.
fn once<T: PartialEq>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), Trouble> {
    if slot.as_ref().is_some_and(|other| *other != value) {
        let what = format!("{key} contradicts another annotation; take one of them off");
        return Err(trouble("AnnotationContradiction", what));
    }
    *slot = Some(value);
    Ok(())
}

fn kind(key: &str, value: &str) -> Result<Kind, Trouble> {
    match (value, value.strip_prefix("http:")) {
        ("none", _) => Ok(Kind::None),
        ("tcp", _) => Ok(Kind::Tcp),
        (_, Some(path)) if path.starts_with('/') => Ok(Kind::Http(path.to_owned())),
        _ => Err(invalid(key, value, "tcp, http:/path or none")),
    }
}

fn truth(key: &str, value: &str) -> Result<bool, Trouble> {
    match value {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err(invalid(key, value, "true or false")),
    }
}

fn yes(key: &str, value: &str) -> Result<bool, Trouble> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(invalid(key, value, "yes or no")),
    }
}

fn number(key: &str, value: &str, within: std::ops::RangeInclusive<u32>) -> Result<u32, Trouble> {
    let (low, high) = (within.start(), within.end());
    let read = value.parse().ok().filter(|number| within.contains(number));
    read.ok_or_else(|| invalid(key, value, &format!("a whole number from {low} to {high}")))
}

fn invalid(key: &str, value: &str, wanted: &str) -> Trouble {
    trouble("InvalidAnnotation", format!("{key} is {value:?}; it takes {wanted}"))
}

fn unsupported(key: &str, value: &str) -> Trouble {
    trouble("UnsupportedAnnotation", format!("{key}: {value:?} is not served; take it off"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asks(annotations: &serde_json::Value) -> Result<Asks, &'static str> {
        let o = json!({"metadata": {"annotations": annotations}});
        Asks::of(&serde_json::from_value(o).unwrap()).map_err(|trouble| trouble.reason)
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
            (json!({"loxilb.io/liveness": "true"}), "InvalidAnnotation"),
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
