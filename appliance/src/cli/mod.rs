//! Command line of `sluice`: the daemon's own commands and the client commands over `/api/v1`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

pub(crate) mod client;

/// Edge load balancer: XDP data plane, virtual IPs, BGP.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the appliance in the foreground.
    Run(RunArgs),
    /// Check a configuration file and report every mistake in it.
    Check(CheckArgs),
    /// Ask a running appliance.
    #[command(flatten)]
    Client(client::ClientCommand),
}

/// `sluice run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The configuration file.
    #[arg(long, default_value = "/etc/sluice/sluice.toml")]
    pub(crate) config: PathBuf,
    /// How log lines are written to standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,
}

/// `sluice check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file.
    #[arg(long, default_value = "/etc/sluice/sluice.toml")]
    pub(crate) config: PathBuf,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}
