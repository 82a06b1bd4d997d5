//! What the build machine's kernel may lack is tried in a guest with the kernel of the image.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Result, ensure};
use sluice_tests::image::guest;
use sluice_tests::lab::Lab;

const DEADLINE: Duration = Duration::from_secs(240);

/// Each of these ends the script where it fails, so the last line is only there when all of it works.
const SCRIPT: &str = "set -ex
for module in dummy 8021q ipip sctp ip_vs vrf sch_netem vxlan; do modprobe $module; done
ip link add d0 type dummy
ip link add v0 link d0 type vlan id 7
ip link add t0 type ipip local 192.0.2.1 remote 192.0.2.2
ip link add red type vrf table 10
ip netns add there
ip link add here type veth peer name eth0 netns there
ip addr add 192.0.2.1/24 dev here
ip link set here up
ip -n there addr add 192.0.2.2/24 dev eth0
ip -n there link set eth0 up
tc qdisc add dev here root netem delay 300ms
ping -c 2 -W 5 192.0.2.2
uname -r
echo all of it works";

#[test]
fn the_guest_has_what_the_build_machine_lacks() -> Result<()> {
    let lab = Lab::new("guest")?;
    let ran = guest::run(&lab, &["sh".into(), "-c".into(), OsString::from(SCRIPT)], DEADLINE)?;
    eprintln!("power on → command run → off: {:.1?}", ran.took);
    ensure!(ran.status == 0 && ran.output.ends_with("all of it works\n"), "{ran:?}");
    // The delay is one way: no answer can be faster.
    let fastest = ran
        .output
        .lines()
        .find_map(|line| line.strip_prefix("rtt min/avg/max/mdev = ")?.split('/').next());
    let fastest: f64 = fastest.unwrap_or("0").parse()?;
    ensure!(fastest >= 300.0, "netem delays: {}", ran.output);
    ensure!(!std::path::Path::new("/run/netns/there").exists(), "what the guest does stays in it");
    Ok(())
}

#[test]
fn a_command_that_fails_says_so() -> Result<()> {
    let lab = Lab::new("guest_fails")?;
    let ran = guest::run(
        &lab,
        &["sh".into(), "-c".into(), "echo \"it's\" wrong; exit 3".into()],
        DEADLINE,
    )?;
    ensure!((ran.status, &*ran.output) == (3, "it's wrong\n"), "{ran:?}");
    Ok(())
}
