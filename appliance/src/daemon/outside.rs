//! The API for who is not on this machine: its listener, and files that may change while it runs.

use super::appliance::Appliance;
use super::runtimes::moved;
use crate::config::ApiTls;
use crate::http::{Access, App};
use anyhow::Context as _;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// What is needed to serve it.
pub(super) struct Outside {
    config: ApiTls,
    access: watch::Sender<Arc<Access>>,
}

// === impl Outside ===

impl Outside {
    /// Binds and reads; serves nobody yet.
    pub(super) async fn open(config: &ApiTls) -> anyhow::Result<(TcpListener, Self)> {
        let listen = config.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen} for the API (api.tls.listen)"))?;
        let access = Access::read(config).context("cannot serve the API under TLS (api.tls)")?;
        let access = watch::Sender::new(Arc::new(access));
        Ok((listener, Outside { config: config.clone(), access }))
    }

    pub(super) fn serve(&self, runtime: &Handle, listener: TcpListener, app: App) {
        let access = self.access.subscribe();
        tracing::info!(listen = %self.config.listen, "API under TLS");
        runtime.spawn(async move {
            let served = async { app.serve_tls(moved(listener)?, access).await };
            if let Err(error) = served.await {
                tracing::error!(%error, "the API under TLS has ended");
            }
        });
    }

    /// Reads the files again, each for itself.
    fn refresh(&self) {
        let before = Arc::clone(&self.access.borrow());
        let access = before.read_again(&self.config);
        for problem in access.problems.iter().filter(|problem| !before.problems.contains(problem)) {
            tracing::error!("{problem}");
        }
        if access.problems.is_empty() {
            tracing::info!("certificate and tokens of the API are read again");
        }
        self.access.send_replace(Arc::new(access));
    }
}

// === impl Appliance ===

impl Appliance {
    /// Follows the files of `[api.tls]`.
    pub(super) fn follow_access(&self) {
        if let Some(outside) = &self.outside {
            let is_stale = outside.access.borrow().is_stale(&outside.config);
            if is_stale {
                outside.refresh();
            }
        }
    }

    /// Follows `[api.tls]` itself after a reload; where it listens needs a restart.
    pub(super) fn reconfigure_access(&mut self) {
        if let (Some(outside), Some(config)) = (&mut self.outside, &self.config.api_tls) {
            outside.config = ApiTls { listen: outside.config.listen, ..config.clone() };
            outside.refresh();
        }
    }

    pub(super) fn access_problems(&self) -> Vec<String> {
        let problems = |outside: &Outside| outside.access.borrow().problems.clone();
        self.outside.iter().flat_map(problems).collect()
    }
}
