//! Any text as a configuration of clj-ebpf: what is imported can be written and read again.

#![no_main]

#[expect(dead_code, reason = "targets share the questions")]
#[path = "../../crates/config/tests/support/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|text: &str| {
    exercise::edn(text);
});
