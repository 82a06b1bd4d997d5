//! The daemon's state, and what each event does to it.

use super::events::Event;
use super::forwarding;
use super::groups::Groups;
use super::links::{self, Attachments};
use super::logging::notify;
use super::outside::Outside;
use super::pace::Pace;
use crate::config::Config;
use crate::health::{Checks, Reports};
use crate::http::Connections;
use crate::ledger::SharedLedger;
use crate::ports::{Addresses, ClientWays, DataPlane, NextHops, Routes};
use crate::reconcile::{Look, Reconciler};
use crate::sources::{Bridges, Merged};
use crate::status::{Meter, PeerProblems, SourceReports, View};
use sd_notify::NotifyState;
use sluice_api::Snapshot;
use sluice_bgp::{PeerStatus, SpeakerConfig};
use sluice_model::{Health, Verdict};
use sluice_netlink::{Link, Netlink, Resolution, Surroundings};
use sluice_plan::Refused;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What others may have changed behind our back is repaired within this time.
const RESYNC: Duration = Duration::from_secs(10);

/// Idle flows are looked for this often; idle times are given in seconds, so being late by some is no harm.
const SWEEP: Duration = Duration::from_secs(5);

/// What the loop does after an event.
pub(super) enum Next {
    /// Goes on.
    Go,
    /// Goes on, with other sessions to listen to.
    Rewire,
    /// Ends.
    Stop(&'static str),
}

/// Everything the daemon knows and holds.
pub(super) struct Appliance {
    pub(super) path: PathBuf,
    pub(super) config: Config,
    /// What only a restart can change, as it was at the start.
    pub(super) started_with: Config,
    pub(super) started: SystemTime,
    pub(super) ledger: SharedLedger,
    pub(super) desired: watch::Receiver<Arc<Merged>>,
    /// The API under TLS.
    pub(super) outside: Option<Outside>,
    /// What the speaker was last configured with.
    pub(super) speaker: Option<SpeakerConfig>,
    pub(super) peer_problems: PeerProblems,
    /// What became of the wishes of sources.
    pub(super) reports: watch::Sender<Arc<SourceReports>>,
    pub(super) report_revision: u64,
    pub(super) merged: Arc<Merged>,
    pub(super) netlink: Netlink,
    pub(super) data_plane: DataPlane,
    pub(super) reconciler: Reconciler<DataPlane, Addresses, Routes>,
    pub(super) attachments: Attachments,
    pub(super) groups: Groups,
    pub(super) checks: Checks,
    pub(super) health: Health,
    pub(super) verdicts: Reports,
    pub(super) links: Arc<BTreeMap<u32, Link>>,
    pub(super) resolutions: Arc<BTreeMap<IpAddr, Resolution>>,
    /// Who else has addresses here.
    pub(super) surroundings: Arc<Surroundings>,
    /// What of the desired state may not be.
    pub(super) refused: Refused,
    pub(super) next_hops: NextHops,
    pub(super) client_ways: ClientWays,
    pub(super) peers: Vec<PeerStatus>,
    pub(super) meter: Meter,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) pace: Pace,
    pub(super) connections: Arc<Connections>,
    /// Ends the API.
    pub(super) stop: CancellationToken,
    /// While the ledger is lost: how many sources were heard, and since when.
    pub(super) heard: Option<(usize, Instant)>,
    /// What the last reload and the data plane have to complain about.
    pub(super) reload_problem: Option<String>,
    pub(super) data_plane_problem: Option<String>,
    pub(super) sweep: Option<JoinHandle<anyhow::Result<u64>>>,
    pub(super) swept_at: Instant,
    pub(super) looked_at: Instant,
    /// What the next plan must start from; `None` when nothing a plan is made of has changed.
    pub(super) due: Option<Look>,
}

// === impl Appliance ===

impl Appliance {
    /// Takes an event in. Effects on the kernel happen in [`Appliance::flush`], except those of links and signals.
    ///
    /// # Errors
    /// When a part is lost that the daemon cannot work without.
    pub(super) async fn handle(&mut self, event: Event) -> anyhow::Result<Next> {
        match event {
            Event::Desired(merged) => {
                self.follow_peers(&merged.bridges).await;
                self.take_desired(merged);
            }
            Event::Health(verdicts) => self.take_reports(verdicts),
            Event::NextHops(resolutions) => self.take_ways(resolutions),
            Event::Ways(ways) => self.client_ways.known(ways),
            Event::Surroundings(surroundings) => self.take_surroundings(surroundings),
            Event::Routing => {
                if let Err(error) = self.data_plane.flush_cache().await {
                    self.complain(format!("cannot renew cached ways: {error:#}"));
                }
            }
            Event::Links(links) => {
                self.links = links;
                self.sync_links().await;
            }
            Event::Peers(peers) => self.peers = peers,
            Event::Reload => return Ok(self.reload().await),
            Event::Tick => self.tick().await,
            Event::Show => {}
            Event::Terminate(signal) => return Ok(Next::Stop(signal)),
            // What carries traffic stays as it is; the service manager starts us again and we adopt it.
            Event::Lost(part) => anyhow::bail!("{part} ended unexpectedly"),
        }
        Ok(Next::Go)
    }

