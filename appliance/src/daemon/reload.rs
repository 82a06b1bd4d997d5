//! SIGHUP: the file is read again. What does not hold together changes nothing.

use super::appliance::{Appliance, Next};
use super::links;
use super::logging::notify;
use crate::config::{self, Config};
use crate::sources::Source;
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
        if speaker(&fresh) != speaker(&self.config) {
            let routes = &mut self.reconciler.routes;
            routes.configure(speaker(&fresh), false).await.context("cannot change BGP")?;
        }
        if let Err(error) = self.ledger.submit_next(Source::ConfigFile, fresh.services.clone()) {
            let routes = &mut self.reconciler.routes;
            routes.configure(speaker(&self.config), false).await.context("cannot restore BGP")?;
            return Err(error.into());
        }
        if fresh.bgp.is_none() {
            self.peers.clear();
        }
        self.config = fresh;
        self.sync_links().await;
        Ok(())
    }

    /// Settings that differ from those the daemon was started with and cannot change while it runs.
    pub(super) fn waits_for_restart(&self) -> Vec<String> {
        let (now, then) = (&self.config, &self.started_with);
        let differs = [
            ("api.listen", now.api_listen != then.api_listen),
            ("state-dir", now.state_dir != then.state_dir),
            ("data-plane.attach", now.data_plane.attach != then.data_plane.attach),
            ("data-plane.pin-dir", now.data_plane.pin_dir != then.data_plane.pin_dir),
            ("data-plane.max-flows", now.data_plane.max_flows != then.data_plane.max_flows),
        ];
        let changed = differs.into_iter().filter(|(_, differs)| *differs);
        changed
            .map(|(key, _)| format!("the new value of {key} takes effect after a restart"))
            .collect()
    }
}

fn speaker(config: &Config) -> Option<&sluice_bgp::SpeakerConfig> {
    config.bgp.as_ref().map(|bgp| &bgp.speaker)
}
