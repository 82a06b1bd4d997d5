//! How long 2,000 frontends of 10 backends take: put one after another, read back, changed, removed. How much the kernel's
//! verifier walks through. How long a sweep takes that finds a table of flows that are over.
//!
//! Figures, not a judgement, so it runs only when asked for: `cargo test -p sluice-xdp --test scale --release --
//! --ignored --nocapture`. Needs root.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement: a panic is the report, its figures are the output"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData};
use nix::sched::{CloneFlags, unshare};
use sluice_xdp::{
    AttachPolicy, Backend, DataPlane, Frontend, NoBackend, Options, Program, Protocol,
};

const FRONTENDS: u32 = 2000;
const BACKENDS: u32 = 10;

fn frontend(n: u32) -> Frontend {
    let vip = IpAddr::from(Ipv4Addr::from(0xcb00_7100 + n / 20));
    Frontend { vip, port: 1000 + u16::try_from(n % 20).unwrap(), protocol: Protocol::Tcp }
}

/// Every service has endpoints of its own, all have the same ranges.
fn program(n: u32, backends: u32) -> Program {
    let backend = |b: u32| Backend {
        address: SocketAddr::from((Ipv4Addr::from(0x0a01_0000 + n * BACKENDS + b), 8080)),
        weight: 1,
    };
    Program {
        backends: (0..backends).map(backend).collect(),
        no_backend: NoBackend::Reject,
        idle_timeout: Duration::from_secs(300),
        source_ranges: ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]
            .map(|net| net.parse().unwrap())
            .into(),
        affinity: None,
        full_nat: Vec::new(),
        multihomed: false,
    }
}

fn measured<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what:40} {:>9.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    result
}

/// Leaves the machine's namespaces; returns options for an empty data plane.
fn isolated(max_flows: u32) -> Options {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
    for line in ["mount --make-rprivate /", "mount -t tmpfs sluice-test /mnt"] {
        assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
    }
    Options {
        pin_dir: "/mnt/pins".into(),
        max_flows: Some(max_flows),
        attach: AttachPolicy::Native,
        nat64_source: None,
    }
}

#[test]
#[ignore = "a measurement"]
fn verification() {
    let plane = measured("open", || DataPlane::open(&isolated(65_536))).unwrap();
    let names = sluice_xdp_abi::names::PROGRAMS;
    let mut newest = std::collections::BTreeMap::new();
    for info in aya::programs::loaded_programs().map(Result::unwrap) {
        if let Some(name) = names.iter().find(|name| info.name_as_str() == Some(**name)) {
            newest.insert(*name, info);
        }
    }
    for (name, info) in newest {
        let (walked, bytes) = (info.verified_instruction_count(), info.size_translated());
        println!("{name:20} {walked:?} instructions walked, {bytes:?} octets of program");
    }
    drop(plane);
}

#[test]
#[ignore = "a measurement"]
fn a_sweep_of_flows_that_are_over() {
    const FLOWS: u32 = 500_000;
    type Flows = aya::maps::HashMap<MapData, [u32; 10], [u64; 7]>;
    let options = isolated(1 << 20);
    let mut plane = DataPlane::open(&options).unwrap();
    let table = MapData::from_pin(options.pin_dir.join(sluice_xdp_abi::names::FLOWS)).unwrap();
    let mut flows: Flows = Map::LruHashMap(table).try_into().unwrap();
    let key = |n: u32| [n; 10];
    let fill =
        |flows: &mut Flows| (0..FLOWS).for_each(|n| flows.insert(key(n), [0; 7], 0).unwrap());
    fill(&mut flows);
    assert_eq!(measured("sweep, in batches", || plane.sweep().unwrap()), 0);
    assert_eq!(flows.keys().count(), 0);
    fill(&mut flows);
    measured("the same, one after another", || {
        for n in 0..FLOWS {
            flows.get(&key(n), 0).unwrap();
            flows.remove(&key(n)).unwrap();
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn two_thousand_frontends() {
    let options = isolated(65_536);
    let mut plane = DataPlane::open(&options).unwrap();
    measured("put, one after another", || {
        (0..FRONTENDS).for_each(|n| plane.put_program(frontend(n), &program(n, BACKENDS)).unwrap());
    });
    let programs = measured("read back", || plane.programs().unwrap());
    assert_eq!(programs.len(), FRONTENDS as usize);
    measured("put again, nothing changed", || {
        (0..FRONTENDS).for_each(|n| plane.put_program(frontend(n), &program(n, BACKENDS)).unwrap());
    });
    measured("one backend less in each", || {
        (0..FRONTENDS)
            .for_each(|n| plane.put_program(frontend(n), &program(n, BACKENDS - 1)).unwrap());
    });
    measured("sweep", || plane.sweep().unwrap());
    measured("snapshot", || plane.snapshot().unwrap());
    drop(plane);
    let mut plane = measured("adopt", || DataPlane::open(&options).unwrap());
    assert_eq!(plane.programs().unwrap().len(), FRONTENDS as usize);
    measured("remove, one after another", || {
        (0..FRONTENDS).for_each(|n| plane.remove_program(&frontend(n)).unwrap());
    });
}
