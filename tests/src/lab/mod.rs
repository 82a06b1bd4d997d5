//! The lab: network namespaces with real routers, real backends and the real `sluice` binary.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use sluice_tests::lab::{Lab, Link};
//! let lab = Lab::new("doc")?;
//! let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
//! lab.link(&Link::new(&a, "eth0", &["10.9.0.1/24"]), &Link::new(&b, "eth0", &["10.9.0.2/24"]))?;
//! let refused = a.run(|| std::net::TcpStream::connect("10.9.0.2:80").is_err())?;
//! assert!(refused);
//! # Ok(()) }
//! ```
//!
//! Rules the lab keeps, so that a run leaves nothing behind:
//! - every namespace is named `slc-<pid>-<lab>-<role>` and every file lives under one temporary directory of that name;
//! - [`Lab`] cleans on drop, also while a test panics (declare it first, it is then dropped last);
//! - children die with this process (`PR_SET_PDEATHSIG`), and whatever a killed process left is removed when the next
//!   lab starts.

pub mod appliance;
pub mod backend;
pub mod certificates;
pub mod client;
pub mod forward;
pub mod http;
pub mod leak;
mod netns;
pub mod peers;
mod process;
mod root;
pub mod sctp;
pub mod sniff;
pub mod source;
pub mod topology;
pub mod traffic;
mod wait;
mod xdp_pass;

pub use netns::Netns;
pub use process::{Proc, run, run_with, tool};
pub use root::{Lab, Link};
pub use wait::{eventually, until};
