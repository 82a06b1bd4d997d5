//! Method 1: live frames end to end, generator – device – sink in three namespaces, everything on
//! one CPU. The figure is CPU time per packet at the sink, generator and sink included.

use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use aya::programs::XdpMode;
use aya::programs::xdp::XdpLinkId;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, setns};
use sluice_tests::bpf::shared::{Script, Seen};
use sluice_xdp::NextHop;

use crate::bed::{self, Bed, run};
use crate::device::Device;
use crate::report::Measured;
use crate::script::{Protocol, Stream};

const PACKETS: u32 = 400_000;
const RUNS: usize = 9;

const VIP: &str = "203.0.113.10";
const VIP_PORT: u16 = 53;
const BACKEND: &str = "10.2.0.2";
const BACKEND_PORT: u16 = 8080;

// Locally administered, one per veth end.
const GENERATOR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const IN_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
const OUT_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
const SINK_MAC: [u8; 6] = [2, 0, 0, 0, 2, 2];

/// What stands between generator and sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Middle {
    /// DNAT to a constant and redirect: no device can be faster.
    Limit,
    Sluice,
    Nft,
}

/// One line of the table.
struct Case {
    name: &'static str,
    middle: Middle,
    flows: u64,
    packets: u32,
}

const CASES: [Case; 7] = [
    case("live: XDP DNAT + redirect, no lookup", Middle::Limit, 1),
    case("live: Sluice, 1 flow", Middle::Sluice, 1),
    case("live: Sluice, 100k flows", Middle::Sluice, 100_000),
    case("live: Sluice, new flow each packet", Middle::Sluice, 0),
    case("live: nft DNAT, 1 flow", Middle::Nft, 1),
    case("live: nft DNAT, 100k flows", Middle::Nft, 100_000),
    // conntrack holds 262144 flows: fewer packets, and an empty table for each run.
    Case { packets: 200_000, ..case("live: nft DNAT, new flow each packet", Middle::Nft, 0) },
];

const fn case(name: &'static str, middle: Middle, flows: u64) -> Case {
    Case { name, middle, flows, packets: PACKETS }
}

/// Measures every case whose name contains `only`.
pub(crate) fn measure(bed: &mut Bed, only: &str) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for case in CASES.iter().filter(|case| case.name.contains(only)) {
        let ns = measure_case(bed, case).context(case.name)?;
        measured.push(Measured { name: case.name.to_owned(), ns });
    }
    Ok(measured)
}

fn measure_case(bed: &mut Bed, case: &Case) -> anyhow::Result<Vec<f64>> {
    let fresh_each_run = case.middle == Middle::Nft && case.flows == 0;
    let mut lab = Lab::build(bed, case)?;
    // With the gate shut most of 100k flows that begin at once would not be in the table.
    let limit = lab.device.as_ref().map(|device| device.set_gate(u32::MAX)).transpose()?;
    if !fresh_each_run {
        lab.send(bed, case.packets)?;
    }
    if let (Some(device), Some(limit)) = (&lab.device, limit) {
        device.set_gate(limit)?;
    }
    let mut ns = Vec::with_capacity(RUNS);
    for index in 0..RUNS {
        if fresh_each_run && index > 0 {
            lab.demolish(bed)?;
            lab = Lab::build(bed, case)?;
        }
        let spent = lab.send(bed, case.packets)?;
        ns.push(spent.as_secs_f64() * 1e9 / f64::from(case.packets));
    }
    lab.demolish(bed)?;
    Ok(ns)
}

/// Three namespaces, the device between them, everything attached.
struct Lab {
    sink: XdpLinkId,
    limit: Option<XdpLinkId>,
    device: Option<Device>,
    frame_bytes: usize,
}

// === impl Lab ===

impl Lab {
    fn build(bed: &mut Bed, case: &Case) -> anyhow::Result<Self> {
        for name in ["gen", "dut", "sink"] {
            run(&format!("ip netns add {name}"))?;
        }
        veth(("gen", "gen0", GENERATOR_MAC), ("dut", "in0", IN_MAC))?;
        veth(("dut", "out0", OUT_MAC), ("sink", "sink0", SINK_MAC))?;
        enter("sink")?;
        let sink = bed.program("sink")?.attach("sink0", XdpMode::Driver)?;
        enter("dut")?;
        let out = if_nametoindex("out0")?;
        let device = match case.middle {
            Middle::Sluice => Some(sluice(out)?),
            Middle::Nft => nft().map(|()| None)?,
            Middle::Limit => None,
        };
        let limit = match case.middle {
            Middle::Limit => Some(bed.program("limit")?.attach("in0", XdpMode::Driver)?),
            Middle::Sluice | Middle::Nft => None,
        };
        enter("gen")?;
        let stream = Stream {
            protocol: Protocol::Udp,
            client: "198.18.0.0".parse()?,
            destination: (VIP.parse::<IpAddr>()?, VIP_PORT).into(),
            destination_mac: IN_MAC,
            source_mac: GENERATOR_MAC,
            flows: case.flows,
        };
        bed.set_script(&Self::script(&stream, out)?, 0)?;
        Ok(Self { sink, limit, device, frame_bytes: stream.frame_bytes() })
    }

