//! The `sluice` appliance.
fn main() {}
