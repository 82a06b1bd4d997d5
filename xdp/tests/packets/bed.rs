//! The real program, loaded by the real loader, in namespaces that only the calling test sees.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::Xdp;
use aya::{TestRun as _, TestRunOptions};
use aya_obj::programs::XdpAttachType;
use nix::sched::{CloneFlags, unshare};
use sluice_xdp::{
    AttachPolicy, Backend, DataPlane, Frontend, NextHop, NoBackend, Options, Program, Protocol,
    Snapshot,
};
use sluice_xdp_abi::address::Address;
use sluice_xdp_abi::names;

use crate::wire::Packet;

/// Test runs receive from loopback.
pub const INGRESS: u32 = 1;
/// Any other link; a test run redirects only in name.
pub const OTHER_LINK: u32 = 77;

pub const VIP4: &str = "203.0.113.10";
pub const VIP6: &str = "2001:db8:113::10";
/// What IPv4 backends see of IPv6 clients.
pub const NAT64_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// Where `Control` has its limit of ICMP errors.
const ICMP_ERRORS_PER_TICK_WORD: usize =
    std::mem::offset_of!(sluice_xdp_abi::program::Control, icmp_errors_per_tick) / 4;

const MAX_PACKET_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Aborted,
    Drop,
    Pass,
    Tx,
    Redirect,
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Ran {
    pub verdict: Verdict,
    pub bytes: Vec<u8>,
}

/// A data plane without attachments; packets reach it through test runs.
pub struct Bed {
    pub plane: DataPlane,
    program: Xdp,
    options: Options,
    next_hops: BTreeMap<IpAddr, NextHop>,
}

/// Moves the calling test's thread into mount and network namespaces of its own, with an empty
/// directory that goes away with them. Whatever a test pins, attaches or mounts ends with its thread.
pub fn isolate() -> PathBuf {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .expect("these tests need root: they load BPF programs in namespaces of their own");
    sh("mount --make-rprivate /");
    sh("mount -t tmpfs sluice-test /mnt");
    sh("ip link set lo up");
    PathBuf::from("/mnt/pins")
}

