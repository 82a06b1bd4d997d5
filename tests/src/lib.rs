//! Everything Sluice is tested with: the lab of network namespaces, real peers and real backends.
//!
//! Never shipped and never linked into what ships. The lab deliberately uses other tools than the product does (`ip`,
//! `vtysh`, plain sockets), so that a mistake in one of our adapters cannot hide itself.

#[cfg(feature = "bench")]
pub mod bpf;
#[cfg(feature = "browser")]
pub mod browser;
pub mod demo;
pub mod image;
pub mod kube;
pub mod lab;
