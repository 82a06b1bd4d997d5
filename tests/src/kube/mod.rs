//! A real Kubernetes cluster behind the appliance, without containers: etcd, API server, controllers, scheduler,
//! kubelets and kube-proxies in the lab's namespaces; pods are processes (see `tests/kube`).
//!
//! ```text
//! client ── router (FRR) ── edge (appliance) ── switch ──┬── cp   10.1.0.2  API server :6443, name server :53
//!                                                        ├── n1   10.1.0.11 pods 10.244.1.0/24
//!                                                        └── n2   10.1.0.12 pods 10.244.2.0/24
//! ```
//!
//! The default route of nodes and pods leads through the appliance, so that backends see the client's own address. The
//! router has a less specific static route to the addresses that VIPs are taken from, as in [`crate::lab::topology`].
//!
//! Every process is a [`crate::lab::Proc`] in a namespace of the lab; what they mount, they mount in mount namespaces of
//! their own. Nothing outlives the lab.

pub mod api;
pub mod bridge;
pub mod cluster;
mod control;
mod network;
mod node;
pub mod pods;
mod programs;
pub mod services;
pub mod suite;

pub use api::Api;
pub use cluster::{Cluster, Options};
pub use programs::Programs;

/// Says something that the reader of a test run is to see although the test passes: what is printed is shown only when
/// it fails.
pub fn tell(line: &str) {
    use std::io::Write as _;
    // Nobody reads, nobody misses it.
    drop(writeln!(std::io::stdout(), "  {line}"));
}
