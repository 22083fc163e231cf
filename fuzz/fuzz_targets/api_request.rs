//! Requests of the control API, and what they make of a configuration.

#![no_main]

#[path = "../../crates/proxy/tests/support/api_exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::ask(bytes);
});
