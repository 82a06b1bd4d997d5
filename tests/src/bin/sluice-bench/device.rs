//! Sluice's data plane, opened and programmed for the bench.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use aya::maps::{Array, Map, MapData};
use sluice_xdp::{
    AttachPolicy, Backend, DataPlane, Frontend, NextHop, NoBackend, Options, Program, Protocol,
};
use sluice_xdp_abi::names;

const MAX_FLOWS: u32 = 1 << 20;

/// `Control` as words, and the one with the gate's limit.
type ControlWords = [u32; 8];
const NEW_FLOWS_PER_TICK_WORD: usize =
    std::mem::offset_of!(sluice_xdp_abi::program::Control, new_flows_per_tick) / 4;

/// An open data plane. Its pins are on a file system that ends with this process.
pub(crate) struct Device {
    plane: DataPlane,
    pin_dir: PathBuf,
}

// === impl Device ===

impl Device {
    pub(crate) fn open(pin_dir: &Path) -> anyhow::Result<Self> {
        let options = Options {
            pin_dir: pin_dir.to_owned(),
            max_flows: Some(MAX_FLOWS),
            attach: AttachPolicy::Native,
            nat64_source: None,
        };
        let plane = DataPlane::open(&options).context("opening the data plane")?;
        Ok(Self { plane, pin_dir: pin_dir.to_owned() })
    }

    /// Where the program is pinned.
    pub(crate) fn program_pin(&self) -> PathBuf {
        self.pin_dir.join(names::PROGRAM)
    }

    pub(crate) fn plane_mut(&mut self) -> &mut DataPlane {
        &mut self.plane
    }

    /// Serves TCP 80 and UDP 53 of `vip` by `backends`, on port 8080.
    pub(crate) fn serve(
        &mut self,
        vip: IpAddr,
        backends: &[IpAddr],
        next_hop: NextHop,
    ) -> anyhow::Result<()> {
        let with_port =
            |address: &IpAddr| Backend { address: SocketAddr::new(*address, 8080), weight: 1 };
        let program = Program {
            backends: backends.iter().map(with_port).collect(),
            no_backend: NoBackend::Reject,
            idle_timeout: Duration::from_secs(300),
            source_ranges: Vec::new(),
            affinity: None,
            full_nat: Vec::new(),
            multihomed: false,
        };
        self.plane.add_vip(vip)?;
        for (port, protocol) in [(80, Protocol::Tcp), (53, Protocol::Udp)] {
            self.plane.put_program(Frontend { vip, port, protocol }, &program)?;
        }
        let next_hops = backends.iter().map(|backend| (*backend, next_hop)).collect();
        Ok(self.plane.set_next_hops(&next_hops)?)
    }

    /// Sets how many new flows per CPU and tick may enter the flow table; returns what it was.
    pub(crate) fn set_gate(&self, new_flows_per_tick: u32) -> anyhow::Result<u32> {
        let map = MapData::from_pin(self.pin_dir.join(names::CONTROL))?;
        let mut control: Array<_, ControlWords> = Map::Array(map).try_into()?;
        let mut words = control.get(&0, 0)?;
        let before = words[NEW_FLOWS_PER_TICK_WORD];
        words[NEW_FLOWS_PER_TICK_WORD] = new_flows_per_tick;
        control.set(0, words, 0)?;
        Ok(before)
    }

    /// Every packet it has seen, whatever became of it.
    pub(crate) fn counted(&self) -> anyhow::Result<u64> {
        let snapshot = self.plane.snapshot()?;
        let balanced: u64 =
            snapshot.frontends.values().map(|counters| counters.to_backends.packets).sum();
        let dropped: u64 = snapshot.drops.iter().map(|(_, packets)| packets).sum();
        Ok(balanced + dropped + snapshot.passed.packets)
    }

    pub(crate) fn close(self) -> anyhow::Result<()> {
        Ok(self.plane.remove()?)
    }
}
