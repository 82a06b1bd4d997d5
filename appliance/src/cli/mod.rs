//! Command line of `sluice`: the daemon's own commands and the client commands over `/api/v1`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

pub(crate) mod client;
pub(crate) mod cloud_init;
pub(crate) mod manual;
mod request;
mod table;
mod tables;
pub(crate) mod update;
pub(crate) mod wait;

const EXAMPLES: &str = "\
Examples:
  sluice check --config /etc/sluice/sluice.toml   find every mistake in a configuration
  sluice run --config /etc/sluice/sluice.toml     run the appliance in the foreground
  sluice status                                   what the running appliance is up to
  sluice backends -o json                         the same, for programs

Exit status:
  0  done
  1  it failed; the reason is on standard error
  2  wrong usage";

/// Edge load balancer: XDP data plane, virtual IPs, BGP.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, about, after_help = EXAMPLES, infer_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the appliance in the foreground
    ///
    /// SIGHUP reloads the configuration: a bad file changes nothing. SIGTERM withdraws the routes, detaches from the
    /// links and removes the virtual IPs; kill -9 leaves the data plane running for the next start to adopt.
    Run(RunArgs),
    /// Check a configuration file and report every mistake in it
    Check(CheckArgs),
    /// Serve the page that says how to configure this appliance
    ///
    /// The image runs it instead of `run` while there is no configuration.
    Welcome(WelcomeArgs),
    /// Wait until the running appliance does its work
    ///
    /// That is: the configuration is programmed and the data plane is attached to a link. BGP sessions are not waited
    /// for, since routers may be down while the appliance is in order; --routed waits for one of them too. When the time
    /// is over, what is missing stands on standard error, and the exit status is 1.
    #[command(after_help = "Example:\n  sluice wait --timeout 30s && echo in order")]
    Wait(wait::WaitArgs),
    /// Install an update of the image beside the running version, or list what there is
    ///
    /// The file must be signed. It becomes a further entry of the boot loader, which starts it twice at most: when it is not
    /// found healthy, the machine goes back to the running version by itself. Needs a machine that UEFI has started.
    #[command(
        after_help = "Examples:\n  sluice update sluice-0.2.0-amd64.efi --reboot\n  sluice update --list\n  \
                      ssh root@edge-1 sluice update - --signature /tmp/sluice-0.2.0-amd64.efi.minisig <sluice-0.2.0-amd64.efi"
    )]
    Update(update::UpdateArgs),
    /// Write the manual pages, for packages
    #[command(hide = true)]
    Manual(manual::ManualArgs),
    /// Turn cloud-init's files into the image's own
    #[command(hide = true)]
    CloudInit(cloud_init::CloudInitArgs),
    /// Ask a running appliance
    #[command(flatten)]
    Client(client::ClientCommand),
}

/// `sluice run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/sluice/sluice.toml")]
    pub(crate) config: PathBuf,
    /// How log lines are written to standard error; RUST_LOG chooses which
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,
}

/// `sluice check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/sluice/sluice.toml")]
    pub(crate) config: PathBuf,
}

/// `sluice welcome`.
#[derive(Debug, Args)]
pub(crate) struct WelcomeArgs {
    /// Where the page is served
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:80")]
    pub(crate) listen: std::net::SocketAddr,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text for people
    Human,
    /// One JSON object a line
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself() {
        let mut command = Cli::command();
        command.build();
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{} has no help", sub.get_name());
        }
    }
}
