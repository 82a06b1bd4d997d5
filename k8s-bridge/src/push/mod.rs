//! What the appliances should do goes out; what became of it comes back.
//!
//! [`wish`] is the one wanted state, on a `watch` channel. Each appliance has a task ([`task`]) with its own
//! [`machine`], so a slow or dead appliance delays no other.

pub mod client;
pub mod credentials;
pub mod machine;
pub mod task;
pub mod wish;
