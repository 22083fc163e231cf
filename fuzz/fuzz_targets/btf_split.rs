//! Any bytes as BTF on top of any other: the first two bytes say where the base ends.

#![no_main]

#[path = "../../crates/btf/tests/support/exercise.rs"]
mod exercise;

use bpfsmith_btf::Btf;
use std::sync::Arc;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[low, high], rest)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let at = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (base, top) = rest.split_at(at);
    if let Ok(base) = Btf::parse(base) {
        exercise::split(&Arc::new(base), top);
    }
});
