//! What a test needs of the kernel, and visible skips where it is missing.