    fn script(stream: &Stream, out: u32) -> anyhow::Result<Script> {
        let mut script = stream.script();
        script.out_link_index = if_nametoindex("gen0")?;
        script.limit_link_index = out;
        let IpAddr::V4(backend) = BACKEND.parse()? else { bail!("{BACKEND} is not IPv4") };
        script.wanted_destination = u32::from_ne_bytes(backend.octets());
        script.wanted_port = u32::from(BACKEND_PORT.to_be());
        let macs: Vec<u8> = SINK_MAC.into_iter().chain(OUT_MAC).collect();
        for (word, bytes) in script.out_macs.iter_mut().zip(macs.chunks(2)) {
            *word = u16::from_ne_bytes(bytes.try_into()?);
        }
        Ok(script)
    }

    /// Sends and waits for everything to arrive; returns CPU time.
    fn send(&self, bed: &mut Bed, packets: u32) -> anyhow::Result<Duration> {
        bed.take_seen()?;
        let spent = bed.run_generator(packets, self.frame_bytes)?;
        let mut total = Seen::default();
        let deadline = Instant::now() + Duration::from_secs(1);
        while total.right + total.wrong < u64::from(packets) && Instant::now() < deadline {
            let seen = bed.take_seen()?;
            total = Seen { right: total.right + seen.right, wrong: total.wrong + seen.wrong };
        }
        let wanted = Seen { right: u64::from(packets), wrong: 0 };
        ensure!(total == wanted, "{packets} packets sent, the sink has {total:?}");
        Ok(spent)
    }

    fn demolish(self, bed: &mut Bed) -> anyhow::Result<()> {
        bed.program("sink")?.detach(self.sink)?;
        if let Some(limit) = self.limit {
            bed.program("limit")?.detach(limit)?;
        }
        if let Some(device) = self.device {
            enter("dut")?;
            device.close()?;
        }
        for name in ["gen", "dut", "sink"] {
            run(&format!("ip netns del {name}"))?;
        }
        Ok(())
    }
}

fn sluice(out: u32) -> anyhow::Result<Device> {
    let mut device = Device::open(&bed::pin_dir("live"))?;
    let next_hop = NextHop { link_index: out, source_mac: OUT_MAC, destination_mac: SINK_MAC };
    device.serve(VIP.parse()?, &[BACKEND.parse()?], next_hop)?;
    for link in ["in0", "out0"] {
        device.plane_mut().attach(if_nametoindex(link)?)?;
    }
    Ok(device)
}

/// The kernel's own way to do the same.
fn nft() -> anyhow::Result<()> {
    // Without a program attached, only GRO makes a veth end poll for frames that XDP sent.
    run("ethtool -K in0 gro on")?;
    let rules = format!(
        "table ip bench {{\nchain in {{\ntype nat hook prerouting priority dstnat\n\
         ip daddr {VIP} udp dport {VIP_PORT} dnat to {BACKEND}:{BACKEND_PORT}\n}}\n}}\n"
    );
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin")?.write_all(rules.as_bytes())?;
    ensure!(child.wait()?.success(), "nft refused {rules}");
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    for name in ["all", "in0"] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "0")?;
    }
    run("ip addr add 192.0.2.1/24 dev in0")?;
    run("ip addr add 10.2.0.1/24 dev out0")?;
    let mac = mac_text(SINK_MAC);
    run(&format!("ip neigh replace {BACKEND} lladdr {mac} dev out0 nud permanent"))?;
    // A packet needs a way back to be let in.
    run(&format!(
        "ip neigh replace 192.0.2.2 lladdr {} dev in0 nud permanent",
        mac_text(GENERATOR_MAC)
    ))?;
    run("ip route add default via 192.0.2.2")
}

type End<'a> = (&'a str, &'a str, [u8; 6]);

fn veth(a: End<'_>, b: End<'_>) -> anyhow::Result<()> {
    run(&format!("ip link add {} netns {} type veth peer name {} netns {}", a.1, a.0, b.1, b.0))?;
    for (namespace, link, mac) in [a, b] {
        let mac = mac_text(mac);
        run(&format!("ip -n {namespace} link set {link} address {mac} addrgenmode none up"))?;
    }
    Ok(())
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Moves this thread, the only one.
fn enter(namespace: &str) -> anyhow::Result<()> {
    let file = File::open(format!("{}/{namespace}", bed::NETNS_DIR))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {namespace}"))
}
