//! The `sluice` appliance: one binary, the daemon and its command line.
//!
//! Wiring only: no protocol logic lives here.

mod cli;
mod http;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    match cli.command {
        cli::Command::Run(_) => anyhow::bail!("not there yet"),
        cli::Command::Check(_) => anyhow::bail!("not there yet"),
        cli::Command::Client(command) => {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(cli::client::run(command))
        }
    }
}
