//! A record of the kernel's ring, and the name of a proxy behind it: an event that can be printed, or a refusal.

#![no_main]

#[path = "../../crates/proxy/tests/support/event_exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::ask(bytes);
});
