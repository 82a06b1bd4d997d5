//! The API for who is not on this machine: its listener, and files that may change while it runs.

use super::appliance::Appliance;
use crate::config::ApiTls;
use crate::http::{Access, App};
use anyhow::Context as _;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What is needed to serve it.
pub(super) struct Outside {
    config: ApiTls,
    access: watch::Sender<Arc<Access>>,
    /// Why the files as they are now cannot be used.
    problem: Option<String>,
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
        Ok((listener, Outside { config: config.clone(), access, problem: None }))
    }

    pub(super) fn serve(&self, listener: TcpListener, app: App) {
        let access = self.access.subscribe();
        tracing::info!(listen = %self.config.listen, "API under TLS");
        tokio::spawn(async move {
            if let Err(error) = app.serve_tls(listener, access).await {
                tracing::error!(%error, "the API under TLS has ended");
            }
        });
    }

    fn problems(&self) -> impl Iterator<Item = String> + '_ {
        self.problem.iter().cloned().chain(self.access.borrow().problems.clone())
    }

    /// Reads the files again. What cannot be served changes nothing but the tokens' files.
    fn refresh(&mut self) {
        match Access::read(&self.config) {
            Ok(access) => {
                tracing::info!("certificate and tokens of the API are read again");
                self.access.send_replace(Arc::new(access));
                self.problem = None;
            }
            Err(error) => {
                let problem = format!("api.tls: the old files stay in force: {error:#}");
                if self.problem.as_ref() != Some(&problem) {
                    tracing::error!("{problem}");
                }
                self.problem = Some(problem);
            }
        }
    }
}

// === impl Appliance ===

impl Appliance {
    /// Follows the files of `[api.tls]`.
    pub(super) fn follow_access(&mut self) {
        if let Some(outside) = &mut self.outside {
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
        self.outside.iter().flat_map(Outside::problems).collect()
    }
}
