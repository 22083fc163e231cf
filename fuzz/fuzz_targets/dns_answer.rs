//! Any bytes as the reply to a question about the addresses of `web.example`, with the number that they begin with.

#![no_main]

#[path = "../../crates/proxy/tests/dns_rig/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    exercise::reply(bytes);
});
