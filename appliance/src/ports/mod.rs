//! The glue between the appliance's words and the adapters': `sluice_xdp`, `sluice_netlink`, `sluice_bgp`.
//!
//! Conversions and nothing else; decisions are made elsewhere.

mod addresses;
mod client_ways;
mod convert;
mod data_plane;
mod first_set;
mod next_hops;
mod routes;

pub(crate) use addresses::Addresses;
pub(crate) use client_ways::ClientWays;
pub(crate) use data_plane::DataPlane;
pub(crate) use next_hops::NextHops;
pub(crate) use routes::Routes;
