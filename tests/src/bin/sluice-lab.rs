//! `sluice-lab`: the demo, the figures, and the servers that run inside the lab's namespaces.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sluice_tests::{demo, lab};

#[derive(Parser)]
#[command(about = "The lab of Sluice: a demo in network namespaces", version)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Shows the appliance at work between a router, a client and backends
    Demo {
        /// On a Kubernetes cluster, with the bridge
        #[arg(long)]
        kube: bool,
        /// Leave the lab running and say how to look around
        #[arg(long)]
        keep: bool,
        /// Take away a lab that was left running
        #[arg(long, conflicts_with = "keep")]
        down: bool,
        /// Play and hold the lab until a signal (what --keep starts)
        #[arg(long, hide = true)]
        hold: bool,
    },
    /// Measures how long announcing, withdrawing and reloading take
    Measure {
        /// Runs of each figure
        #[arg(long, default_value_t = 5)]
        runs: u32,
    },
    /// Measures the bridge on a Kubernetes cluster: Service to address, to route, to answer; updates; many Services
    KubeMeasure {
        /// Runs of each figure that is measured often
        #[arg(long, default_value_t = 50)]
        runs: u32,
        /// Services that are created at once
        #[arg(long, default_value_t = 2000)]
        services: u32,
    },
    /// Measures what changes of many services cost an appliance, over its HTTP
    SourceMeasure {
        /// Services, each in a change of its own
        #[arg(long, default_value_t = 2000)]
        services: u32,
        /// Sources that send side by side
        #[arg(long, default_value_t = 1)]
        sources: u32,
    },
    /// A backend: HTTP and UDP servers that answer with their name and the client's address
    Backend {
        /// The name it answers with
        #[arg(long)]
        name: String,
        /// Addresses to serve HTTP on
        #[arg(long)]
        http: Vec<SocketAddr>,
        /// Addresses to echo UDP on
        #[arg(long)]
        udp: Vec<SocketAddr>,
    },
    /// Names what labs left in the system; status 1 when there is anything
    Leaks,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Sub) -> anyhow::Result<ExitCode> {
    match command {
        Sub::Demo { down: true, .. } => return demo::down(),
        Sub::Demo { keep: true, kube, .. } => return demo::keep(kube),
        Sub::Demo { hold: true, kube: true, .. } => return demo::kube::hold(),
        Sub::Demo { hold: true, .. } => return demo::hold(),
        Sub::Demo { kube: true, .. } => return demo::kube::run(),
        Sub::Demo { .. } => return demo::run(),
        Sub::Measure { runs } => demo::measure::run(runs)?,
        Sub::KubeMeasure { runs, services } => demo::kube_measure::run(runs, services)?,
        Sub::SourceMeasure { services, sources } => {
            demo::source_measure::run(services, sources)?;
        }
        Sub::Backend { name, http, udp } => lab::backend::serve(&name, &http, &udp)?,
        Sub::Leaks => {
            let found = lab::leak::leftovers(false);
            found.iter().for_each(|what| println!("{what}"));
            return Ok(u8::from(!found.is_empty()).into());
        }
    }
    Ok(ExitCode::SUCCESS)
}
