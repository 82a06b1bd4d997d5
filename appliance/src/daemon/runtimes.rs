//! Threads: what comes from outside in any number has its own, so that probes, netlink and the reconciler never wait behind
//! it. BGP's sessions have a thread of their own too; the `bgp` crate starts it.

use std::io;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Tasks that never yield hold one thread each. With fewer, one such task would hold up the timers and sockets of a machine
/// with one CPU; idle threads cost nothing.
const LEAST_WORKERS: usize = 4;
/// One for the listeners' bytes and handshakes, one more for an answer that takes long to make.
const API_WORKERS: usize = 2;
/// The runtime of the daemon's loop, probes and netlink.
pub(super) fn own() -> io::Result<Runtime> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    runtime("sluice", cpus.max(LEAST_WORKERS))
}

/// The runtime of both listeners of the API.
pub(super) fn api() -> io::Result<Runtime> {
    runtime("api", API_WORKERS)
}

fn runtime(name: &str, workers: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(workers).thread_name(name).enable_all().build()
}

/// A listener that was bound in one runtime, for the one that this runs in.
pub(super) fn moved(listener: TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener.into_std()?)
}
