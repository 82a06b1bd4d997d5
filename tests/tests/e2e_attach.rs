//! Others take away what the appliance attached, with traffic running.

use std::time::Duration;

use anyhow::{Result, ensure};
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::topology::Topology;
use sluice_tests::lab::traffic::Traffic;
use sluice_tests::lab::until;

/// The resync every ten seconds, and then some.
const REPAIRED: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_millis(900);
const PACE: Duration = Duration::from_millis(5);

/// A clean-up job, or a bpffs that is mounted anew.
#[test]
fn pins_removed_under_traffic_lose_no_request_and_come_back() -> Result<()> {
    let mut lab = Topology::build("e2e_unpinned", Kind::Frr, 2)?;
    lab.start_standard()?;
    let traffic = Traffic::start(&lab.client, &lab.targets(), PACE, PATIENCE);
    let enough = |more: u64| {
        let before = traffic.so_far().answered();
        until("further answers", REPAIRED, || {
            let answered = traffic.so_far().answered();
            ensure!(answered > before + more, "{answered}");
            Ok(())
        })
    };
    enough(50)?;
    std::fs::remove_dir_all(lab.appliance.pin_dir())?;
    enough(200)?;
    until("the pins to be back and it to be said", REPAIRED, || {
        let status: sluice_api::Status = lab.appliance.api("status")?;
        let is_told = status.problems.iter().any(|problem| problem.contains("pins had been removed"));
        ensure!(is_told, "{:?}", status.problems);
        ensure!(lab.appliance.pin_dir().join("FLOWS").exists());
        Ok(())
    })?;
    lab.appliance.kill()?;
    enough(50)?;
    lab.appliance.start_ready()?;
    let status: sluice_api::Status = lab.appliance.api("status")?;
    assert!(status.adopted, "{status:?}");
    enough(50)?;
    let report = traffic.stop()?;
    assert!(report.failures.is_empty(), "{} of {}: {:?}", report.failures.len(), report.sent, report.failures);
    Ok(())
}
