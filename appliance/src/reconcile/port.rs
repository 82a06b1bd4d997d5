//! What the reconciler needs of the world, in the words of the model. Adapters know nothing of these traits; the glue
//! does.

use ipnet::IpNet;
use sluice_model::{Frontend, HostAddress, Program, RouteAttributes};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Programs, guarded VIPs, and whether the data plane sees packets.
pub(crate) type DataPlaneState = (BTreeMap<Frontend, Program>, BTreeSet<IpAddr>, bool);

/// Our VIPs, and the host's other addresses.
pub(crate) type AddressState = (BTreeSet<IpAddr>, BTreeSet<HostAddress>);

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// It may pass by itself.
    Soon,
    /// Only when something else is freed first: a limit is reached.
    WhenFreed,
    /// Only when something else is wanted.
    Never,
}

/// The data plane.
pub(crate) trait DataPlanePort {
    /// Reads back what is in place.
    async fn read(&self) -> anyhow::Result<DataPlaneState>;
    /// Balances a frontend.
    async fn put_program(&self, frontend: Frontend, program: &Program) -> anyhow::Result<()>;
    /// Stops balancing a frontend.
    async fn remove_program(&self, frontend: Frontend) -> anyhow::Result<()>;
    /// Keeps the kernel's stack silent for a VIP.
    async fn guard(&self, vip: IpAddr) -> anyhow::Result<()>;
    /// Lets the kernel's stack have an address again.
    async fn unguard(&self, vip: IpAddr) -> anyhow::Result<()>;
    /// Whether trying again can help after this error of one of the above.
    fn prospect(&self, error: &anyhow::Error) -> Prospect;
}

/// Addresses of this host.
pub(crate) trait AddressPort {
    /// Reads back what the host has.
    async fn addresses(&self) -> anyhow::Result<AddressState>;
    /// Adds a VIP.
    async fn add(&self, vip: IpAddr) -> anyhow::Result<()>;
    /// Removes a VIP.
    async fn remove(&self, vip: IpAddr) -> anyhow::Result<()>;
}

/// What the routers are told.
pub(crate) trait RoutePort {
    /// The set the speaker has.
    fn announced(&self) -> BTreeMap<IpNet, RouteAttributes>;
    /// Gives the speaker the whole set; it sends the difference.
    fn announce(&mut self, routes: &BTreeMap<IpNet, RouteAttributes>);
}
