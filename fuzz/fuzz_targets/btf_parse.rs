//! Any bytes as BTF that stands alone, and on top of itself; every question about every type.

#![no_main]

#[path = "../../crates/btf/tests/support/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::alone(bytes);
});
