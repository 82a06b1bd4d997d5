//! VIPs as addresses of this host, through netlink.

use crate::reconcile::AddressPort;
use sluice_netlink::Netlink;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The host's addresses.
pub(crate) struct Addresses(pub(crate) Netlink);

// === impl Addresses ===

impl AddressPort for Addresses {
    async fn addresses(&self) -> anyhow::Result<BTreeSet<IpAddr>> {
        Ok(self.0.vips().await?)
    }

    async fn add(&self, vip: IpAddr) -> anyhow::Result<()> {
        Ok(self.0.add_vip(vip).await?)
    }

    async fn remove(&self, vip: IpAddr) -> anyhow::Result<()> {
        Ok(self.0.remove_vip(vip).await?)
    }
}
