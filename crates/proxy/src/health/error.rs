//! Why something about checks failed.

use super::watch::Target;
use bpfsmith_sys::Refused;
use bpfsmith_uapi::Errno;

/// Why something about checks failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There can be no checks.
    #[error("begin checks: {0}{hint}", hint = hint(.0))]
    Begin(Refused),
    /// The thread that checks ended by itself.
    #[error("checks have ended: {0}{hint}", hint = hint(.0))]
    Ended(Refused),
    /// The thread that checks is gone, as what it called to tell of changes has panicked.
    #[error("checks have ended: what is called for changes panicked (see `Checks::start`)")]
    Panicked,
    /// A target is not checked.
    #[error("{0}: not among the targets that are checked (see `Checks::set`)")]
    Stranger(Target),
}

bpfsmith_uapi::debug_as_display!(Error);

/// What to do about it.
pub(super) const HINTS: &[(Errno, &str)] = &[
    (Errno::EMFILE, "raise the limit of open files"),
    (Errno::ENFILE, "the system has too many open files"),
    (Errno::EAGAIN, "raise the limit of threads"),
    (Errno::ENOMEM, "the kernel lacks memory"),
    (Errno::ENOENT, "there is no /dev: mount one"),
];

fn hint(refused: &Refused) -> String {
    let row = HINTS.iter().find(|row| row.0 == refused.errno);
    row.map_or_else(String::new, |row| format!(" ({})", row.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        for &(errno, hint) in HINTS {
            let call = "some call";
            for error in [
                Error::Begin(Refused { call, errno }),
                Error::Ended(Refused { call, errno }),
            ] {
                let text = error.to_string();
                assert!(
                    text.contains(call) && text.ends_with(&format!("({hint})")),
                    "{text}"
                );
            }
        }
    }
}
