//! `sluice-lab`: the demo, and the servers that run inside the lab's namespaces.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use sluice_tests::lab;

#[derive(Parser)]
#[command(about = "The lab of Sluice: a demo in network namespaces", version)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
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
    /// Names what labs left in the system (namespaces, processes, mounts, directories); status 1 when there is anything
    Leaks,
}

fn main() -> anyhow::Result<std::process::ExitCode> {
    match Cli::parse().command {
        Sub::Backend { name, http, udp } => lab::backend::serve(&name, &http, &udp)?,
        Sub::Leaks => {
            let found = lab::leak::leftovers(false);
            found.iter().for_each(|what| println!("{what}"));
            return Ok(u8::from(!found.is_empty()).into());
        }
    }
    Ok(std::process::ExitCode::SUCCESS)
}
