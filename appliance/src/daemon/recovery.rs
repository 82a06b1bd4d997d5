//! A ledger that was lost: whom to expect, and when all have been heard.

use super::appliance::Appliance;
use crate::config::Config;
use crate::ledger::{Expected, Submission};
use std::time::{Duration, Instant};

/// Who may have written to the ledger.
pub(super) fn expected(config: &Config) -> Expected {
    let tokens = config.api_tls.iter().flat_map(|tls| &tls.tokens);
    let named = tokens.flat_map(|token| token.sources.iter().cloned()).collect();
    Expected { named, some: config.api_tls.is_some() }
}

// === impl Appliance ===

impl Appliance {
    /// Lets go what is held when nobody is left who could claim it.
    pub(super) async fn recover(&mut self, now: Instant) {
        let Some(recovery) = &self.merged.recovery else {
            self.heard = None;
            return;
        };
        let heard = recovery.heard.len();
        let before = self.heard.filter(|(count, _)| *count == heard);
        let (_, since) = *self.heard.insert(before.unwrap_or((heard, now)));
        let held = self.merged.held();
        if before.is_none() {
            tracing::error!("{}", recovery.words(held));
        }
        let quiet = now.checked_duration_since(since).unwrap_or(Duration::ZERO);
        if !recovery.is_over(held, quiet) {
            return;
        }
        match self.ledger.submit(Submission::Settle).await {
            Ok(_) => tracing::info!(held, "everybody was heard; what nobody has claimed is let go"),
            // The state says so too; it is tried again with the next tick.
            Err(error) => tracing::debug!(%error, "the ledger cannot be settled"),
        }
    }
}
