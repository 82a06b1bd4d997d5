//! Health: what is asked of a backend and what is known of it.

use crate::observed::Observed;
use crate::service::{Backend, Frontend, OnDown};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How often a backend may be asked. Ten times a second finds a dead one in a few hundred milliseconds, sooner than
/// routers move; more often is a flood: 400 backends asked every 10 ms are 40,000 connections a second, more than the
/// ports of this host last for. Less than once an hour is no check.
pub const PROBE_INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);

/// How a backend is asked whether it lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HealthCheck {
    /// The question.
    pub probe: Probe,
    /// Between the starts of two probes.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Consecutive successes until a backend that was down is up.
    pub rise: u8,
    /// Consecutive failures until down.
    pub fall: u8,
    /// Probe this port instead of the backend's.
    pub port: Option<u16>,
}

/// The question asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// A connection is accepted.
    TcpConnect,
    /// A GET is answered with a status in the range; redirects are answers, not followed.
    HttpGet {
        /// Request target, beginning with a slash.
        path: String,
        /// `Host` header; the probed address when absent.
        host: Option<String>,
        /// Statuses that count as success.
        status: StatusRange,
    },
}

/// HTTP statuses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusRange {
    /// Lowest status that is a success.
    pub first: u16,
    /// Highest status that is a success.
    pub last: u16,
}

/// One thing to probe. Services that ask the same question of the same server share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Where the probe goes.
    pub address: SocketAddr,
    /// How it asks; its `port` is already part of `address` and therefore always `None`.
    pub check: HealthCheck,
}

/// What the probes of a target say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Not enough probes yet.
    #[default]
    Unknown,
    /// Usable.
    Up,
    /// Not usable.
    Down,
}

/// Everything the planner may know about health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Verdicts by target; an absent one is unknown.
    pub verdicts: BTreeMap<Target, Verdict>,
    /// Weights of the backends that carried traffic when the present desired state arrived. Until their first verdict they
    /// stay as they were: a restart or a reload must not take a working backend out just because nobody has asked it yet.
    pub adopted: BTreeMap<(Frontend, SocketAddr), u16>,
    /// VIPs that were addresses of this host when the present desired state arrived: who asks for one of them as a backend
    /// comes later than who has it.
    pub seated: BTreeSet<IpAddr>,
    /// Addresses that packets have no way to: no route, or nobody answers on the link. Whoever is not asked is not
    /// trusted that far, because what is sent there is lost.
    pub without_way: BTreeSet<IpAddr>,
}

// === impl StatusRange ===

impl StatusRange {
    /// True when the status is a success.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

// === impl Target ===

impl Target {
    /// The target of a backend under a check.
    pub fn new(backend: SocketAddr, check: &HealthCheck) -> Self {
        let port = check.port.unwrap_or(backend.port());
        Target {
            address: SocketAddr::new(backend.ip(), port),
            check: HealthCheck { port: None, ..check.clone() },
        }
    }
}

// === impl Health ===

impl Health {
    /// Remembers who carries traffic now; called whenever a new desired state is about to be planned.
    pub fn adopt(&mut self, observed: &Observed) {
        self.seated.clone_from(&observed.addresses);
        self.adopted = observed
            .programs
            .iter()
            .flat_map(|(frontend, program)| {
                program.backends.iter().map(move |b| ((*frontend, b.address), b.weight))
            })
            .collect();
    }

    /// The verdict on a target.
    pub fn verdict(&self, target: &Target) -> Verdict {
        self.verdicts.get(target).copied().unwrap_or_default()
    }

    /// The weight a backend has in the program of a frontend; `None` leaves it out, so that its flows are picked again.
    pub fn weight(
        &self,
        frontend: Frontend,
        backend: &Backend,
        target: Option<&Target>,
        on_down: OnDown,
    ) -> Option<u16> {
        if self.without_way.contains(&backend.address.ip()) {
            return None;
        }
        let Some(target) = target else { return Some(backend.weight) };
        match self.verdict(target) {
            Verdict::Up => Some(backend.weight),
            Verdict::Down => match on_down {
                OnDown::Drain => Some(0),
                OnDown::Reset => None,
            },
            // One that was draining keeps its flows, but gets no new ones before somebody has asked it.
            Verdict::Unknown => match self.adopted.get(&(frontend, backend.address)) {
                Some(0) => Some(0),
                Some(_) => Some(backend.weight),
                None => None,
            },
        }
    }
}
