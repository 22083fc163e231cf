//! What a benchmark is asked for: words behind `--`, and numbers in the environment.

use std::env;
use std::str::FromStr;

/// The words that follow `cargo bench --bench NAME --`.
#[must_use]
pub fn words() -> Vec<String> {
    // Cargo itself passes --bench.
    env::args().skip(1).filter(|it| it != "--bench").collect()
}

/// A number that the environment may have, and what it is otherwise.
///
/// # Panics
/// When the environment has something else.
#[must_use]
pub fn number<T: FromStr>(name: &str, usual: T) -> T {
    env::var(name).map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number"))
    })
}
