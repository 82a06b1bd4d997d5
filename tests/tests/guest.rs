//! What the build machine's kernel may lack is tried in a guest with the kernel of the image.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use sluice_tests::image::guest;
use sluice_tests::lab::Lab;
use sluice_tests::lab::client::Outcome;
use sluice_tests::lab::peers::Kind;
use sluice_tests::lab::sctp;
use sluice_tests::lab::topology::{Topology, VIP, vip_routes};

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

/// Of the service, and of its backends: another one, so that every packet's CRC32c has to change.
const SCTP_PORT: u16 = 38412;
const BACKEND_PORT: u16 = 38413;
const SECONDARY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 39);
const PATIENCE: Duration = Duration::from_secs(10);

/// Associations of the kernel's own SCTP through the whole appliance: balanced with the client's address kept, at every
/// address of the service, refused at once where nobody listens.
#[test]
fn associations_of_sctp_through_the_appliance() -> Result<()> {
    if !guest::is_here("guest_sctp", "associations_of_sctp_through_the_appliance", DEADLINE * 2)? {
        return Ok(());
    }
    sluice_tests::lab::run(std::process::Command::new("modprobe").arg("sctp"))?;
    let mut lab = Topology::build("sctp", Kind::Frr, 2)?;
    for host in &lab.hosts {
        let (v4, v6) = host.addresses;
        for at in [IpAddr::from(v4), v6.into()] {
            sctp::serve(&host.ns, &host.name, (at, BACKEND_PORT).into())?;
        }
    }
    let mut service = lab.service("n2", "sctp", SCTP_PORT, BACKEND_PORT);
    service.more = format!("secondary-vips = [\"{SECONDARY}\"]\n");
    let text = lab.appliance.config(&lab.settings(), &[service]);
    lab.appliance.write_config(&text)?;
    lab.appliance.start()?;
    lab.appliance.wait_ready(DEADLINE)?;
    let [v4, v6] = vip_routes();
    lab.wait_routes(&[v4, v6, IpAddr::from(SECONDARY).into()], DEADLINE)?;

    let ask =
        |to: IpAddr, port| lab.client.run(|| sctp::request(SocketAddr::from((to, port)), PATIENCE));
    for to in [IpAddr::from(VIP.0), VIP.1.into(), SECONDARY.into()] {
        let mut backends = std::collections::BTreeSet::new();
        for _ in 0..12 {
            match ask(to, SCTP_PORT)? {
                Outcome::Answered { seen, local } => {
                    ensure!(
                        seen.client == local,
                        "{to}: the backend sees {}, the client is {local}",
                        seen.client
                    );
                    backends.insert(seen.backend);
                }
                other => anyhow::bail!("{to}: {other}"),
            }
        }
        ensure!(backends.len() == 2, "{to}: both backends take part: {backends:?}");
        let refused = ask(to, SCTP_PORT + 7)?;
        ensure!(refused == Outcome::Refused, "{to}, a port of nobody: {refused}");
    }
    Ok(())
}
