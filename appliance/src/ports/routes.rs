//! What the routers are told, through the BGP speaker; without one the set is kept for when there is.

use super::convert::attributes_to_bgp;
use crate::reconcile::RoutePort;
use ipnet::IpNet;
use sluice_bgp::{Announced, PeerStatus, Speaker, SpeakerConfig};
use sluice_model::RouteAttributes;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// The announced set and who is told.
#[derive(Default)]
pub(crate) struct Routes {
    set: BTreeMap<IpNet, RouteAttributes>,
    speaker: Option<Speaker>,
}

// === impl Routes ===

impl Routes {
    /// Makes the speaker what the configuration says: started, changed in place, or ended. A configuration that does not
    /// work changes nothing. `restarted` says that packets were balanced meanwhile (RFC 4724).
    pub(crate) async fn configure(
        &mut self,
        config: Option<&SpeakerConfig>,
        restarted: bool,
    ) -> anyhow::Result<()> {
        match (config, &self.speaker) {
            (Some(config), Some(speaker)) => Ok(speaker.configure(config.clone()).await?),
            (Some(config), None) => {
                let speaker = Speaker::start(config.clone(), self.to_bgp(), restarted).await?;
                self.speaker = Some(speaker);
                Ok(())
            }
            (None, _) => {
                self.shutdown("BGP is no longer configured").await;
                Ok(())
            }
        }
    }

    /// Sessions, now and at each change; `None` without a speaker.
    pub(crate) fn peers(&self) -> Option<watch::Receiver<Vec<PeerStatus>>> {
        self.speaker.as_ref().map(Speaker::peers)
    }

    /// Withdraws everything and ends the sessions; RFC 9003 carries the reason.
    pub(crate) async fn shutdown(&mut self, reason: &str) {
        if let Some(speaker) = self.speaker.take() {
            speaker.shutdown(reason).await;
        }
    }

    fn to_bgp(&self) -> Announced {
        self.set.iter().map(|(prefix, a)| (*prefix, attributes_to_bgp(a))).collect()
    }
}

impl RoutePort for Routes {
    fn announced(&self) -> BTreeMap<IpNet, RouteAttributes> {
        self.set.clone()
    }

    fn announce(&mut self, routes: &BTreeMap<IpNet, RouteAttributes>) {
        self.set.clone_from(routes);
        if let Some(speaker) = &self.speaker {
            speaker.announce(self.to_bgp());
        }
    }
}
