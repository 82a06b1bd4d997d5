//! `sluice-bridge`.

fn main() {}
