//! VIPs as addresses of this host, through netlink.

use crate::reconcile::{AddressPort, AddressState};
use sluice_model::HostAddress;
use sluice_netlink::Netlink;
use std::net::IpAddr;

/// The host's addresses.
pub(crate) struct Addresses(pub(crate) Netlink);

// === impl Addresses ===

impl AddressPort for Addresses {
    async fn addresses(&self) -> anyhow::Result<AddressState> {
        let read = self.0.addresses().await?;
        let links = self.0.links().borrow().clone();
        let named = |(net, index)| {
            let name = links.get(&index).map(|link| link.name.clone());
            HostAddress { net, link: name.unwrap_or_else(|| format!("link {index}")) }
        };
        Ok((read.vips, read.others.into_iter().map(named).collect()))
    }

    async fn add(&self, vip: IpAddr) -> anyhow::Result<()> {
        Ok(self.0.add_vip(vip).await?)
    }

    async fn remove(&self, vip: IpAddr) -> anyhow::Result<()> {
        Ok(self.0.remove_vip(vip).await?)
    }
}
