//! SIGHUP: the file is read again. What does not hold together changes nothing.

use super::appliance::{Appliance, Next};
use super::links;
use super::logging::notify;
use crate::config;
use crate::ledger::Submission;
use crate::reconcile::Look;
use anyhow::{Context as _, bail};
use sd_notify::NotifyState;

// === impl Appliance ===

impl Appliance {
    /// Reads the file and follows it, or says why not.
    pub(super) async fn reload(&mut self) -> Next {
        // systemd's `Type=notify-reload` wants to know since when.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        let outcome = self.try_reload().await;
        self.reload_problem = outcome.as_ref().err().map(|error| {
            let lines = format!("{error:#}").replace('\n', "; ");
            format!("the last reload changed nothing: {lines}")
        });
        match &outcome {
            Ok(()) => tracing::info!(path = %self.path.display(), "configuration reloaded"),
            Err(error) => tracing::error!("reload refused, nothing has changed: {error:#}"),
        }
        notify(&[NotifyState::Ready]);
        Next::Rewire
    }

    async fn try_reload(&mut self) -> anyhow::Result<()> {
        let fresh = config::load(&self.path)?;
        let missing = links::missing(&fresh.data_plane.interfaces, &self.links);
        if !missing.is_empty() {
            bail!(links::missing_words(&missing, &self.links));
        }
        // The speaker can refuse (a port that is taken) and so can the ledger (a full disk): both before anything else.
        let (speaker, problems) = self.wanted_speaker(&fresh, &self.merged.bridges);
        if speaker != self.speaker {
            let routes = &mut self.reconciler.routes;
            routes.configure(speaker.as_ref(), false).await.context("cannot change BGP")?;
        }
        let wish = Submission::Config(fresh.services.clone(), fresh.limits());
        let accepted = self.ledger.submit(wish).await;
        if let Err(error) = accepted {
            let routes = &mut self.reconciler.routes;
            routes.configure(self.speaker.as_ref(), false).await.context("cannot restore BGP")?;
            return Err(error.into());
        }
        (self.speaker, self.peer_problems) = (speaker, problems);
        if fresh.bgp.is_none() {
            self.peers.clear();
        }
        self.config = fresh;
        // Other lists of what is allowed, other peers, other listeners.
        self.plan_from(Look::Memory);
        self.reconfigure_access();
        self.sync_links().await;
        Ok(())
    }

    /// Settings that differ from those the daemon was started with and cannot change while it runs.
    pub(super) fn waits_for_restart(&self) -> Vec<String> {
        let (now, then) = (&self.config, &self.started_with);
        let differs = [
            ("api.listen", now.api_listen != then.api_listen),
            ("api.tls.listen", tls_listen(now) != tls_listen(then)),
            ("state-dir", now.state_dir != then.state_dir),
            ("data-plane.attach", now.data_plane.attach != then.data_plane.attach),
            ("data-plane.pin-dir", now.data_plane.pin_dir != then.data_plane.pin_dir),
            ("data-plane.max-flows", now.data_plane.max_flows != then.data_plane.max_flows),
            (
                "data-plane.nat64-source",
                now.data_plane.nat64_source != then.data_plane.nat64_source,
            ),
        ];
        let changed = differs.into_iter().filter(|(_, differs)| *differs);
        changed
            .map(|(key, _)| format!("the new value of {key} takes effect after a restart"))
            .collect()
    }
}

fn tls_listen(config: &config::Config) -> Option<std::net::SocketAddr> {
    config.api_tls.as_ref().map(|tls| tls.listen)
}
