//! Any bytes as `.BTF.ext`; every record of it.

#![no_main]

#[path = "../../crates/btf/tests/support/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::ext(bytes);
});
