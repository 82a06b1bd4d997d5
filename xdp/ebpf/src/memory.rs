//! Loads and stores in a frame. The verifier proves each one inside the frame, or the program does not load.

/// Reads a `T` from a frame, wherever it lies.
///
/// # Safety
/// The caller compared `address + size_of::<T>()` with the frame's end. The verifier refuses the program otherwise.
#[inline(always)]
pub unsafe fn load<T: Copy>(address: usize) -> T {
    // SAFETY: in the frame, by the caller's check; unaligned reads are what `read_unaligned` is for.
    unsafe { core::ptr::read_unaligned(address as *const T) }
}

/// Writes a `T` into a frame, wherever it lies.
///
/// # Safety
/// As [`load`].
#[inline(always)]
pub unsafe fn store<T: Copy>(address: usize, value: T) {
    // SAFETY: in the frame, by the caller's check.
    unsafe { core::ptr::write_unaligned(address as *mut T, value) }
}