/// Runs a command line that must succeed.
pub fn sh(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn end(text: &str) -> (IpAddr, u16) {
    let socket = socket(text);
    (socket.ip(), socket.port())
}

pub fn tcp(vip: &str, port: u16) -> Frontend {
    Frontend { vip: address(vip), port, protocol: Protocol::Tcp }
}

pub fn udp(vip: &str, port: u16) -> Frontend {
    Frontend { vip: address(vip), port, protocol: Protocol::Udp }
}

pub fn sctp(vip: &str, port: u16) -> Frontend {
    Frontend { vip: address(vip), port, protocol: Protocol::Sctp }
}

/// The next hop of a backend in these tests: MACs that name it, over the ingress link.
pub fn next_hop(backend: IpAddr) -> NextHop {
    let last = match backend {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    NextHop {
        link_index: INGRESS,
        source_mac: [2, 1, 0, 0, 0, last],
        destination_mac: [2, 2, 0, 0, 0, last],
    }
}

pub fn options(pin_dir: &Path) -> Options {
    Options {
        pin_dir: pin_dir.to_owned(),
        max_flows: Some(65536),
        attach: AttachPolicy::Native,
        nat64_source: Some(NAT64_SOURCE),
    }
}

pub fn program(backends: &[(&str, u16)]) -> Program {
    Program {
        backends: backends
            .iter()
            .map(|(backend, weight)| Backend { address: socket(backend), weight: *weight })
            .collect(),
        no_backend: NoBackend::Reject,
        idle_timeout: Duration::from_secs(300),
        source_ranges: Vec::new(),
        affinity: None,
        full_nat: Vec::new(),
        multihomed: false,
    }
}

// === impl Bed ===

impl Bed {
    /// An empty data plane that owns both VIPs.
    pub fn new() -> Self {
        let mut bed = Self::open(&options(&isolate()));
        bed.plane.add_vip(address(VIP4)).unwrap();
        bed.plane.add_vip(address(VIP6)).unwrap();
        bed
    }

    /// Opens, or adopts what is pinned. The thread is isolated already.
    pub fn open(options: &Options) -> Self {
        let plane = DataPlane::open(options).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let pin = options.pin_dir.join(names::PROGRAM);
        let program = Xdp::from_pin(pin, XdpAttachType::Interface).unwrap();
        Self { plane, program, options: options.clone(), next_hops: BTreeMap::new() }
    }

    /// Drops the loader, leaving everything pinned, and opens again.
    pub fn reopen(self) -> Self {
        let (options, next_hops) = (self.options.clone(), self.next_hops.clone());
        drop(self);
        Self { next_hops, ..Self::open(&options) }
    }

    /// Removes the data plane for good.
    pub fn remove(self) {
        drop(self.program);
        self.plane.remove().unwrap();
    }

    pub fn pin_dir(&self) -> &Path {
        &self.options.pin_dir
    }

    /// Programs a frontend, with a next hop for each backend.
    pub fn serve(&mut self, frontend: Frontend, program: &Program) {
        self.plane.put_program(frontend, program).unwrap();
        for backend in &program.backends {
            let ip = backend.address.ip();
            self.next_hops.entry(ip).or_insert_with(|| next_hop(ip));
        }
        self.plane.set_next_hops(&self.next_hops).unwrap();
    }

    /// Replaces one backend's next hop; `None` forgets it.
    pub fn set_next_hop(&mut self, backend: &str, next_hop: Option<NextHop>) {
        match next_hop {
            Some(next_hop) => self.next_hops.insert(address(backend), next_hop),
            None => self.next_hops.remove(&address(backend)),
        };
        self.plane.set_next_hops(&self.next_hops).unwrap();
    }

    /// Changes the words of the pinned `Control` behind the loader's back.
    pub fn change_control(&self, change: impl FnOnce(&mut [u32; 8])) {
        let map = MapData::from_pin(self.pin_dir().join(names::CONTROL)).unwrap();
        let mut control: Array<_, [u32; 8]> = Map::Array(map).try_into().unwrap();
        let mut words = control.get(&0, 0).unwrap();
        change(&mut words);
        control.set(0, words, 0).unwrap();
    }

    /// Has the program take the ingress link for one that it is attached to: loopback has no native mode.
    pub fn pretend_ingress_attached(&self) {
        let map = MapData::from_pin(self.pin_dir().join(names::LINKS)).unwrap();
        let mut links: HashMap<_, u32, u64> = Map::HashMap(map).try_into().unwrap();
        links.insert(INGRESS, 0, 0).unwrap();
    }

    /// How many prefixes the trie holds, whoever put them there.
    pub fn prefixes(&self) -> usize {
        let map = MapData::from_pin(self.pin_dir().join(names::PREFIXES)).unwrap();
        let trie: LpmTrie<_, [u32; 5], u32> = Map::LpmTrie(map).try_into().unwrap();
        trie.keys().count()
    }

    /// Makes every remembered client this much older.
    pub fn age_affinities(&self, by: Duration) {
        let map = MapData::from_pin(self.pin_dir().join(names::AFFINITIES)).unwrap();
        let mut affinities: HashMap<_, [u32; 5], [u64; 2]> =
            Map::LruHashMap(map).try_into().unwrap();
        let entries: Vec<_> = affinities.iter().map(Result::unwrap).collect();
        for (key, [last_new_flow_ns, backend]) in entries {
            // Wraps on a machine that was started since.
            let aged = [last_new_flow_ns.wrapping_sub(by.as_nanos() as u64), backend];
            affinities.insert(key, aged, 0).unwrap();
        }
    }

    /// Makes every flow idle for this much longer, and has the caches ask for it.
    pub fn age_flows(&mut self, by: Duration) {
        for table in [names::FLOWS, names::UNCONFIRMED] {
            let mut flows = self.flows(table);
            let entries: Vec<_> = flows.iter().map(Result::unwrap).collect();
            for (key, mut flow) in entries {
                // Wraps on a machine that was started since.
                flow[0] = flow[0].wrapping_sub(by.as_nanos() as u64);
                flows.insert(key, flow, 0).unwrap();
            }
        }
        self.plane.flush_cache().unwrap();
    }

    /// A pinned table of flows.
    pub fn flows(&self, table: &str) -> HashMap<MapData, [u32; 10], [u64; 7]> {
        let map = MapData::from_pin(self.pin_dir().join(table)).unwrap();
        Map::LruHashMap(map).try_into().unwrap()
    }

    /// The pinned source ports of full NAT and NAT64.
    fn ports(&self) -> HashMap<MapData, [u32; 10], [u32; 10]> {
        let map = MapData::from_pin(self.pin_dir().join(names::NATS)).unwrap();
        Map::HashMap(map).try_into().unwrap()
    }

    /// How many source ports are taken.
    pub fn claimed_ports(&self) -> usize {
        self.ports().keys().count()
    }

    /// Frees every source port, as a sweep does that takes all flows for dead.
    pub fn forget_ports(&self) {
        let mut ports = self.ports();
        let keys: Vec<_> = ports.keys().map(Result::unwrap).collect();
        keys.iter().for_each(|key| ports.remove(key).unwrap());
    }

    /// Takes every source port of a source (the VIP, or that of NAT64) towards a backend, for a client that does not exist.
    pub fn take_all_ports(&self, backend: (IpAddr, u16), source: IpAddr, protocol: u32) {
        let mut ports = self.ports();
        let words = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => Address::v4(v4.octets()).words,
            IpAddr::V6(v6) => Address::v6(v6.octets()).words,
        };
        for port in sluice_xdp_abi::limits::MIN_NAT_PORT..=u16::MAX {
            let both = u32::from(backend.1.to_be()) | u32::from(port.to_be()) << 16;
            let key = [&words(backend.0)[..], &words(source), &[both, protocol]].concat();
            ports.insert(<[u32; 10]>::try_from(key).unwrap(), [0; 10], 0).unwrap();
        }
    }

    pub fn send(&self, packet: &Packet) -> Ran {
        self.send_bytes(&packet.bytes())
    }

    pub fn send_bytes(&self, bytes: &[u8]) -> Ran {
        let mut out = vec![0; MAX_PACKET_BYTES];
        let run = TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut out),
            repeat: 1,
            ..TestRunOptions::default()
        };
        let result = self.program.test_run(run).unwrap();
        out.truncate(result.data_size_out as usize);
        let verdict = match result.return_value {
            0 => Verdict::Aborted,
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            3 => Verdict::Tx,
            4 => Verdict::Redirect,
            other => panic!("no XDP action: {other}"),
        };
        Ran { verdict, bytes: out }
    }

    pub fn snapshot(&self) -> Snapshot {
        self.plane.snapshot().unwrap()
    }

    /// Sends a packet that must be forwarded, and tells to which backend.
    pub fn backend_of(&self, packet: &Packet) -> SocketAddr {
        let ran = self.send(packet);
        assert_eq!(ran.verdict, Verdict::Tx, "not forwarded: {packet:?}");
        crate::wire::destination(&ran.bytes)
    }
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

