//! Examples and chapters, which are programs of their own, as modules of a test program.

use std::error::Error;

/// Takes an example or a chapter in as a module.
macro_rules! program {
    ($name:ident, $file:literal) => {
        #[allow(
            unreachable_pub,
            dead_code,
            reason = "a program of its own, of which a test may need a part"
        )]
        #[path = $file]
        mod $name;
    };
}

/// Fails with the error's own words.
#[allow(dead_code, reason = "some tests only look at what is built")]
#[track_caller]
pub(crate) fn works(result: Result<(), Box<dyn Error>>) {
    if let Err(error) = result {
        panic!("{error}");
    }
}
