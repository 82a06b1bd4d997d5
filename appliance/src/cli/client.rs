//! Client commands; filled in beside the daemon.

use clap::Subcommand;

/// Commands that ask a running appliance.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Show the appliance as a whole.
    Status,
}

/// Runs one client command.
///
/// # Errors
/// When the appliance does not answer.
pub(crate) async fn run(command: ClientCommand) -> anyhow::Result<()> {
    match command {
        ClientCommand::Status => anyhow::bail!("not there yet"),
    }
}
