//! What the process must be allowed to do, asked before anything is touched.

use anyhow::{Context as _, bail};

/// Bits of `linux/capability.h`.
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// What mounting bpffs, binding port 179 and older kernels' XDP take, beyond what is checked here, fails with its own
/// words where it is needed.
pub(super) fn check() -> anyhow::Result<()> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("cannot read our own capabilities")?;
    let missing = missing(&status);
    if missing.is_empty() {
        return Ok(());
    }
    bail!("needs {}: run as root, or under the systemd unit", missing.join(", "))
}

/// Names of what is not in the effective set; everything when the set cannot be found.
fn missing(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    // CAP_SYS_ADMIN (21) includes what was later split off as CAP_BPF and CAP_PERFMON.
    let admin = effective & (1 << 21) != 0;
    let has = |bit: u32| effective & (1 << bit) != 0 || (admin && bit >= 38);
    NEEDED.into_iter().filter(|(_, bit)| !has(*bit)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn table() {
        let all = ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"];
        for (status, expected) in [
            ("CapEff:\t000001ffffffffff\n", &all[..0]),
            ("Name:\tx\nCapEff:\t0000000000000000\n", &all[..]),
            ("CapEff:\t000000c000001000\n", &all[..0]),
            ("CapEff:\t0000000000201000\n", &all[..0]),
            ("CapEff:\t0000000000001000\n", &all[1..]),
            ("nothing of the kind", &all[..]),
        ] {
            assert_eq!(missing(status), expected, "{status}");
        }
    }
}
