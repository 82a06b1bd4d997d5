//! Every byte shared between the kernel program and user space.
#![no_std]
