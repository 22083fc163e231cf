//! Any bytes as requests, in several pieces.

#![no_main]

#[path = "../../crates/proxy/tests/support/http_exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::ask(bytes);
});
