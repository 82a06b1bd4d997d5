//! Real routers: FRR, BIRD and GoBGP behind one trait, each with its own configuration language and its own words.

mod bird;
mod frr;
mod gobgp;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::IpNet;

pub use bird::Bird;
pub use frr::Frr;
pub use gobgp::GoBgp;

use super::netns::Netns;
use super::wait::until;

/// Which router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// FRR: bgpd with zebra.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP: no forwarding table of its own.
    GoBgp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Frr, Self::Bird, Self::GoBgp];

    /// Starts this router with a plain configuration.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(self, ns: &Netns, dir: &Path, config: &Config) -> Result<Box<dyn Router>> {
        Ok(match self {
            Self::Frr => Box::new(Frr::start(ns, dir, &Frr::config(config))?),
            Self::Bird => Box::new(Bird::start(ns, dir, &Bird::config(config))?),
            Self::GoBgp => Box::new(GoBgp::start(ns, dir, &GoBgp::config(config))?),
        })
    }

    /// True when it installs what it learns in the kernel of its namespace.
    pub fn forwards(self) -> bool {
        self != Self::GoBgp
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frr => "FRR",
            Self::Bird => "BIRD",
            Self::GoBgp => "GoBGP",
        })
    }
}

/// What a plain router is told; anything finer goes into a configuration text of one's own.
#[derive(Clone, Debug)]
pub struct Config {
    /// Own AS number.
    pub asn: u32,
    /// Own BGP identifier.
    pub router_id: Ipv4Addr,
    /// Sessions; each carries the family of its transport, and both when `both_families`.
    pub neighbors: Vec<Neighbor>,
    /// Routes to announce (originated from nowhere).
    pub announce: Vec<IpNet>,
}

/// One session of a plain router.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// The other side's address.
    pub address: IpAddr,
    /// The other side's AS number.
    pub asn: u32,
    /// Hold time; keepalives go out at a third of it.
    pub hold_time: Duration,
    /// Never connects by itself.
    pub passive: bool,
    /// IPv4 and IPv6 routes on this session.
    pub both_families: bool,
    /// Nothing is taken that does not come with a TTL of 255 (RFC 5082).
    pub ttl_security: bool,
}

impl Neighbor {
    /// A session with a hold time of nine seconds that connects and is connected to.
    pub fn new(address: IpAddr, asn: u32) -> Self {
        Self {
            address,
            asn,
            hold_time: Duration::from_secs(9),
            passive: false,
            both_families: false,
            ttl_security: false,
        }
    }

    fn carries(&self, ipv6: bool) -> bool {
        self.both_families || self.address.is_ipv6() == ipv6
    }
}

/// A route as a router learned it by BGP (its best path).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Global next hop.
    pub next_hop: Option<IpAddr>,
    /// AS path as text, `64512 64512`.
    pub as_path: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities as text, `64512:1`, sorted.
    pub communities: Vec<String>,
    /// Kept for a neighbour that restarts (RFC 4724).
    pub stale: bool,
}

/// A router of the lab.
pub trait Router: Send + fmt::Debug {
    /// Which one.
    fn kind(&self) -> Kind;
    /// Starts it (again) with the configuration it has.
    ///
    /// # Errors
    /// When it does not come up.
    fn start_again(&mut self) -> Result<()>;
    /// Ends it as an operator would (SIGTERM).
    ///
    /// # Errors
    /// When it does not end.
    fn stop(&mut self) -> Result<()>;
    /// Ends it as a crash would (SIGKILL).
    ///
    /// # Errors
    /// When it is gone already.
    fn kill(&mut self) -> Result<()>;
    /// Freezes it (SIGSTOP): sockets stay open, nothing is read or sent.
    ///
    /// # Errors
    /// When it is gone.
    fn pause(&mut self) -> Result<()>;
    /// Undoes [`Router::pause`].
    ///
    /// # Errors
    /// When it is gone.
    fn resume(&mut self) -> Result<()>;
    /// Every route learned by BGP.
    ///
    /// # Errors
    /// When it does not answer.
    fn routes(&self) -> Result<BTreeMap<IpNet, Route>>;
    /// State of the session with this neighbour, in the router's words with `Established` as the RFC spells it.
    ///
    /// # Errors
    /// When it does not answer or does not know the neighbour.
    fn session(&self, neighbor: IpAddr) -> Result<String>;
    /// Drops and restarts the session from this side (`clear`).
    ///
    /// # Errors
    /// When it refuses.
    fn clear(&self, neighbor: IpAddr) -> Result<()>;

    /// Waits until the session is established; returns how long that took.
    ///
    /// # Errors
    /// When it is not within `deadline`.
    fn wait_established(&self, neighbor: IpAddr, deadline: Duration) -> Result<Duration> {
        until(&format!("{} to establish with {neighbor}", self.kind()), deadline, || {
            let state = self.session(neighbor)?;
            ensure!(state == "Established", "it is {state}");
            Ok(())
        })
        .map(|((), took)| took)
    }

    /// Waits until every one of these routes is there; returns how long that took.
    ///
    /// # Errors
    /// When one is missing at the deadline.
    fn wait_routes(&self, wanted: &[IpNet], deadline: Duration) -> Result<Duration> {
        until(&format!("{} to learn {} routes", self.kind(), wanted.len()), deadline, || {
            let routes = self.routes()?;
            let missing: Vec<_> = wanted.iter().filter(|net| !routes.contains_key(net)).collect();
            ensure!(missing.is_empty(), "missing {missing:?}, has {} routes", routes.len());
            Ok(())
        })
        .map(|((), took)| took)
    }

    /// Waits until none of these routes is there; returns how long that took.
    ///
    /// # Errors
    /// When one is still there at the deadline.
    fn wait_no_routes(&self, unwanted: &[IpNet], deadline: Duration) -> Result<Duration> {
        until(&format!("{} to lose {} routes", self.kind(), unwanted.len()), deadline, || {
            let routes = self.routes()?;
            let there: Vec<_> = unwanted.iter().filter(|net| routes.contains_key(net)).collect();
            ensure!(there.is_empty(), "it still has {there:?}");
            Ok(())
        })
        .map(|((), took)| took)
    }
}
