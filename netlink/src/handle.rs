//! The handle others hold.

use crate::driver::{self, Command, Outputs};
use crate::error::{AddVipError, AddressForError, RemoveVipError, StartError, VipsError};
use crate::kernel;
use crate::socket::Requests;
use crate::types::{Addresses, Link, Resolution, Surroundings, Ways};
use crate::vip::Vips;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Handle to the netlink task; clones share it, the last one dropped ends it.
///
/// When the task ends for another reason (the kernel closed a socket), every `watch` receiver sees
/// its channel closed and every request fails with [`crate::RequestError::Closed`].
#[derive(Clone)]
pub struct Netlink {
    commands: mpsc::UnboundedSender<Command>,
    requests: Requests,
    vips: Vips,
    outputs: Arc<Outputs>,
}

impl Netlink {
    /// Opens the sockets, reads the first full state and keeps watching.
    ///
    /// The network namespace is the one of the calling thread. Reading needs no privilege; VIPs and
    /// tracking need `CAP_NET_ADMIN`.
    pub async fn start() -> Result<Self, StartError> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (requests, outputs) = driver::start(receiver).await?;
        let vips = Vips::new(requests.clone(), outputs.addresses.clone(), outputs.links.clone());
        Ok(Self { commands, requests, vips, outputs: Arc::new(outputs) })
    }

    /// All links by index, published when one changes.
    pub fn links(&self) -> watch::Receiver<Arc<BTreeMap<u32, Link>>> {
        self.outputs.links.clone()
    }

    /// Our VIPs on `lo`, read back from the kernel.
    pub async fn vips(&self) -> Result<BTreeSet<IpAddr>, VipsError> {
        Ok(self.vips.read().await?.vips)
    }

    /// All addresses of this host, ours and others, read back from the kernel.
    pub async fn addresses(&self) -> Result<Addresses, VipsError> {
        self.vips.read().await
    }

    /// Addresses of this host that are not ours and next hops of its routes, published when one changes. Addresses are
    /// followed; routes are read again after a change, at most once a second.
    pub fn surroundings(&self) -> watch::Receiver<Arc<Surroundings>> {
        self.outputs.surroundings.clone()
    }

    /// Where packets to anybody go, published when a route or the MAC of a router changes. Routes are read again after a
    /// change, at most once a second.
    pub fn ways(&self) -> watch::Receiver<Arc<Ways>> {
        self.outputs.ways.clone()
    }

    /// Puts a VIP on `lo` with our mark. Does nothing when it is there and ours.
    pub async fn add_vip(&self, vip: IpAddr) -> Result<(), AddVipError> {
        self.vips.add(&BTreeSet::from([vip])).await.remove(&vip).map_or(Ok(()), Err)
    }

    /// Puts many VIPs on `lo`, pipelined; returns those that failed. Each is tried on its own.
    pub async fn add_vips(&self, vips: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, AddVipError> {
        self.vips.add(vips).await
    }

    /// Takes a VIP of ours from `lo`. Does nothing when it is not there; leaves a foreign one alone.
    pub async fn remove_vip(&self, vip: IpAddr) -> Result<(), RemoveVipError> {
        self.vips.remove(&BTreeSet::from([vip])).await.remove(&vip).map_or(Ok(()), Err)
    }

    /// Takes many VIPs of ours from `lo`, pipelined; returns those that failed.
    pub async fn remove_vips(&self, vips: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, RemoveVipError> {
        self.vips.remove(vips).await
    }

    /// The whole set of destinations whose next hops are kept resolved.
    pub fn track(&self, destinations: BTreeSet<IpAddr>) {
        // Fails only when the task has ended, which the closed watch channels tell.
        drop(self.commands.send(Command::Track(destinations)));
    }

    /// What is known of each tracked destination, published when one changes. A destination is
    /// absent until the kernel was first asked about it (some milliseconds after `track`).
    pub fn resolutions(&self) -> watch::Receiver<Arc<BTreeMap<IpAddr, Resolution>>> {
        self.outputs.resolutions.clone()
    }

    /// A counter that moves when a route, a link, a rule, an address that is not ours or the MAC of
    /// any neighbour changes: cached forwarding decisions made before are to be looked up again.
    /// The first change moves it at once, further ones at most every 10 ms. It says nothing about
    /// how often something changed.
    pub fn routing_epoch(&self) -> watch::Receiver<u64> {
        self.outputs.routing_epoch.clone()
    }

    /// Global addresses of a link that are not ours, with their prefix lengths, in order.
    pub fn addresses_on(&self, link_index: u32) -> Vec<IpNet> {
        self.outputs.addresses.borrow().global_on(link_index)
    }

    /// The source address the kernel would choose towards a destination; `None` without a route.
    pub async fn address_for(
        &self,
        destination: IpAddr,
    ) -> Result<Option<IpAddr>, AddressForError> {
        kernel::source_for(&self.requests, destination)
            .await
            .map_err(|source| AddressForError::Request { destination, source })
    }
}
