//! Any bytes as BTF and as a value: the first two bytes say where the value ends.

#![no_main]

#[path = "../../crates/btf/tests/support/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[low, high], rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let at = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (value, btf) = rest.split_at(at);
    exercise::print(btf, value);
});
