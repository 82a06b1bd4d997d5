//! Compiles the test programs; see `sluice-ebpf-build` for what that needs.

fn main() {
    #[cfg(feature = "bench")]
    sluice_ebpf_build::run("ebpf", &["pass", "bench"]);
}
