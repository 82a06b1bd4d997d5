//! The BPF programs of `tests/ebpf`, compiled by the build script.

#[path = "../ebpf/src/shared.rs"]
pub mod shared;

/// Path of the object whose only program passes every packet. Attach it to the lab's end of every
/// veth that receives frames sent by XDP: `ip link set dev DEV xdp obj PASS_OBJECT sec xdp`.
pub const PASS_OBJECT: &str = concat!(env!("OUT_DIR"), "/pass.o");

/// Path of the object with the bench programs (see its source): wrapper, generator, sink.
pub const BENCH_OBJECT: &str = concat!(env!("OUT_DIR"), "/bench.o");

#[expect(unsafe_code, reason = "aya takes map values that promise to be plain old data")]
mod pod {
    use super::shared::{Script, Seen};

    // SAFETY: C layout, integers only, no padding (sizes asserted beside them), any bits valid.
    unsafe impl aya::Pod for Script {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Seen {}
}
