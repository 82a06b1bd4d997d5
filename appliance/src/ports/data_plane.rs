//! The data plane on a thread of its own: calls into the kernel's maps block, and a sweep of a large flow table blocks
//! for long enough to delay a health verdict or a BGP keepalive.

use super::convert::{frontend_from_xdp, frontend_to_xdp, program_from_xdp, program_to_xdp};
use crate::reconcile::{DataPlanePort, Prospect};
use anyhow::Context as _;
use sluice_model::{Frontend, Program};
use sluice_xdp::Retry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut sluice_xdp::DataPlane) + Send>;

enum Order {
    Do(Job),
    /// Take everything down; the thread ends.
    Remove(oneshot::Sender<anyhow::Result<()>>),
}

/// What somebody else did is shown this long after it was repaired: longer than whoever watches the status looks away.
const FOUND_SHOWN: Duration = Duration::from_mins(5);

/// Which links carry the program.
pub(crate) struct Attached {
    pub(crate) modes: BTreeMap<u32, sluice_xdp::AttachMode>,
    /// The link whose driver does not take the program, and why, when all are attached behind their drivers for it.
    pub(crate) fallback: Option<(u32, String)>,
}

/// What the last looks at the kernel have shown besides contents.
#[derive(Default)]
pub(crate) struct Seen {
    /// What somebody else did, when it was last found.
    found: BTreeMap<sluice_xdp::Finding, Instant>,
    /// What could not be set right.
    failures: Vec<String>,
    /// Links that nothing may be announced without.
    required: BTreeSet<u32>,
}

/// Handle to the thread. When the last one is dropped the thread ends and leaves everything pinned and running.
#[derive(Clone)]
pub(crate) struct DataPlane {
    orders: mpsc::Sender<Order>,
    adopted: bool,
    seen: Arc<Mutex<Seen>>,
}

// === impl DataPlane ===

impl DataPlane {
    /// Loads the data plane or takes a running one over.
    pub(crate) async fn open(options: sluice_xdp::Options) -> anyhow::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let (opened, outcome) = oneshot::channel();
        let run = move || match sluice_xdp::DataPlane::open(&options) {
            Ok(data_plane) => {
                if opened.send(Ok(data_plane.adopted())).is_ok() {
                    work(data_plane, &inbox);
                }
            }
            // The receiver is only gone when the daemon is: nobody is left to be told.
            Err(error) => drop(opened.send(Err(error))),
        };
        std::thread::Builder::new().name("data-plane".to_owned()).spawn(run)?;
        let adopted = outcome.await.context(GONE)?.context("cannot load the data plane")?;
        Ok(DataPlane { orders, adopted, seen: Arc::default() })
    }

    /// True when a running data plane was taken over.
    pub(crate) fn adopted(&self) -> bool {
        self.adopted
    }

    async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut sluice_xdp::DataPlane) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (done, outcome) = oneshot::channel();
        // A caller that no longer waits does not need the answer.
        let job = move |data_plane: &mut _| drop(done.send(job(data_plane)));
        self.orders.send(Order::Do(Box::new(job))).map_err(|_| anyhow::anyhow!(GONE))?;
        outcome.await.context(GONE)
    }

    pub(crate) async fn attach(&self, link: u32) -> anyhow::Result<sluice_xdp::AttachMode> {
        Ok(self.call(move |data_plane| data_plane.attach(link)).await??)
    }

    pub(crate) async fn detach(&self, link: u32) -> anyhow::Result<()> {
        Ok(self.call(move |data_plane| data_plane.detach(link)).await??)
    }

    /// As the kernel says.
    pub(crate) async fn attached(&self) -> anyhow::Result<Attached> {
        self.call(|data_plane| Attached {
            modes: data_plane.attached(),
            fallback: data_plane.fallback().map(|(link, why)| (link, why.to_owned())),
        })
        .await
    }

    /// From now on nothing is announced while one of these links has no program. True when they were others before.
    pub(crate) fn require(&self, links: BTreeSet<u32>) -> bool {
        let mut seen = self.seen();
        let is_new = seen.required != links;
        seen.required = links;
        is_new
    }

    /// What was found lately, and what could not be set right.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn set_next_hops(
        &self,
        next_hops: BTreeMap<IpAddr, sluice_xdp::NextHop>,
    ) -> anyhow::Result<()> {
        Ok(self.call(move |data_plane| data_plane.set_next_hops(&next_hops)).await??)
    }

    pub(crate) async fn set_ways(&self, ways: sluice_xdp::Ways) -> anyhow::Result<()> {
        Ok(self.call(move |data_plane| data_plane.set_ways(&ways)).await??)
    }

    /// Makes every cached flow look its way up again.
    pub(crate) async fn flush_cache(&self) -> anyhow::Result<()> {
        Ok(self.call(|data_plane| data_plane.flush_cache()).await??)
    }

    pub(crate) async fn snapshot(&self) -> anyhow::Result<sluice_xdp::Snapshot> {
        Ok(self.call(|data_plane| data_plane.snapshot()).await??)
    }

    /// Expires idle flows.
    pub(crate) async fn sweep(&self) -> anyhow::Result<u64> {
        Ok(self.call(|data_plane| data_plane.sweep()).await??)
    }

    /// Detaches from every link and removes every pin.
    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
        let (done, outcome) = oneshot::channel();
        self.orders.send(Order::Remove(done)).map_err(|_| anyhow::anyhow!(GONE))?;
        outcome.await.context(GONE)?
    }
}