// === tables ===

/// What a packet must become.
pub enum Want {
    /// Left to the kernel as it came.
    Pass,
    /// Dropped, counted under this reason alone.
    Drop(&'static str),
    /// Sent out of the link it came from, as this.
    Tx(Packet),
    /// Redirected to another link, as this.
    Redirect(Packet),
    /// Answered with this, and counted under this reason.
    Answer(&'static str, Packet),
}

/// One line of a table: what it shows, what is sent, what must come of it.
pub type Row = (&'static str, Packet, Want);

/// Sends each row's packet once and compares verdict, bytes and counters; reports all that differ.
pub fn check(bed: &Bed, rows: &[Row]) {
    // A table sends within one tick what a client sends in seconds.
    bed.change_control(|words| words[ICMP_ERRORS_PER_TICK_WORD] = u32::MAX);
    let failures: Vec<String> = rows
        .iter()
        .filter_map(|(what, packet, want)| {
            check_row(bed, packet, want).err().map(|why| format!("{what}: {why}"))
        })
        .collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

fn check_row(bed: &Bed, packet: &Packet, want: &Want) -> Result<(), String> {
    let before = bed.snapshot();
    let ran = bed.send(packet);
    let after = bed.snapshot();
    let sent = packet.bytes();
    let (verdict, bytes, reason) = match want {
        Want::Pass => (Verdict::Pass, sent.clone(), None),
        Want::Drop(reason) => (Verdict::Drop, sent.clone(), Some(*reason)),
        Want::Tx(packet) => (Verdict::Tx, packet.bytes(), None),
        Want::Redirect(packet) => (Verdict::Redirect, packet.bytes(), None),
        Want::Answer(reason, packet) => (Verdict::Tx, packet.bytes(), Some(*reason)),
    };
    if ran.verdict != verdict {
        let reasons = counted(&before, &after);
        return Err(format!("{:?} instead of {verdict:?}, counted {reasons:?}", ran.verdict));
    }
    if ran.bytes != bytes {
        return Err(difference(&ran.bytes, &bytes));
    }
    let reasons = counted(&before, &after);
    let wanted: Vec<_> = reason.into_iter().map(|reason| (reason, 1)).collect();
    if reasons != wanted {
        return Err(format!("counted {reasons:?} instead of {wanted:?}"));
    }
    let passed = after.passed.packets - before.passed.packets;
    if passed != u64::from(verdict == Verdict::Pass) {
        return Err(format!("{verdict:?} counted as {passed} passed"));
    }
    Ok(())
}

/// Reasons whose counts differ, and by how much.
pub fn counted(before: &Snapshot, after: &Snapshot) -> Vec<(&'static str, u64)> {
    let before: BTreeMap<_, _> = before.drops.iter().copied().collect();
    let grown = |(name, count): &(&'static str, u64)| {
        let by = count - before.get(name).copied().unwrap_or(0);
        (by > 0).then_some((*name, by))
    };
    after.drops.iter().filter_map(grown).collect()
}

fn difference(got: &[u8], want: &[u8]) -> String {
    let hex = |bytes: &[u8]| {
        let words: Vec<String> = bytes
            .chunks(2)
            .map(|pair| pair.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        words.join(" ")
    };
    let first = got.iter().zip(want).position(|(got, want)| got != want);
    let first = first.map_or_else(|| "the length".to_owned(), |offset| format!("offset {offset}"));
    format!("bytes differ from {first} on\n  got  {}\n  want {}", hex(got), hex(want))
}
