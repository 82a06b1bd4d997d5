//! The vocabulary of the appliance. No IO, no serde, no clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// What a client addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub vip: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}

/// A service's name, unique on the appliance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(pub String);

/// Grows with each accepted desired state of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// One backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    pub address: SocketAddr,
    /// 0 drains: existing flows stay, no new ones arrive.
    pub weight: u16,
}

/// How a backend is asked whether it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub probe: Probe,
    pub interval: Duration,
    pub timeout: Duration,
    /// Consecutive successes until up.
    pub rise: u8,
    /// Consecutive failures until down.
    pub fall: u8,
    /// Probe this port instead of the backend's.
    pub port: Option<u16>,
}

/// The question asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    TcpConnect,
    HttpGet { path: String, host: Option<String>, status: std::ops::RangeInclusive<u16> },
}

/// What happens to a new flow when no backend is usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoBackend {
    #[default]
    Reject,
    Drop,
}

/// One balanced service: every VIP × port × protocol is a frontend over the backends of the VIP's family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: ServiceName,
    pub vips: Vec<IpAddr>,
    pub port: u16,
    pub protocol: Protocol,
    pub backends: Vec<Backend>,
    pub health: Option<HealthCheck>,
    pub no_backend: NoBackend,
    pub idle_timeout: Duration,
}

/// Everything that should be, as one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub generation: Generation,
    pub services: BTreeMap<ServiceName, Service>,
}
