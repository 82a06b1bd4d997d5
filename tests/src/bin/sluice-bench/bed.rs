//! The kernel side of the bench: private namespaces, the bench programs, test runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use aya::maps::{Array, PerCpuArray, ProgramArray};
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, TestRun, TestRunAttrs, TestRunOptions};
use nix::sched::{CloneFlags, unshare};
use sluice_tests::bpf::BENCH_OBJECT;
use sluice_tests::bpf::shared::{FRAME_BYTES, Script, Seen};

use crate::measure::cpu_time;

/// Where the bench keeps pins and namespaces: on file systems only this process sees, so that
/// nothing stays behind however it ends.
const PRIVATE_DIR: &str = "/mnt";
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// Live frames are sent in batches of this size; 256 overflow the ring of a veth.
const BATCH: u32 = 64;

/// Enters mount and network namespaces of our own. Call before any thread is started.
pub(crate) fn isolate() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("unshare (the bench needs root)")?;
    run("mount --make-rprivate /")?;
    std::fs::create_dir_all(NETNS_DIR)?;
    for dir in [PRIVATE_DIR, NETNS_DIR] {
        run(&format!("mount -t tmpfs sluice-bench {dir}"))?;
    }
    run("ip link set lo up")
}

/// A directory for pins of a data plane.
pub(crate) fn pin_dir(name: &str) -> PathBuf {
    Path::new(PRIVATE_DIR).join(name)
}

/// Runs one command line, words split at spaces, and fails with what it said.
pub(crate) fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("empty command")?;
    let output = Command::new(program).args(words).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The loaded bench programs.
pub(crate) struct Bed {
    object: Ebpf,
}

// === impl Bed ===

impl Bed {
    pub(crate) fn load() -> anyhow::Result<Self> {
        let mut object = Ebpf::load_file(BENCH_OBJECT).context(BENCH_OBJECT)?;
        for (name, program) in object.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| name.to_owned())?;
        }
        Ok(Self { object })
    }

    pub(crate) fn program(&mut self, name: &str) -> anyhow::Result<&mut Xdp> {
        Ok(self.object.program_mut(name).with_context(|| name.to_owned())?.try_into()?)
    }

    /// Sets what is sent and expected, and starts counting flows at `first_flow`.
    pub(crate) fn set_script(&mut self, script: &Script, first_flow: u64) -> anyhow::Result<()> {
        let mut scripts: Array<_, Script> = self.map("SCRIPT")?.try_into()?;
        scripts.set(0, script, 0)?;
        let mut next: PerCpuArray<_, u64> = self.map("NEXT")?.try_into()?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        next.set(0, aya::maps::PerCpuValues::try_from(vec![first_flow; cpus])?, 0)?;
        Ok(())
    }

    /// Puts a program behind the wrapper.
    pub(crate) fn set_device(&mut self, device: &ProgramFd) -> anyhow::Result<()> {
        let mut devices: ProgramArray<_> = self.map("DEVICE")?.try_into()?;
        devices.set(0, device, 0).context("the device cannot be tail-called from the wrapper")
    }

    /// Puts `return XDP_TX` behind the wrapper.
    pub(crate) fn set_baseline(&mut self) -> anyhow::Result<()> {
        let fd = self.program("transmit")?.fd()?.try_clone()?;
        self.set_device(&fd)
    }

    /// Sum of what the sink saw, and zero it.
    pub(crate) fn take_seen(&mut self) -> anyhow::Result<Seen> {
        let mut seen: PerCpuArray<_, Seen> = self.map("SEEN")?.try_into()?;
        let values = seen.get(&0, 0)?;
        let total = values.iter().fold(Seen::default(), |sum, one| Seen {
            right: sum.right + one.right,
            wrong: sum.wrong + one.wrong,
        });
        let zeros = vec![Seen::default(); values.len()];
        seen.set(0, aya::maps::PerCpuValues::try_from(zeros)?, 0)?;
        Ok(total)
    }

    /// Runs the wrapper on `packets` frames; returns CPU time and the last verdict.
    pub(crate) fn run_wrapper(&mut self, packets: u32) -> anyhow::Result<(Duration, u32)> {
        let frame = [0u8; FRAME_BYTES];
        let options =
            TestRunOptions { data_in: Some(&frame), repeat: packets, ..Default::default() };
        let wrapper = self.program("wrapper")?;
        let before = cpu_time()?;
        let result = wrapper.test_run(options)?;
        Ok((cpu_time()?.saturating_sub(before), result.return_value))
    }

    /// Sends `packets` live frames of `frame_bytes`; returns CPU time.
    pub(crate) fn run_generator(
        &mut self,
        packets: u32,
        frame_bytes: usize,
    ) -> anyhow::Result<Duration> {
        let frame = vec![0u8; frame_bytes];
        let options = TestRunOptions {
            data_in: Some(&frame),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..Default::default()
        };
        let generator = self.program("generator")?;
        let before = cpu_time()?;
        generator.test_run(options)?;
        Ok(cpu_time()?.saturating_sub(before))
    }

    fn map(&mut self, name: &str) -> anyhow::Result<&mut aya::maps::Map> {
        self.object.map_mut(name).with_context(|| name.to_owned())
    }
}
