//! Method 2: one path of the program at a time, through the packet-restoring wrapper.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, ensure};
use aya::programs::ProgramInfo;
use sluice_xdp::NextHop;

use crate::bed::{self, Bed};
use crate::device::Device;
use crate::report::Measured;
use crate::script::{Protocol, Stream};

const PACKETS: u32 = 1_000_000;
const RUNS: usize = 9;
/// Long enough for each of 100k flows to be met three times.
const WARM_UP_PACKETS: u32 = 300_000;

/// Test runs receive from loopback unless told otherwise, and so they transmit there too.
const LOOPBACK: u32 = 1;

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// One line of the table.
struct Case {
    name: &'static str,
    protocol: Protocol,
    destination: &'static str,
    flows: u64,
    verdicts: &'static [u32],
}

/// The device answers through the interface it received from, or another one.
const FORWARDED: &[u32] = &[XDP_TX, XDP_REDIRECT];

const CASES: [Case; 8] = [
    Case {
        name: "established v4 TCP, 1 flow",
        protocol: Protocol::Tcp,
        destination: "203.0.113.10:80",
        flows: 1,
        verdicts: FORWARDED,
    },
    Case {
        name: "established v4 UDP, 1 flow",
        protocol: Protocol::Udp,
        destination: "203.0.113.10:53",
        flows: 1,
        verdicts: FORWARDED,
    },
    Case {
        name: "established v6 TCP, 1 flow",
        protocol: Protocol::Tcp,
        destination: "[2001:db8:113::10]:80",
        flows: 1,
        verdicts: FORWARDED,
    },
    Case {
        name: "established v4 TCP, 100k flows",
        protocol: Protocol::Tcp,
        destination: "203.0.113.10:80",
        flows: 100_000,
        verdicts: FORWARDED,
    },
    Case {
        name: "established v6 TCP, 100k flows",
        protocol: Protocol::Tcp,
        destination: "[2001:db8:113::10]:80",
        flows: 100_000,
        verdicts: FORWARDED,
    },
    Case {
        name: "new flow each packet, v4 TCP",
        protocol: Protocol::TcpSyn,
        destination: "203.0.113.10:80",
        flows: 0,
        verdicts: FORWARDED,
    },
    Case {
        name: "not ours, v4 TCP",
        protocol: Protocol::Tcp,
        destination: "192.0.2.1:80",
        flows: 1,
        verdicts: &[XDP_PASS],
    },
    Case {
        name: "not ours, v6 TCP",
        protocol: Protocol::Tcp,
        destination: "[2001:db8:ffff::1]:80",
        flows: 1,
        verdicts: &[XDP_PASS],
    },
];

/// Measures every case whose name contains `only`, each on a data plane of its own.
pub(crate) fn measure(bed: &mut Bed, only: &str) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for (index, case) in CASES.iter().enumerate() {
        let gates: &[bool] = if case.flows == 0 { &[true, false] } else { &[true] };
        for gate in gates {
            let name = match (case.flows, gate) {
                (0, true) => format!("{}, gate on", case.name),
                (0, false) => format!("{}, gate off", case.name),
                _ => case.name.to_owned(),
            };
            if !name.contains(only) {
                continue;
            }
            let ns = measure_case(bed, case, *gate, &format!("paths-{index}-{gate}"))
                .with_context(|| name.clone())?;
            measured.push(Measured { name, ns });
        }
    }
    Ok(measured)
}

fn measure_case(bed: &mut Bed, case: &Case, gate: bool, id: &str) -> anyhow::Result<Vec<f64>> {
    let device = standard_device(&bed::pin_dir(id))?;
    let program = ProgramInfo::from_pin(device.program_pin())?.fd()?;
    let stream = stream(case)?;
    let script = stream.script();
    bed.set_script(&script, 0)?;
    bed.set_device(&program)?;
    // With the gate shut most of 100k flows that begin at once would not be in the table.
    let limit = device.set_gate(u32::MAX)?;
    let (_, verdict) = bed.run_wrapper(WARM_UP_PACKETS)?;
    if gate {
        device.set_gate(limit)?;
    }
    ensure!(case.verdicts.contains(&verdict), "verdict {verdict}, wanted {:?}", case.verdicts);
    let before = device.counted()?;
    let mut ns = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        // Alternately, so that what the machine does meanwhile falls on both.
        bed.set_device(&program)?;
        let (whole, _) = bed.run_wrapper(PACKETS)?;
        bed.set_baseline()?;
        let (baseline, _) = bed.run_wrapper(PACKETS)?;
        let difference = whole.as_secs_f64() - baseline.as_secs_f64();
        ns.push(difference * 1e9 / f64::from(PACKETS));
    }
    let counted = device.counted()? - before;
    let sent = u64::from(PACKETS) * RUNS as u64;
    ensure!(counted == sent, "{sent} packets sent, the device counted {counted}");
    device.close()?;
    Ok(ns)
}

/// As wide as a small service: a handful of backends, both families, two ports.
fn standard_device(pin_dir: &Path) -> anyhow::Result<Device> {
    let mut device = Device::open(pin_dir)?;
    let next_hop = NextHop {
        link_index: LOOPBACK,
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 0, 3],
    };
    let backends = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "2001:db8:1::1", "2001:db8:1::2"];
    let backends: Vec<IpAddr> = backends.into_iter().map(str::parse).collect::<Result<_, _>>()?;
    let (v4, v6): (Vec<_>, Vec<_>) = backends.into_iter().partition(IpAddr::is_ipv4);
    device.serve("203.0.113.10".parse()?, &v4, next_hop)?;
    device.serve("2001:db8:113::10".parse()?, &v6, next_hop)?;
    // The whole set at once, as the second call replaced the first one's.
    let next_hops = v4.iter().chain(&v6).map(|backend| (*backend, next_hop)).collect();
    device.plane_mut().set_next_hops(&next_hops)?;
    Ok(device)
}

fn stream(case: &Case) -> anyhow::Result<Stream> {
    let destination: SocketAddr = case.destination.parse()?;
    // From the ranges for benchmarks, RFC 2544 and RFC 5180.
    let client = if destination.is_ipv4() { "198.18.0.0" } else { "2001:2::1:0:0" };
    Ok(Stream {
        protocol: case.protocol,
        client: client.parse()?,
        destination,
        destination_mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        flows: case.flows,
    })
}
