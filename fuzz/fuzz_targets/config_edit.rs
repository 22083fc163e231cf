//! A configuration, `---`, and edits on lines: none of them makes it wrong or touches what it is not about.

#![no_main]

#[expect(dead_code, reason = "targets share the questions")]
#[path = "../../crates/config/tests/support/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|text: &str| {
    exercise::edit(text);
});