    /// Makes the world follow what was taken in, and shows it.
    pub(super) async fn flush(&mut self) {
        self.give_next_hops().await;
        self.give_client_ways().await;
        if let Some(look) = self.due.take() {
            self.pass(look).await;
        }
        self.publish();
    }

    pub(super) fn take_desired(&mut self, merged: Arc<Merged>) {
        // Before the targets change: whoever carries traffic now goes on until its first verdict.
        self.health.adopt(self.reconciler.observed());
        self.merged = merged;
        let desired = &self.merged.desired;
        tracing::info!(
            generation = desired.generation().0,
            services = desired.services().count(),
            "new desired state"
        );
        // Nobody is asked whether it lives before it is known that it may be a backend.
        self.judge();
        self.retarget();
        self.plan_from(Look::Memory);
    }

    /// Peers of sources come and go with what sources say.
    async fn follow_peers(&mut self, bridges: &Bridges) {
        let (speaker, problems) = self.wanted_speaker(&self.config, bridges);
        self.peer_problems = problems;
        if speaker == self.speaker {
            return;
        }
        match self.reconciler.routes.configure(speaker.as_ref(), false).await {
            Ok(()) => self.speaker = speaker,
            Err(error) => tracing::error!("cannot follow the peers of sources: {error:#}"),
        }
    }

    fn take_reports(&mut self, verdicts: Reports) {
        self.verdicts = verdicts;
        let known = self.verdicts.iter().filter(|(_, r)| r.verdict != Verdict::Unknown);
        let verdicts = known.map(|(target, report)| (target.clone(), report.verdict)).collect();
        if self.health.verdicts != verdicts {
            self.health.verdicts = verdicts;
            self.plan_from(Look::Memory);
        }
    }

    fn take_ways(&mut self, resolutions: Arc<BTreeMap<IpAddr, Resolution>>) {
        let lost = resolutions.iter().filter(|(_, resolution)| match resolution {
            Resolution::NoRoute | Resolution::Local | Resolution::Unreachable { .. } => true,
            // On its way to an answer: what was sent there before goes on.
            Resolution::Resolved(_) | Resolution::Resolving { .. } => false,
        });
        let lost: BTreeSet<IpAddr> = lost.map(|(address, _)| *address).collect();
        self.resolutions = resolutions;
        if self.health.without_way != lost {
            self.health.without_way = lost;
            self.plan_from(Look::Memory);
        }
    }

    pub(super) async fn sync_links(&mut self) {
        let (patterns, now) = (&self.config.data_plane.interfaces, Instant::now());
        let changed = self.attachments.sync(patterns, &self.links, &self.data_plane, now).await;
        if changed {
            self.plan_from(Look::World);
        }
    }

    pub(super) async fn give_next_hops(&mut self) {
        let wanted = self.backend_addresses();
        let Some(set) = self.next_hops.next(&wanted, &self.resolutions, Instant::now()) else {
            return;
        };
        match self.data_plane.set_next_hops(set.clone()).await {
            Ok(()) => {
                self.next_hops.given(set);
                self.data_plane_problem = None;
            }
            Err(error) => self.complain(format!("cannot set next hops: {error:#}")),
        }
    }

    pub(super) async fn give_client_ways(&mut self) {
        let Some(ways) = self.client_ways.next(Instant::now()) else { return };
        match self.data_plane.set_ways(ClientWays::of_xdp(&ways)).await {
            Ok(()) => self.client_ways.given(ways),
            Err(error) => self.complain(format!("cannot set ways to clients: {error:#}")),
        }
    }

    pub(super) async fn pass(&mut self, look: Look) {
        let now = Instant::now();
        if look == Look::World {
            self.looked_at = now;
        }
        let reserved = self.reserved();
        self.reconciler.pass(&self.merged.desired, &self.health, &reserved, look, now).await;
        // It may have seen other addresses of the host.
        if self.judge() {
            self.retarget();
        }
        let links =
            self.attachments.attached().map(|index| (index, self.netlink.addresses_on(index)));
        self.groups.follow(&self.reconciler.observed().addresses, links);
    }

