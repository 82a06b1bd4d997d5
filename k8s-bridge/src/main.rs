//! The `sluice-bridge` program: command line, logs, runtime.

use clap::Parser;
use kube::{Client, Config};
use sluice_bridge::cli::{Cli, Command, LogFormat, RunArgs};
use sluice_bridge::{crd, run, uninstall};
use std::io::Write as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => start(*args, Act::Run),
        Command::Uninstall(args) => start(*args, Act::Uninstall),
        Command::Crds => crds(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn crds() -> anyhow::Result<()> {
    std::io::stdout().write_all(crd::manifest()?.as_bytes())?;
    Ok(())
}

/// What the flags are for.
enum Act {
    Run,
    Uninstall,
}

fn start(args: RunArgs, act: Act) -> anyhow::Result<()> {
    // The client's own words about failed requests would be said twice.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    let settings = args.settings().map_err(anyhow::Error::msg)?;
    // Two threads: one for the loop, one for TLS and JSON beside it.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let config = Config::infer().await?;
        let client = Client::try_from(config)?;
        match act {
            Act::Run => run::run(settings, client).await,
            Act::Uninstall => uninstall::uninstall(settings, client).await,
        }
    })
}

/// The last words: the whole chain of causes, once.
#[expect(clippy::print_stderr, reason = "this is where the program reports its failure")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("sluice-bridge: {error:#}");
    ExitCode::FAILURE
}
