//! The `sluice` appliance: one binary, the daemon and its command line.
//!
//! Wiring only: no protocol logic lives here.

mod cli;
mod cloud_init;
mod config;
mod daemon;
mod descriptors;
mod files;
mod health;
mod http;
mod human;
mod ledger;
mod ports;
mod raw;
mod reconcile;
#[cfg(test)]
mod scratch;
mod sources;
mod status;
mod update;

use anyhow::Context as _;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let result = match cli.command {
        cli::Command::Run(args) => daemon::run(args),
        cli::Command::Check(args) => return config::check(&args.config),
        cli::Command::Welcome(args) => alone(welcome(args)),
        cli::Command::Wait(args) => alone(async { Ok(cli::wait::run(args).await?) }),
        cli::Command::Manual(args) => cli::manual::run(&args),
        cli::Command::CloudInit(args) => cli::cloud_init::run(&args),
        cli::Command::Update(args) => cli::update::run(args),
        cli::Command::Client(command) => alone(cli::client::run(command)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// What is no daemon needs no more than one thread.
fn alone(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn welcome(args: cli::WelcomeArgs) -> anyhow::Result<()> {
    descriptors::raise();
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    // Connections are taken from here on: whoever waits for this may send people to the page.
    daemon::logging::notify(&[sd_notify::NotifyState::Ready]);
    http::welcome::serve(listener).await.context("the page has ended")
}

/// The last words of a command that failed: the whole chain of causes, once.
#[expect(clippy::print_stderr, reason = "this is where a command reports its failure")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("sluice: {}", human::visible_lines(&format!("{error:#}")));
    ExitCode::FAILURE
}