const GONE: &str = "the thread of the data plane has ended";

fn work(mut data_plane: sluice_xdp::DataPlane, inbox: &mpsc::Receiver<Order>) {
    while let Ok(order) = inbox.recv() {
        match order {
            Order::Do(job) => job(&mut data_plane),
            Order::Remove(done) => {
                return drop(done.send(data_plane.remove().map_err(anyhow::Error::from)));
            }
        }
    }
}

// === impl Seen ===

impl Seen {
    /// Whether every link that is required is attached, and one at all.
    fn take(
        &mut self,
        inspection: sluice_xdp::Inspection,
        attached: &BTreeMap<u32, sluice_xdp::AttachMode>,
        now: Instant,
    ) -> bool {
        self.found.extend(inspection.found.into_iter().map(|finding| (finding, now)));
        self.found.retain(|_, found_at| now.duration_since(*found_at) < FOUND_SHOWN);
        self.failures = inspection.failures;
        !attached.is_empty() && self.required.iter().all(|link| attached.contains_key(link))
    }

    /// What somebody else did lately.
    pub(crate) fn found(&self) -> impl Iterator<Item = &sluice_xdp::Finding> {
        self.found.keys()
    }

    /// What could not be set right.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }
}

impl DataPlanePort for DataPlane {
    async fn read(&self) -> anyhow::Result<crate::reconcile::DataPlaneState> {
        let (inspection, programs, vips, attached) = self
            .call(|data_plane| {
                // First: it repairs what is read afterwards.
                let inspection = data_plane.inspect();
                (inspection, data_plane.programs(), data_plane.vips(), data_plane.attached())
            })
            .await?;
        let attached = self.seen().take(inspection, &attached, Instant::now());
        let programs =
            programs?.into_iter().map(|(f, p)| (frontend_from_xdp(f), program_from_xdp(p)));
        Ok((programs.collect(), BTreeSet::from_iter(vips?), attached))
    }

    async fn put_program(&self, frontend: Frontend, program: &Program) -> anyhow::Result<()> {
        let (frontend, program) = (frontend_to_xdp(frontend), program_to_xdp(program));
        Ok(self.call(move |data_plane| data_plane.put_program(frontend, &program)).await??)
    }

    async fn remove_program(&self, frontend: Frontend) -> anyhow::Result<()> {
        let frontend = frontend_to_xdp(frontend);
        Ok(self.call(move |data_plane| data_plane.remove_program(&frontend)).await??)
    }

    async fn guard(&self, vip: IpAddr) -> anyhow::Result<()> {
        Ok(self.call(move |data_plane| data_plane.add_vip(vip)).await??)
    }

    async fn unguard(&self, vip: IpAddr) -> anyhow::Result<()> {
        Ok(self.call(move |data_plane| data_plane.remove_vip(vip)).await??)
    }

    fn prospect(&self, error: &anyhow::Error) -> Prospect {
        let program = error.downcast_ref::<sluice_xdp::ProgramError>().map(|e| e.retry());
        let vip = || error.downcast_ref::<sluice_xdp::VipError>().map(|e| e.retry());
        match program.or_else(vip) {
            Some(Retry::WhenFreed) => Prospect::WhenFreed,
            Some(Retry::Never) => Prospect::Never,
            Some(Retry::Soon) | None => Prospect::Soon,
        }
    }
}
