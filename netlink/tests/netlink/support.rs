//! Private namespaces and waiting for conditions.
//!
//! A namespace belongs to a thread that left the host's before it did anything else; no name is
//! needed and nothing is left behind. Its state is set up and read with `ip`, which shares no code
//! with the crate.

use futures_util::TryStreamExt as _;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::address::AddressAttribute;
use sluice_netlink::{Netlink, Resolution};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Whatever is waited for comes far sooner; only a failure takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// A second namespace, with the thread that lives in it.
pub(crate) struct Peer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    tid: i32,
}

/// Runs a test in a namespace of its own, on a runtime made inside it.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    in_namespace_sync(|| {
        runtime().block_on(async {
            tokio::time::timeout(3 * PATIENCE, test()).await.expect("the test takes too long");
        });
    });
}

pub(crate) fn in_namespace_sync(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        enter();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Moves the calling thread into a new namespace with `lo` up and quick IPv6.
fn enter() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make network namespaces: run them as root"
    );
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
    // IPv6 addresses are usable at once.
    sysctl("ipv6/conf/default/accept_dad", "0");
    ip("link set lo up");
}

pub(crate) fn sysctl(name: &str, value: &str) {
    // `self` would be the namespace of the main thread only for /proc/net; /proc/sys/net follows the
    // thread that opens it.
    let path = format!("/proc/sys/net/{name}");
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Runs `ip` in the calling thread's namespace and returns what it prints.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("run ip");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs many `ip` commands in one process.
pub(crate) fn ip_batch(commands: &str) {
    use std::io::Write as _;
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("run ip");
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ip -batch");
}

/// Adds a link that is up, has carrier (its other end is `far-…`) and no address of its own. Not every
/// kernel has the dummy driver.
pub(crate) fn add_link(name: &str) {
    ip(&format!("link add {name} type veth peer name far-{name}"));
    ip(&format!("link set far-{name} addrgenmode none up"));
    ip(&format!("link set {name} addrgenmode none up"));
}

/// Everything the kernel has on addresses of this namespace, asked without the crate's own code:
/// the mark (`IFA_PROTO`), which older `ip` commands do not show, and the rest of the message.
pub(crate) async fn kernel_addresses() -> BTreeMap<(u32, IpAddr, u8), (Option<u8>, String)> {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    let connection = tokio::spawn(connection);
    let messages: Vec<_> = handle.address().get().execute().try_collect().await.unwrap();
    connection.abort();
    let rows = messages.into_iter().map(|mut message| {
        let mut mark = None;
        let mut address = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Protocol(protocol) => mark = Some(u8::from(*protocol)),
                AddressAttribute::Address(ip) => address = Some(*ip),
                _ => {}
            }
        }
        // Ages differ from one look to the next.
        message.attributes.retain(|a| !matches!(a, AddressAttribute::CacheInfo(_)));
        let key = (message.header.index, address.unwrap(), message.header.prefix_len);
        (key, (mark, format!("{message:?}")))
    });
    rows.collect()
}

/// The MAC of a link of the calling thread's namespace.
pub(crate) fn mac_of(link: &str) -> [u8; 6] {
    let text = ip(&format!("-o link show dev {link}"));
    let mac = text.split("link/ether ").nth(1).unwrap().split_whitespace().next().unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| address(text)).collect()
}

/// Waits until what is watched is as wanted, and returns it.
pub(crate) async fn until<T: Clone + std::fmt::Debug>(
    receiver: &mut watch::Receiver<T>,
    what: &str,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let seen = tokio::time::timeout(PATIENCE, async {
        receiver.wait_for(|value| wanted(value)).await.expect("the task has ended").clone()
    });
    match seen.await {
        Ok(value) => value,
        Err(_) => panic!("not seen: {what}; last: {:?}", *receiver.borrow()),
    }
}

/// Polls what cannot be watched.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not seen: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for the resolution of one destination.
pub(crate) async fn resolution(
    netlink: &Netlink,
    destination: &str,
    wanted: impl Fn(&Resolution) -> bool,
) -> Resolution {
    let destination = address(destination);
    let mut resolutions: watch::Receiver<Arc<BTreeMap<IpAddr, Resolution>>> = netlink.resolutions();
    let all = until(&mut resolutions, &destination.to_string(), |all| {
        all.get(&destination).is_some_and(&wanted)
    })
    .await;
    all[&destination]
}

/// Waits until a destination resolves to this MAC.
pub(crate) async fn resolves_to(netlink: &Netlink, destination: &str, mac: [u8; 6]) -> Resolution {
    resolution(
        netlink,
        destination,
        |resolution| matches!(resolution, Resolution::Resolved(hop) if hop.destination_mac == mac),
    )
    .await
}

pub(crate) fn link_index(netlink: &Netlink, name: &str) -> u32 {
    let links = netlink.links();
    let links = links.borrow();
    links.values().find(|link| link.name == name).expect("the link").index
}

// === impl Peer ===

impl Peer {
    /// A namespace joined to the calling thread's by a veth pair `link` – `eth0`, both up.
    pub(crate) fn joined(link: &str) -> Self {
        let (jobs, receiver) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            enter();
            ready.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in receiver {
                job();
            }
        });
        let tid = started.recv().expect("the peer's namespace");
        let peer = Self { jobs: Some(jobs), thread: Some(thread), tid };
        let namespace = format!("/proc/self/task/{}/ns/net", peer.tid);
        let namespace = namespace.replace("self", &std::process::id().to_string());
        ip(&format!("link add {link} type veth peer name eth0 netns {namespace}"));
        // A neighbour that is not there fails in 0.3 s, not 3 s, and a stale one is asked at once.
        for family in ["ipv4", "ipv6"] {
            sysctl(&format!("{family}/neigh/{link}/retrans_time_ms"), "100");
            sysctl(&format!("{family}/neigh/{link}/delay_first_probe_time"), "0");
        }
        ip(&format!("link set {link} up"));
        peer.ip("link set eth0 up");
        peer
    }

    /// Runs something in the peer's namespace.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        let job = Box::new(move || drop(sender.send(job())));
        self.jobs.as_ref().unwrap().send(job).expect("the peer's thread");
        receiver.recv().expect("the peer's thread")
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        let arguments = arguments.to_owned();
        self.run(move || ip(&arguments))
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        self.run(|| mac_of("eth0"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // A panic of the peer's thread has already been reported by `run`.
        drop(self.thread.take().map(thread::JoinHandle::join));
    }
}
