//! Log lines on standard error, and words to the service manager.

use crate::cli::LogFormat;
use sd_notify::NotifyState;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Which lines are written: `SLUICE_LOG=debug`, or by module as in `info,sluice::health=debug`.
const FILTER: &str = "SLUICE_LOG";

/// Begins to log.
pub(super) fn start(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER) {
        Ok(filter) => EnvFilter::try_new(&filter)
            .map_err(|error| anyhow::anyhow!("{FILTER}={filter} is not a filter: {error}"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Human => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot log: {error}"))
}

/// Tells the service manager; without one nothing happens.
pub(crate) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}
