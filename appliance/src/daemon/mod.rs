//! `sluice run`: the daemon. Start, one loop over one closed set of events, and an orderly end.

mod appliance;
mod events;
mod forwarding;
mod groups;
mod links;
mod lock;
mod log_limit;
pub(crate) mod logging;
mod nat64;
mod nic;
mod outside;
mod pace;
mod peers;
mod privileges;
mod recovery;
mod reload;
mod reserved;
mod runtimes;
mod shutdown;
mod start;

use crate::cli::RunArgs;
use crate::config;
use appliance::Next;
use events::Wakeups;
use std::path::PathBuf;
use tokio::runtime::Handle;

/// Runs until a signal ends it.
///
/// # Errors
/// When it cannot start, or lost a part it cannot work without; what carries traffic is left running then.
pub(crate) fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = config::load(&args.config)?;
    privileges::check()?;
    let _lock = lock::acquire(&config.state_dir)?;
    logging::start(args.log_format)?;
    crate::descriptors::raise();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %args.config.display(), "starting");
    let (runtime, api) = (runtimes::own()?, runtimes::api()?);
    let outcome = runtime.block_on(serve(args.config, config, api.handle().clone()));
    // A probe, a lookup or a client that hangs must not hold the process.
    for runtime in [api, runtime] {
        runtime.shutdown_background();
    }
    outcome
}

/// Events that are taken in before the daemon acts on them: those of a burst cost one pass together. Each source gives
/// its latest value only, so more than a few are rarely there.
const BURST: u32 = 16;

/// Wait, feed, flush.
async fn serve(path: PathBuf, config: config::Config, api: Handle) -> anyhow::Result<()> {
    // Listened to first: a signal that comes while starting must not end the process halfway.
    let signals = events::Signals::new()?;
    let mut appliance = start::start(path, config, api).await?;
    let mut wakeups = Wakeups::new(signals, &appliance);
    logging::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        let mut next = Some(wakeups.next(appliance.shows_at()).await);
        let mut room = BURST;
        while let Some(event) = next {
            match appliance.handle(event).await? {
                Next::Go => {}
                Next::Rewire => wakeups.rewire(&appliance),
                Next::Stop(signal) => {
                    return shutdown::shutdown(appliance, &format!("stopped by {signal}")).await;
                }
            }
            room -= 1;
            next = if room > 0 { wakeups.ready() } else { None };
        }
        appliance.flush().await;
    }
}
