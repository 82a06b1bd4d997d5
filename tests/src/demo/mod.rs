//! The demo: the whole appliance in one lab, with a line for each thing it did and what was measured.

mod acts;
mod keep;
pub mod kube;
mod kube_acts;
pub mod kube_measure;
pub mod measure;
pub mod source_measure;
mod stage;

use std::process::ExitCode;

use anyhow::Result;

use crate::lab::peers::Kind;
use crate::lab::topology::Topology;

pub use keep::{down, hold, keep};
pub use stage::{Stage, time};

/// Backends of the demo.
const BACKENDS: u8 = 3;

/// Runs the demo and takes everything away again.
///
/// # Errors
/// When the lab cannot be built or a step gives up.
pub fn run() -> Result<ExitCode> {
    crate::lab::leak::clean_on_signals()?;
    let mut stage = Stage::default();
    let held = {
        let mut lab = open(&mut stage)?;
        play(&mut stage, &mut lab)?;
        acts::leave(&mut stage, &mut lab)?;
        stage.summary()
    };
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open(stage: &mut Stage) -> Result<Topology> {
    stage.say(&stage.paint("1", "Sluice, from nothing to a packet"));
    stage.say(
        "\n  client ──── router (FRR) ──── appliance (sluice) ──── switch ──┬── b1\n  \
         198.51.100.10   AS 64513           AS 64512                    ├── b2\n  \
         2001:db8:51::10              203.0.113.10, 2001:db8:113::10    └── b3",
    );
    stage.act("Setting up");
    let start = std::time::Instant::now();
    let lab = Topology::build("demo", Kind::Frr, BACKENDS)?;
    let spaces = lab.lab.namespaces().len();
    stage.did(
        &format!("{spaces} network namespaces, FRR, {BACKENDS} backends (HTTP and UDP)"),
        time(start.elapsed()),
    );
    Ok(lab)
}

/// Every act that leaves the appliance running.
fn play(stage: &mut Stage, lab: &mut Topology) -> Result<()> {
    acts::arrive(stage, lab)?;
    acts::balance(stage, lab)?;
    acts::one_backend_dies(stage, lab)?;
    acts::all_backends_die(stage, lab)?;
    acts::backends_return(stage, lab)?;
    acts::the_daemon_is_killed(stage, lab)?;
    acts::reload(stage, lab)
}
