//! Whether a test runs, and what is said if not.

use crate::{Need, State};
use std::io::Write;

/// Ends the test here, visibly, unless the machine has all that is listed.
///
/// ```
/// # use bpfsmith_gate::needs;
/// fn listens() {
///     needs!(Root, NetNs);
/// }
/// # listens();
/// ```
///
/// Under `BPFSMITH_STRICT=1` it panics instead, if nothing explains why the need is missing.
/// The test may return `()` or `Result<(), E>`.
#[macro_export]
macro_rules! needs {
    ($($need:ident),+ $(,)?) => {{
        fn here() {}
        if !$crate::allows($crate::function(&here), &[$($crate::Need::$need),+]) {
            return $crate::Skipped::skipped();
        }
    }};
}

/// What a test returns that does not run.
pub trait Skipped {
    /// The value that counts as passed.
    fn skipped() -> Self;
}

impl Skipped for () {
    fn skipped() {}
}

impl<E> Skipped for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// The path of the function around an item: what [`needs!`] calls the test.
///
/// The thread's name will not do, because a single test thread is called `main`.
pub fn function<T>(inner: &T) -> &'static str {
    let name = std::any::type_name_of_val(inner);
    let name = name.rsplit_once("::").map_or(name, |(outer, _)| outer);
    name.trim_end_matches("::{{closure}}")
}

/// True if the machine has all needs. If not, says so on the terminal, or fails the test if
/// `BPFSMITH_STRICT` is set and nothing explains it. Tests write [`needs!`].
///
/// # Panics
///
/// In strict mode, with what is missing and what to do about it.
#[track_caller]
pub fn allows(test: &str, needs: &[Need]) -> bool {
    let strict = std::env::var("BPFSMITH_STRICT").as_deref() == Ok("1");
    let missing = needs.iter().find_map(|need| match need.state() {
        State::Here => None,
        state => Some((*need, state)),
    });
    match missing {
        None => true,
        Some((need, State::Missing(why))) if strict => {
            panic!("{test} needs {need}: {why} ({})", need.hint());
        }
        Some((need, State::Explained(why) | State::Missing(why))) => {
            say(&line(test, need, &why));
            false
        }
        Some((_, State::Here)) => true,
    }
}

fn line(test: &str, need: Need, why: &str) -> String {
    format!("SKIP {test}: {need}: {why} ({})", need.hint())
}

/// libtest captures the print macros, not what is written to the stream itself.
fn say(line: &str) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_called_by_its_path() {
        fn here() {}
        assert_eq!(
            function(&here),
            "bpfsmith_gate::skip::tests::a_test_is_called_by_its_path"
        );
        let inside = || {
            fn here() {}
            function(&here)
        };
        assert_eq!(
            inside(),
            "bpfsmith_gate::skip::tests::a_test_is_called_by_its_path"
        );
    }

    #[test]
    fn a_line_names_test_need_reason_and_remedy() {
        let line = line("kernel::counts", Need::Root, "the effective user is 1000");
        assert_eq!(
            line,
            "SKIP kernel::counts: Root: the effective user is 1000 (run the tests as root)"
        );
    }

    #[test]
    fn a_result_can_be_skipped() {
        fn skipped() -> Result<(), String> {
            needs!(Nothing);
            Err("it ran".to_owned())
        }
        assert_eq!(skipped(), Ok(()));
    }
}
