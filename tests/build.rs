//! Compiles the test programs; see `sluice-ebpf-build` for what that needs.

fn main() {
    sluice_ebpf_build::run("ebpf", &["pass", "bench"]);
}
