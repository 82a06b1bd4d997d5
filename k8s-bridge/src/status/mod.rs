//! What became of the wishes goes back into the objects.
//!
//! [`reports`] is what the appliances say, [`machine`] decides what is to be written next about one Service, [`patch`]
//! spells it, [`writer`] carries it out, [`say`] makes events and [`objects`] the statuses of pools and peers.
//!
//! An address that was given stays in the status while a later edit refuses its Service: the address is still the
//! Service's and comes back with the mended edit; the condition and the event say that nothing answers there meanwhile.

pub mod machine;
pub mod objects;
pub mod patch;
pub mod reports;
pub mod say;
pub mod writer;
