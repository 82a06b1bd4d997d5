//! What a Service asks for beyond its spec: `sluice.dev/*`, and what kube-loxilb's users write.
//!
//! Nothing is ignored: a key of either prefix that is not served, or a value that makes no sense, is a trouble that
//! refuses the Service.

use super::{Trouble, trouble};
use k8s_openapi::api::core::v1::Service;
use sluice_api::WantedHealth;
use std::net::IpAddr;

/// What a Service asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asks {
    /// These addresses, at most one of each family; empty leaves the choice to the pools.
    pub(super) addresses: Vec<IpAddr>,
    /// Addresses of this pool.
    pub(super) pool: Option<String>,
    /// Backends are asked whether they live.
    pub(super) health: Option<WantedHealth>,
    /// Seconds.
    pub(super) idle_timeout: Option<u32>,
    /// Clients keep their backend although the spec does not say so (`epselect: persist`).
    pub(super) affinity: bool,
}

// === impl Asks ===

impl Asks {
    pub(super) fn of(service: &Service) -> Result<Self, Trouble> {
        let mut asks = Asks::default();
        let mut probe = Probe::default();
        for (key, value) in service.metadata.annotations.iter().flatten() {
            if key.starts_with("sluice.dev/") || key.starts_with("loxilb.io/") {
                asks.take(&mut probe, key, value.trim())?;
            }
        }
        let spec = service.spec.as_ref();
        if let Some(ip) =
            spec.and_then(|s| s.load_balancer_ip.as_deref()).filter(|ip| !ip.is_empty())
        {
            asks.take_addresses("spec.loadBalancerIP", ip)?;
        }
        asks.health = probe.health();
        Ok(asks)
    }

    fn take(&mut self, probe: &mut Probe, key: &str, value: &str) -> Result<(), Trouble> {
        match key {
            "sluice.dev/addresses" | "loxilb.io/staticIP" => self.take_addresses(key, value)?,
            "sluice.dev/pool" | "loxilb.io/poolSelect" => self.pool = Some(value.to_owned()),
            "sluice.dev/idle-timeout" | "loxilb.io/timeout" => {
                self.idle_timeout = Some(number(key, value, 1..=604_800)?);
            }
            "sluice.dev/health" => probe.kind = Some(kind(key, value)?),
            "loxilb.io/probetype" if ["none", "tcp"].contains(&value) => {
                probe.kind = Some(kind(key, value)?);
            }
            "loxilb.io/liveness" => probe.alive = yes(key, value)?,
            "loxilb.io/probeport" => {
                probe.port = u16::try_from(number(key, value, 1..=65_535)?).ok();
            }
            "loxilb.io/probetimeout" => probe.every_s = Some(number(key, value, 1..=3600)?),
            "loxilb.io/proberetries" => {
                probe.fall = u8::try_from(number(key, value, 1..=255)?).ok();
            }
            "loxilb.io/epselect" => match value {
                "rr" | "roundrobin" | "hash" | "lc" => {}
                "persist" => self.affinity = true,
                other => return Err(unsupported(key, other)),
            },
            "loxilb.io/lbmode" if value != "default" => return Err(unsupported(key, value)),
            "loxilb.io/usepodnetwork" if !yes(key, value)? => return Err(unsupported(key, value)),
            "loxilb.io/lbmode" | "loxilb.io/usepodnetwork" => {}
            _ => return Err(unsupported(key, value)),
        }
        Ok(())
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

/// The parts of a health check, as they are found.
#[derive(Default)]
struct Probe {
    alive: bool,
    kind: Option<Kind>,
    port: Option<u16>,
    every_s: Option<u32>,
    fall: Option<u8>,
}

enum Kind {
    None,
    Tcp,
    Http(String),
}

// === impl Probe ===

impl Probe {
    fn health(self) -> Option<WantedHealth> {
        let http_path = match self.kind {
            Some(Kind::None) => return None,
            None if !self.alive => return None,
            None | Some(Kind::Tcp) => None,
            Some(Kind::Http(path)) => Some(path),
        };
        Some(WantedHealth {
            http_path,
            port: self.port,
            interval_ms: self.every_s.map(|s| s.saturating_mul(1000)),
            timeout_ms: None,
            fall: self.fall,
        })
    }
}

fn kind(key: &str, value: &str) -> Result<Kind, Trouble> {
    match (value, value.strip_prefix("http:")) {
        ("none", _) => Ok(Kind::None),
        ("tcp", _) => Ok(Kind::Tcp),
        (_, Some(path)) if path.starts_with('/') => Ok(Kind::Http(path.to_owned())),
        _ => Err(invalid(key, value, "tcp, http:/path or none")),
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
            "sluice.dev/health": "tcp", "sluice.dev/idle-timeout": "90", "example.com/x": "y"});
        let theirs = json!({"loxilb.io/staticIP": "192.0.2.7", "loxilb.io/poolSelect": "p",
            "loxilb.io/liveness": "yes", "loxilb.io/timeout": "90", "loxilb.io/lbmode": "default"});
        assert_eq!(asks(&ours), asks(&theirs));
        assert_eq!(asks(&ours).unwrap().idle_timeout, Some(90));
        assert_eq!(asks(&ours).unwrap().health, Some(WantedHealth::default()));
    }

    #[test]
    fn probes_are_put_together() {
        let health = |annotations| asks(&annotations).unwrap().health;
        assert_eq!(health(json!({"loxilb.io/probeport": "81"})), None);
        let all = json!({"loxilb.io/probetype": "tcp", "loxilb.io/probeport": "81",
            "loxilb.io/probetimeout": "3", "loxilb.io/proberetries": "2"});
        let health_of_all = health(all).unwrap();
        assert_eq!((health_of_all.port, health_of_all.interval_ms), (Some(81), Some(3000)));
        assert_eq!(health_of_all.fall, Some(2));
        let http = health(json!({"sluice.dev/health": "http:/ready"})).unwrap();
        assert_eq!(http.http_path.as_deref(), Some("/ready"));
        let off = json!({"loxilb.io/liveness": "yes", "loxilb.io/probetype": "none"});
        assert_eq!(health(off), None);
    }

    #[test]
    fn nothing_is_ignored() {
        for (annotations, reason) in [
            (json!({"sluice.dev/adresses": "192.0.2.7"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/lbmode": "dsr"}), "UnsupportedAnnotation"),
            (json!({"loxilb.io/usepodnetwork": "no"}), "UnsupportedAnnotation"),
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
