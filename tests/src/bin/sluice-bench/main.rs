//! Measures the data plane: ns of CPU time per packet, path by path and end to end.
//!
//! Needs root and a release build (of this program; the kernel's part is always one). Nothing leaves
//! the namespaces it makes for itself, and nothing stays when it ends.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "it builds its own frames of fixed size; a panic ends a measurement, nothing else"
)]

mod bed;
mod device;
mod live;
mod measure;
mod paths;
mod report;
mod script;

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};

use crate::report::Measured;

#[derive(Parser)]
struct Options {
    /// Processes to start one after another; cases bound by memory differ between starts.
    #[arg(long, default_value_t = 5)]
    starts: u32,
    /// CPU to measure on.
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// What to measure.
    #[arg(long, value_enum, default_value_t = Method::All)]
    method: Method,
    /// Cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// One start, as JSON.
    #[arg(long, hide = true)]
    child: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    All,
    /// One path of the program at a time.
    Paths,
    /// Live frames from end to end.
    Live,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.child {
        println!("{}", serde_json::to_string(&one_start(&options)?)?);
        return Ok(());
    }
    let mut starts = Vec::new();
    for start in 1..=options.starts {
        eprintln!("start {start} of {}", options.starts);
        starts.push(start_child()?);
    }
    report::print(&starts)
}

fn one_start(options: &Options) -> anyhow::Result<Vec<Measured>> {
    bed::isolate()?;
    measure::pin(options.cpu)?;
    let mut bed = bed::Bed::load()?;
    let mut measured = Vec::new();
    if options.method != Method::Live {
        measured.extend(paths::measure(&mut bed, &options.only)?);
    }
    if options.method != Method::Paths {
        measured.extend(live::measure(&mut bed, &options.only)?);
    }
    Ok(measured)
}

fn start_child() -> anyhow::Result<Vec<Measured>> {
    let own = std::env::current_exe()?;
    let output = Command::new(own)
        .args(std::env::args_os().skip(1))
        .arg("--child")
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "a start failed: {}", output.status);
    serde_json::from_slice(&output.stdout).context("reading what a start measured")
}
