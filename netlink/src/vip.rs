//! VIPs on `lo`: added with our mark, adopted when they have it, refused when someone else has the
//! address. They say what is ours; the kernel's stack does not answer for them (`silence`).

use crate::address_table::AddressTable;
use crate::decode::Addr;
use crate::error::{AddVipError, RemoveVipError, RequestError, VipsError};
use crate::kernel;
use crate::ours::{LOOPBACK_INDEX, vip_message};
use crate::silence;
use crate::socket::Requests;
use crate::types::{Addresses, Link};
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Adds, removes and reads VIPs.
///
/// The followed address table answers the common case without a dump, so that a call costs one
/// exchange whatever the number of VIPs. It can lag behind the kernel by a moment, so no refusal rests
/// on it alone; and an equal address on `lo` is refused by the kernel itself. What remains is an
/// address that came to another link in the very moment: it is not noticed.
#[derive(Clone)]
pub(crate) struct Vips {
    requests: Requests,
    followed: watch::Receiver<AddressTable>,
    links: watch::Receiver<Arc<BTreeMap<u32, Link>>>,
    /// This kernel has been seen to keep the mark, per family (IPv4, IPv6).
    keeps_mark: Arc<[AtomicBool; 2]>,
}

// === impl Vips ===

impl Vips {
    pub(crate) fn new(
        requests: Requests,
        followed: watch::Receiver<AddressTable>,
        links: watch::Receiver<Arc<BTreeMap<u32, Link>>>,
    ) -> Self {
        Self { requests, followed, links, keeps_mark: Arc::default() }
    }

    pub(crate) async fn read(&self) -> Result<Addresses, VipsError> {
        let addrs = kernel::addrs(&self.requests).await.map_err(VipsError::Read)?;
        let (ours, others): (Vec<&Addr>, Vec<&Addr>) = addrs.iter().partition(|addr| addr.ours);
        let mut vips: BTreeSet<IpAddr> = ours.into_iter().map(|addr| addr.net.addr()).collect();
        let loud = silence::converge(&self.requests, &vips).await.map_err(VipsError::Read)?;
        // Not as it should be, so it is to be added again, which says why it fails.
        vips.retain(|vip| !loud.contains_key(vip));
        let others = others.into_iter().map(|addr| (addr.net, addr.link_index)).collect();
        Ok(Addresses { vips, others })
    }

    /// Returns the failures.
    pub(crate) async fn add(&self, vips: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, AddVipError> {
        let mut failures = BTreeMap::new();
        let mut wanted = vips.clone();
        let suspect = self.in_followed(&wanted, |table, vip| table.foreign(vip).is_some());
        self.refuse_foreign(&suspect, &mut wanted, &mut failures).await;

        let messages = wanted.iter().map(|vip| {
            let message = RouteNetlinkMessage::NewAddress(vip_message(*vip));
            (message, NLM_F_CREATE | NLM_F_EXCL)
        });
        let answers = match self.requests.batch(messages.collect()).await {
            Ok(answers) => answers,
            Err(source) => {
                failures.extend(
                    wanted.into_iter().map(|vip| (vip, AddVipError::Request { vip, source })),
                );
                return failures;
            }
        };
        let mut added = BTreeSet::new();
        let mut present = BTreeSet::new();
        for (vip, answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok(_) => drop(added.insert(vip)),
                Err(Errno::EEXIST) => drop(present.insert(vip)),
                Err(errno) => {
                    let source = RequestError::Refused(errno);
                    failures.insert(vip, AddVipError::Request { vip, source });
                }
            }
        }
        // What exists and is not known to be ours is looked at, then adopted or refused.
        let suspect = self.in_followed(&present, |table, vip| !table.is_ours(vip));
        self.refuse_foreign(&suspect, &mut present, &mut failures).await;
        self.check_mark(&added, &mut failures).await;
        let mut ours: BTreeSet<IpAddr> = added.union(&present).copied().collect();
        ours.retain(|vip| !failures.contains_key(vip));
        let silenced = silence::silence(&self.requests, &ours).await;
        let late = silenced.without_route.into_iter().filter(|vip| added.contains(vip));
        silence::silence_late(&self.requests, late).await;
        for (vip, source) in silenced.failures {
            failures.insert(vip, AddVipError::Request { vip, source });
        }
        failures
    }