    /// The next flush plans again.
    pub(super) fn plan_from(&mut self, look: Look) {
        self.due = self.due.max(Some(look));
    }

    async fn tick(&mut self) {
        // Only this loop feeds the watchdog: if it hangs, the service manager starts us again.
        if sd_notify::watchdog_enabled().is_some() {
            notify(&[NotifyState::Watchdog]);
        }
        super::log_limit::tell();
        self.follow_access();
        let now = Instant::now();
        self.recover(now).await;
        // One question for each link: somebody may have detached it. Not behind a sweep, which takes its time.
        let is_due = self.attachments.retry_at().is_some_and(|at| now >= at);
        if is_due || self.sweep.is_none() {
            self.sync_links().await;
        }
        if now >= self.looked_at + RESYNC {
            self.plan_from(Look::World);
        } else if self.reconciler.retry_at().is_some_and(|at| now >= at) {
            self.plan_from(Look::Memory);
        }
        self.sweep(now).await;
        if self.sweep.is_none() {
            self.read_counters().await;
        }
    }

    /// Starts a sweep or looks after the one that runs. It is not waited for: a large table takes its time.
    async fn sweep(&mut self, now: Instant) {
        if let Some(sweep) = self.sweep.take_if(|sweep| sweep.is_finished()) {
            match sweep.await {
                Ok(Ok(flows)) => tracing::debug!(flows, "swept"),
                Ok(Err(error)) => self.complain(format!("cannot expire flows: {error:#}")),
                Err(error) => self.complain(format!("cannot expire flows: {error}")),
            }
        }
        if self.sweep.is_none() && now >= self.swept_at + SWEEP {
            self.swept_at = now;
            let data_plane = self.data_plane.clone();
            self.sweep = Some(tokio::spawn(async move { data_plane.sweep().await }));
        }
    }

    async fn read_counters(&mut self) {
        match self.data_plane.snapshot().await {
            Ok(reading) => self.meter.feed(reading, Instant::now(), SystemTime::now()),
            Err(error) => self.complain(format!("cannot read counters: {error:#}")),
        }
    }

    /// Remembers what does not work in the data plane, and logs it once.
    fn complain(&mut self, problem: String) {
        if self.data_plane_problem.as_ref() != Some(&problem) {
            tracing::error!("{problem}");
        }
        self.data_plane_problem = Some(problem);
    }

    /// When the state is to be shown that was not shown yet.
    pub(super) fn shows_at(&self) -> Option<Instant> {
        self.pace.due_at()
    }

    /// Reports to sources, which wait for it, and shows the state as it is, at its pace.
    pub(super) fn publish(&mut self) {
        let began = Instant::now();
        let is_shown = self.pace.ask(began);
        let patterns = &self.config.data_plane.interfaces;
        let mut troubles = self.reconciler.problems();
        troubles.extend(self.attachments.problems(patterns, &self.links));
        troubles.extend(links::meddling(&self.data_plane, &self.links));
        troubles.extend(self.groups.problem().cloned());
        troubles.extend(self.client_ways.problem(forwarding::is_on));
        let own = [&self.reload_problem, &self.data_plane_problem];
        troubles.extend(own.into_iter().flatten().cloned());
        troubles.extend(self.access_problems());
        troubles.extend(crate::health::problems(&self.verdicts));
        troubles.extend(self.connections.problem());
        troubles.extend(self.waits_for_restart());
        let failures = self.reconciler.failures();
        let mut revision = self.report_revision;
        let view = View {
            now: SystemTime::now(),
            started: self.started,
            adopted: self.data_plane.adopted(),
            config: &self.config,
            merged: &self.merged,
            observed: self.reconciler.observed(),
            programmed: self.reconciler.programmed(),
            complete: self.reconciler.is_complete(),
            health: &self.health,
            refused: &self.refused,
            reports: &self.verdicts,
            resolutions: &self.resolutions,
            links: self.attachments.shown(patterns, &self.links),
            peers: &self.peers,
            meter: &self.meter,
            failures: &failures,
            peer_problems: &self.peer_problems,
            troubles,
        };
        let wanted = view.wanted();
        let before = Arc::clone(&self.reports.borrow());
        let reports = Arc::new(view.source_reports(&wanted, &before, &mut revision));
        // Before the snapshot, which takes longer to make: bridges wait for this.
        if reports != before {
            self.reports.send_replace(Arc::clone(&reports));
        }
        if is_shown {
            self.snapshots.send_replace(Arc::new(view.snapshot(&wanted, &reports)));
            self.pace.done(began, Instant::now());
        }
        self.report_revision = revision;
    }
}