    /// Returns the failures.
    pub(crate) async fn remove(&self, vips: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, RemoveVipError> {
        let mut failures = BTreeMap::new();
        let mut ours = vips.clone();
        let unknown = self.in_followed(vips, |table, vip| !table.is_ours(vip));
        if !unknown.is_empty() {
            match kernel::addrs(&self.requests).await {
                Ok(addrs) => {
                    let table = AddressTable::from_dump(&addrs);
                    for vip in unknown.into_iter().filter(|vip| !table.is_ours(*vip)) {
                        ours.remove(&vip);
                        if table.foreign(vip) == Some(LOOPBACK_INDEX) {
                            failures.insert(vip, RemoveVipError::Foreign { vip });
                        }
                    }
                }
                Err(source) => {
                    for vip in unknown {
                        ours.remove(&vip);
                        failures.insert(vip, RemoveVipError::Request { vip, source });
                    }
                }
            }
        }
        if let Err(error) = silence::release(&self.requests, ours.iter().copied()).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "blackholes of VIPs stay until the next look");
        }
        for (vip, answer) in self.delete(ours).await {
            match answer {
                // Gone already: somebody else was faster.
                Ok(()) | Err(RequestError::Refused(Errno::EADDRNOTAVAIL)) => {}
                Err(source) => {
                    failures.insert(vip, RemoveVipError::Request { vip, source });
                }
            }
        }
        failures
    }

    /// Moves those of `suspect` that the kernel says are not ours from `wanted` to `failures`.
    async fn refuse_foreign(
        &self,
        suspect: &BTreeSet<IpAddr>,
        wanted: &mut BTreeSet<IpAddr>,
        failures: &mut BTreeMap<IpAddr, AddVipError>,
    ) {
        if suspect.is_empty() {
            return;
        }
        let table = match kernel::addrs(&self.requests).await {
            Ok(addrs) => AddressTable::from_dump(&addrs),
            Err(source) => {
                for vip in suspect.iter().copied() {
                    wanted.remove(&vip);
                    failures.insert(vip, AddVipError::Request { vip, source });
                }
                return;
            }
        };
        for vip in suspect.iter().copied() {
            if let Some(link_index) = table.foreign(vip) {
                wanted.remove(&vip);
                let link = self.link_name(link_index);
                failures.insert(vip, AddVipError::Foreign { vip, link });
            }
        }
    }

    /// An older kernel ignores the mark without a word. The first addresses added are read back; if
    /// they are unmarked they are removed again, since nobody could tell later that they are ours.
    async fn check_mark(
        &self,
        added: &BTreeSet<IpAddr>,
        failures: &mut BTreeMap<IpAddr, AddVipError>,
    ) {
        let unchecked: BTreeSet<IpAddr> = added
            .iter()
            .copied()
            .filter(|vip| !self.mark_seen(*vip).load(Ordering::Relaxed))
            .collect();
        if unchecked.is_empty() {
            return;
        }
        let table = match kernel::addrs(&self.requests).await {
            Ok(addrs) => AddressTable::from_dump(&addrs),
            // Unknown is not absent: the next addition checks again.
            Err(_) => return,
        };
        let mut unmarked = BTreeSet::new();
        for vip in unchecked {
            if table.is_ours(vip) {
                self.mark_seen(vip).store(true, Ordering::Relaxed);
            } else if table.foreign(vip) == Some(LOOPBACK_INDEX) {
                unmarked.insert(vip);
            }
        }
        for (vip, answer) in self.delete(unmarked).await {
            if let Err(error) = answer {
                let error = &error as &dyn std::error::Error;
                tracing::error!(%vip, error, "an address without our mark stays on lo");
            }
            failures.insert(vip, AddVipError::NoMark { vip });
        }
    }

    async fn delete(&self, vips: BTreeSet<IpAddr>) -> Vec<(IpAddr, Result<(), RequestError>)> {
        let messages =
            vips.iter().map(|vip| (RouteNetlinkMessage::DelAddress(vip_message(*vip)), 0));
        match self.requests.batch(messages.collect()).await {
            Ok(answers) => vips
                .into_iter()
                .zip(answers)
                .map(|(vip, answer)| (vip, answer.map(|_| ()).map_err(RequestError::Refused)))
                .collect(),
            Err(error) => vips.into_iter().map(|vip| (vip, Err(error))).collect(),
        }
    }

    fn in_followed(
        &self,
        vips: &BTreeSet<IpAddr>,
        choose: impl Fn(&AddressTable, IpAddr) -> bool,
    ) -> BTreeSet<IpAddr> {
        let table = self.followed.borrow();
        vips.iter().copied().filter(|vip| choose(&table, *vip)).collect()
    }

    fn mark_seen(&self, vip: IpAddr) -> &AtomicBool {
        let [v4, v6] = &*self.keeps_mark;
        if vip.is_ipv4() { v4 } else { v6 }
    }

    fn link_name(&self, link_index: u32) -> String {
        let links = self.links.borrow();
        links
            .get(&link_index)
            .map_or_else(|| format!("link {link_index}"), |link| link.name.clone())
    }
}
